"""Notes of people about runs: comments, and that a person takes care of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, insert, select

from remediator.storage import Tx
from remediator.storage.schema import comments as table


class CommentKind(StrEnum):
    """The kind of a comment."""

    COMMENT = "comment"
    ACKNOWLEDGEMENT = "acknowledgement"
    """The person takes care of the run."""


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment about a run."""

    id: str
    run_id: str
    kind: CommentKind
    person: str
    at: datetime
    text: str
    """May be empty for an acknowledgement."""


def add(tx: Tx, comment: Comment) -> None:
    """Store a comment."""
    values = {name: getattr(comment, name) for name in Comment.__dataclass_fields__}
    tx.connection.execute(insert(table).values({**values, "kind": comment.kind.value}))


def list_for_run(connection: Connection, run_id: str) -> list[Comment]:
    """Return the comments about a run, oldest first."""
    rows = connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.at, table.c.id))
    return [Comment(**{**row._asdict(), "kind": CommentKind(row.kind)}) for row in rows]


def acknowledged_by(connection: Connection, run_id: str) -> str | None:
    """Return the last person who acknowledged a run; None without an acknowledgement."""
    said = (table.c.run_id == run_id, table.c.kind == CommentKind.ACKNOWLEDGEMENT.value)
    last = select(table.c.person).where(*said).order_by(table.c.at.desc(), table.c.id.desc()).limit(1)
    return connection.execute(last).scalar()
