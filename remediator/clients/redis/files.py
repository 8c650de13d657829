"""Check the snapshots of Redis or Valkey on this host with their own tools."""

from __future__ import annotations

import re
from pathlib import Path

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.errors import TargetError, TimedOut, Unreachable

_NEWER = re.compile(r"Can't handle RDB format version ([1-9]\d{0,3})")  # 0: not a number, so not RDB


async def rdb_problem(path: Path, seconds: float = 60.0) -> str | None:
    """Return what is wrong with a snapshot, or None if it is intact.

    Raises:
        TargetError: the tool is missing, older than the Redis that wrote the file, or takes too long.
    """
    program = tool("redis-check-rdb") or tool("valkey-check-rdb")
    if program is None:
        raise TargetError(f"cannot check {path.name}: neither redis-check-rdb nor valkey-check-rdb is installed")
    try:
        ended = await process.run((program, str(path)), seconds=seconds)
    except (TimedOut, Unreachable) as error:
        raise TargetError(f"cannot check {path.name}: {error}") from None
    if ended.status == 0:
        return None
    if (newer := _NEWER.search(ended.output)) is not None:
        raise TargetError(
            f"cannot check {path.name}: it has RDB version {newer[1]}, which {program} does not know; "
            "install the tools of the Redis that wrote it"
        )
    return ended.output.strip().rpartition("\n")[2][-300:]
