"""The signing keys of an installation: of links and forms, and of checkpoints. All replicas need the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from remediator.audit import Signer
from remediator.audit import keys as audit_keys
from remediator.config import Config
from remediator.core.local_files import own_file
from remediator.core.tokens import Keyring, create_keyring, load_keyring
from remediator.errors import ConfigurationError, StoreUnavailable
from remediator.storage import Tx
from remediator.storage.repositories import key_values, replicas

_NAMES = "signing_keys"
"""Name of the stored value that has the public names of the keys of the replica that started last."""


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys that this replica uses."""

    links: Keyring
    audit: Signer

    @property
    def names(self) -> dict[str, Any]:
        """Return the public names of the keys. They reveal nothing about the keys."""
        return {"links": self.links.names, "audit": self.audit.verifier.key_id.hex()}


def links_key_file(config: Config) -> Path:
    """Return the file with the keys of links, forms and sessions."""
    return config.approvals.keys_file or own_file(config.state, "links.key")


def audit_key_file(config: Config) -> Path:
    """Return the file with the key of checkpoints."""
    return config.audit.key_file or own_file(config.state, "audit.key")


def create_signing_keys(config: Config) -> list[Path]:
    """Create the key files that do not exist; return their paths.

    Raises:
        ConfigurationError: a file cannot be written, or an existing file is not a key.
    """
    missing = [path for path in (links_key_file(config), audit_key_file(config)) if not path.exists()]
    if links_key_file(config) in missing:
        create_keyring(links_key_file(config))
    audit_keys.create(audit_key_file(config), config.audit_origin)
    return missing


def load_signing_keys(config: Config) -> SigningKeys:
    """Read the keys. With SQLite, create missing ones; with PostgreSQL, each replica would create its own.

    Raises:
        ConfigurationError: a file cannot be used, or the store is PostgreSQL and the settings do not name the files.
    """
    if config.store == "sqlite":
        create_signing_keys(config)
    else:
        files = {"approvals.keys_file": config.approvals.keys_file, "audit.key_file": config.audit.key_file}
        for setting, path in files.items():
            if path is None:
                raise ConfigurationError(
                    f"{setting}: required with PostgreSQL, because all replicas must sign with the same keys; for "
                    f"example {setting}: /run/secrets/remediator/{'links' if 'keys' in setting else 'audit'}-key"
                )
            if not path.exists():
                raise ConfigurationError(
                    f"{setting}: '{path}' does not exist; run 'remediator keys create' on one machine, and give all "
                    "replicas the same file"
                )
    return SigningKeys(
        load_keyring(links_key_file(config)), audit_keys.load_signer(audit_key_file(config), config.audit_origin)
    )


def require_same_keys(tx: Tx, replica: str, keys: SigningKeys, timeout: timedelta) -> None:
    """Refuse to start beside a replica with other keys: each replica would reject the links and sessions of the other.

    For a change of keys, a replica may verify more keys than another replica. Each replica must know the signing key of
    the other.

    Args:
        timeout: a replica without a heartbeat for this long has stopped.

    Raises:
        StoreUnavailable: the keys differ from those of a running replica.
    """
    stored = key_values.get(tx.connection, _NAMES)
    others = [each.id for each in replicas.list_alive(tx.connection, tx.now - timeout) if each.id != replica]
    if stored is not None and others:
        mine, theirs = keys.names, stored.value
        if mine["links"][0] not in theirs["links"] or theirs["links"][0] not in mine["links"]:
            raise StoreUnavailable(_difference("approvals.keys_file", others))
        if mine["audit"] != theirs["audit"]:
            raise StoreUnavailable(_difference("audit.key_file", others))
    key_values.set(tx, _NAMES, keys.names)


def _difference(setting: str, others: list[str]) -> str:
    return (
        f"{setting}: the key differs from the key of {', '.join(sorted(others))}; give all replicas the same file. To "
        "change the key, see 'Change the signing keys' in docs/operations.md"
    )
