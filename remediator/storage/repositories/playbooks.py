"""Versions of playbooks. A run uses the version that it started with."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, insert, select

from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.schema import playbook_versions as table


def add_versions(tx: Tx, playbooks: Collection[Playbook]) -> None:
    """Store the versions that are not stored yet."""
    hashes = [playbook.content_hash for playbook in playbooks]
    have = set(tx.connection.execute(select(table.c.hash).where(table.c.hash.in_(hashes))).scalars())
    rows = [
        {
            "hash": playbook.content_hash,
            "name": playbook.name,
            "content": playbook.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "first_loaded_at": tx.now,
        }
        for playbook in playbooks
        if playbook.content_hash not in have
    ]
    if rows:
        tx.connection.execute(insert(table), rows)


def list_names(connection: Connection) -> set[str]:
    """Return the names of all playbooks that have a stored version."""
    return set(connection.execute(select(table.c.name).distinct()).scalars())


def get_content(connection: Connection, content_hash: str) -> Any | None:
    """Return the content of a version; None if it is not stored."""
    return connection.execute(select(table.c.content).where(table.c.hash == content_hash)).scalar()
