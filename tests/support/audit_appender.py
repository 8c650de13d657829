"""A process, to be killed, that appends to the audit log, signs checkpoints, and prints acknowledged entries.

``python -m tests.support.audit_appender URL FOLDER NAME COUNT [together]`` prints the text of each acknowledged entry.
With ``together``, it prints ``open`` first, and begins when it reads a line.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import sqlalchemy
import structlog

from remediator.audit import Draft, Kind, keys
from remediator.core.clock import SystemClock
from remediator.extensions.witnesses.file import FileWitness
from remediator.runtime.checkpointing import CheckpointSettings, create_checkpoint
from remediator.storage import Store
from remediator.storage.postgres import PostgresStore
from remediator.storage.repositories import audit
from remediator.storage.sqlite import SqliteStore
from tests.storage.test_retention import context_on

ORIGIN = "remediator/test"
SIGN = 5
"""Number of entries between two checkpoints."""


def opened(url: str) -> Store:
    """Open the store at a URL of SQLAlchemy."""
    at = sqlalchemy.make_url(url)
    if at.drivername.startswith("sqlite"):
        return SqliteStore(Path(str(at.database)), SystemClock())
    return PostgresStore(at.set(drivername="postgresql+psycopg"))


def signing(folder: Path, name: str) -> CheckpointSettings:
    """Return settings with one key for all processes and a notary for this one."""
    signer = keys.create(folder / "audit.key", ORIGIN)
    return CheckpointSettings(
        ORIGIN, signer, {"file": FileWitness(folder / f"checkpoints.{name}")}, SIGN, timedelta(minutes=1)
    )


async def append(store: Store, text: str) -> None:
    """Append one entry, and return when it is acknowledged."""
    draft = Draft(kind=Kind.OPERATOR_COMMAND, actor="user:ann", data={"text": text})
    await store.write(lambda tx: tx.append_audit(draft))


async def append_all(url: str, folder: Path, name: str, count: int, together: str = "") -> None:
    """Append this number of entries, with a checkpoint after every few."""
    store, settings = opened(url), signing(folder, name)
    if together:
        print("open", flush=True)
        sys.stdin.readline()
    for number in range(1, count + 1):
        text = f"{name}-{os.getpid()}-{number}"
        await append(store, text)
        print(text, flush=True)
        if number % SIGN == 0:
            await create_checkpoint(context_on(store), settings, await store.read(audit.get_head))
    await store.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output has only entries
    asyncio.run(append_all(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *sys.argv[5:]))
