"""Key files for signing checkpoints."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from remediator.audit import BadNote, Signer
from remediator.audit import keys as audit_keys
from remediator.errors import ConfigurationError


def test_only_the_owner_can_read_a_new_key(tmp_path: Path) -> None:
    """The private key has mode 0600 with every umask. All users can read the public key."""
    before = os.umask(0)
    try:
        signer = audit_keys.create(tmp_path / "audit.key", "remediator.example/log")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "audit.key").stat().st_mode) == 0o600
    assert audit_keys.load_signer(tmp_path / "audit.key", "a.example").encode() == signer.encode()
    assert audit_keys.load_verifiers(tmp_path / "audit.key.pub")[0].encode() == signer.verifier.encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.key", "audit.key.pub"]


def test_existing_key_is_kept(tmp_path: Path) -> None:
    """A second start keeps the key and restores a lost public key file."""
    first = audit_keys.create(tmp_path / "audit.key", "a.example")
    (tmp_path / "audit.key.pub").unlink()

    assert audit_keys.create(tmp_path / "audit.key", "b.example").encode() == first.encode()
    assert (tmp_path / "audit.key.pub").exists()


def test_replicas_that_start_together_have_one_key(tmp_path: Path) -> None:
    """Many processes that start at once end up with one key."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: audit_keys.create(tmp_path / "audit.key", "a.example").encode(), range(16)))

    assert len(set(made)) == 1


@pytest.mark.promise(11)
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_key_that_other_users_can_access_is_refused(tmp_path: Path, mode: int) -> None:
    """A private key that the group or others can read or write is refused."""
    audit_keys.create(tmp_path / "audit.key", "a.example")
    (tmp_path / "audit.key").chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        audit_keys.load_signer(tmp_path / "audit.key", "a.example")


def test_a_key_of_plain_digits_has_the_name_of_the_log(tmp_path: Path) -> None:
    """A file of 64 hexadecimal digits is a key. An error about any other file does not show its text."""
    (tmp_path / "audit.key").write_text("0f" * 32 + "\n")
    (tmp_path / "audit.key").chmod(0o600)
    signer = audit_keys.load_signer(tmp_path / "audit.key", "a.example")
    assert signer.name == "a.example" and signer.private.private_bytes_raw() == b"\x0f" * 32
    (tmp_path / "audit.key").write_text("0f" * 31)
    with pytest.raises(BadNote, match="not a private key"):
        audit_keys.load_signer(tmp_path / "audit.key", "a.example")


def test_unusable_file_is_reported(tmp_path: Path) -> None:
    """A missing folder, a missing file, or a file without a key is an error."""
    with pytest.raises(ConfigurationError):
        audit_keys.create(tmp_path / "missing" / "audit.key", "a.example")
    with pytest.raises(ConfigurationError):
        audit_keys.load_signer(tmp_path / "audit.key", "a.example")
    with pytest.raises(ConfigurationError):
        audit_keys.load_verifiers(tmp_path / "audit.key.pub")
    (tmp_path / "empty").write_text("# only a comment\n\n")
    with pytest.raises(ConfigurationError, match="no public key"):
        audit_keys.load_verifiers(tmp_path / "empty")
    (tmp_path / "broken").write_text("not a key\n")
    with pytest.raises(BadNote):
        audit_keys.load_verifiers(tmp_path / "broken")


def test_old_keys_stay_known(tmp_path: Path) -> None:
    """A file of public keys may contain several keys."""
    keys = [Signer.generate("a.example").verifier.encode() for _ in range(3)]
    (tmp_path / "keys").write_text("# since 2024\n" + "\n\n".join(keys) + "\n")

    assert [key.encode() for key in audit_keys.load_verifiers(tmp_path / "keys")] == keys
