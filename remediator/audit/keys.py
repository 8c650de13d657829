"""Key files for signing checkpoints.

A private key is one line in a file that only its owner may read. A file of public keys has one key per line, so that
old checkpoints still verify after a key change. The format is that of Go's ``sumdb/note``.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from remediator.audit.signed_note import Signer, Verifier
from remediator.errors import ConfigurationError


def create(path: Path, name: str) -> Signer:
    """Create a key and write its public key to ``<path>.pub``. An existing key is kept and returned.

    Two processes that start at the same time get the same key. A crash leaves a complete key or none.

    Raises:
        ConfigurationError: the file cannot be written, or is not a key.
    """
    try:
        if not path.exists():
            _create_file(path, Signer.generate(name).encode(), 0o600)
        signer = load_signer(path)
        public = path.with_name(path.name + ".pub")
        if not public.exists():
            _create_file(public, signer.verifier.encode(), 0o644)
    except OSError as error:
        raise ConfigurationError(f"cannot create the signing key '{path}': {error.strerror}") from error
    return signer


def load_signer(path: Path) -> Signer:
    """Read a private key.

    Raises:
        ConfigurationError: the file is missing, readable by other users, or not a key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read the signing key '{path}': {error}") from error
    if mode & 0o077:
        raise ConfigurationError(
            f"other users can read the signing key '{path}' (mode {mode:04o}); run 'chmod 600 {path}'"
        )
    return Signer.decode(text)


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


def _create_file(path: Path, line: str, mode: int) -> None:
    """Create a file atomically with its content, unless it exists."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    fsync_directory(path.parent)


def fsync_directory(folder: Path) -> None:
    """Make the file names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
