"""Key files for signing checkpoints.

A private key is one line in a file that only its owner may read. A file of public keys has one key per line, so that
old checkpoints still verify after a key change. The format is that of Go's ``sumdb/note``.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from remediator.audit.signed_note import Signer, Verifier
from remediator.core.key_files import create_key_file, read_key_file
from remediator.errors import ConfigurationError

_SEED = re.compile(r"[0-9a-fA-F]{64}")


def create(path: Path, name: str) -> Signer:
    """Create a key and write its public key to ``<path>.pub``. An existing key is kept and returned.

    Two processes that start at the same time get the same key. A crash leaves either a complete key or no key.

    Raises:
        ConfigurationError: the file cannot be written, or is not a key.
    """
    try:
        if not path.exists():
            create_key_file(path, Signer.generate(name).encode())
    except OSError as error:
        raise ConfigurationError(f"cannot create the signing key '{path}': {error.strerror}") from error
    signer = load_signer(path, name)
    public = path.with_name(path.name + ".pub")
    with suppress(OSError):  # a mounted Secret cannot be written; 'remediator keys show' prints the public key
        if not public.exists():
            create_key_file(public, signer.verifier.encode(), 0o644)
    return signer


def load_signer(path: Path, name: str) -> Signer:
    """Read a private key: a line ``PRIVATE+KEY+…``, or 32 random bytes as 64 hexadecimal digits.

    Args:
        name: name of the key, for a file that contains only digits.

    Raises:
        ConfigurationError: the file is missing or readable by other users.
        BadNote: the file is not a key.
    """
    text = read_key_file(path).strip()
    return Signer.from_seed(name, bytes.fromhex(text)) if _SEED.fullmatch(text) else Signer.decode(text)


def load_verifiers(path: Path) -> list[Verifier]:
    """Read all public keys in a file. Empty lines and lines that begin with ``#`` are ignored.

    Raises:
        ConfigurationError: the file is missing, or contains no key.
        BadNote: a line is not a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the public keys in '{path}': {error}") from error
    keys = [Verifier.decode(line) for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ConfigurationError(f"'{path}' contains no public key; expected lines like NAME+ID+KEY")
    return keys
