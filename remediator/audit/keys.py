"""Files that hold the keys which sign checkpoints.

A private key is one line in a file that only its owner may read; a file of public keys has one on each line, so that
after a change of keys old checkpoints still verify. Both are as Go's ``sumdb/note`` writes them.
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
    """Make a key, with its public half beside it in ``<path>.pub``; one that is there already is kept and returned.

    Two processes that start at once end up with the same key, and a crash leaves either a whole key or none.

    Raises:
        ConfigurationError: the place cannot be written, or holds something else.
    """
    try:
        if not path.exists():
            _place(path, Signer.generate(name).encode(), 0o600)
        signer = load_signer(path)
        public = path.with_name(path.name + ".pub")
        if not public.exists():
            _place(public, signer.verifier.encode(), 0o644)
    except OSError as error:
        raise ConfigurationError(f"the signing key {path} cannot be made: {error.strerror}") from error
    return signer


def load_signer(path: Path) -> Signer:
    """The private key in a file.

    Raises:
        ConfigurationError: not there, readable by others, or not a key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the signing key {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigurationError(f"the signing key {path} can be read by others (mode {mode:04o}); chmod 600 it")
    return Signer.decode(text)


def load_verifiers(path: Path) -> list[Verifier]:
    """All public keys in a file; empty lines and lines that begin with ``#`` do not count.

    Raises:
        ConfigurationError: not there, or without a key.
        BadNote: a line is not a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the keys in {path} cannot be read: {error}") from error
    keys = [Verifier.decode(line) for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ConfigurationError(f"{path} holds no public key")
    return keys


def _place(path: Path, line: str, mode: int) -> None:
    """Let a file appear with all of its content, unless one is there."""
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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
