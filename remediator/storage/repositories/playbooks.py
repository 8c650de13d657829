"""Versions of playbooks. A run uses the version that it started with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from remediator.playbooks.model import Playbook
from remediator.storage import Tx
from remediator.storage.prepared import Prepared
from remediator.storage.schema import playbook_versions as table


@dataclass(frozen=True, slots=True)
class PlaybookVersion:
    """One stored version of a playbook."""

    hash: str
    content: Any
    first_loaded_at: datetime


def list_versions(connection: Connection, name: str, limit: int) -> list[PlaybookVersion]:
    """Return the stored versions of a playbook, the newest first."""
    columns = (table.c.hash, table.c.content, table.c.first_loaded_at)
    rows = connection.execute(
        select(*columns).where(table.c.name == name).order_by(table.c.first_loaded_at.desc(), table.c.hash).limit(limit)
    )
    return [PlaybookVersion(*row) for row in rows]


def add_versions(tx: Tx, playbooks: Collection[Playbook]) -> None:
    """Store the versions that are not stored yet."""
    hashes = [playbook.content_hash for playbook in playbooks]
    have = set(tx.connection.execute(_STORED, {"hashes": hashes}).scalars())
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
        tx.connection.execute(_INSERT, rows)


_STORED = Prepared(select(table.c.hash).where(table.c.hash.in_(bindparam("hashes", expanding=True))))
_INSERT = Prepared(insert(table))


def list_names(connection: Connection) -> set[str]:
    """Return the names of all playbooks that have a stored version."""
    return set(connection.execute(select(table.c.name).distinct()).scalars())


def get_content(connection: Connection, content_hash: str) -> Any | None:
    """Return the content of a version; None if it is not stored."""
    return connection.execute(_CONTENT, {"hash": content_hash}).scalar()


_CONTENT = Prepared(select(table.c.content).where(table.c.hash == bindparam("hash")))
