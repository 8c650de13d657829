"""Check the snapshots of Redis or Valkey on this host with their own tools."""

from __future__ import annotations

import re
from pathlib import Path

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.errors import TargetError, TimedOut, Unreachable

_CHECK_TIMEOUT = 60.0
# Redis reports version 0 for a file without a version number, which is not an RDB file
NEWER_RDB = re.compile(r"Can't handle RDB format version ([1-9]\d{0,3})")


async def rdb_problem(path: Path) -> str | None:
    """Return the problem of a snapshot, or None if it is intact.

    Raises:
        TargetError: the tool is missing, older than the Redis that wrote the file, or takes too long.
    """
    program = rdb_checker(path.name)
    try:
        ended = await process.run((program, str(path)), seconds=_CHECK_TIMEOUT)
    except (TimedOut, Unreachable) as error:
        raise TargetError(f"cannot check {path.name}: {error}") from None
    return rdb_finding(path.name, program, ended.status, ended.output)


def rdb_checker(name: str) -> str:
    """Return the path of the tool that checks snapshots.

    Raises:
        TargetError: it is not installed.
    """
    program = tool("redis-check-rdb") or tool("valkey-check-rdb")
    if program is None:
        raise TargetError(f"cannot check {name}: neither redis-check-rdb nor valkey-check-rdb is installed")
    return program


def rdb_finding(name: str, program: str, status: int, output: str) -> str | None:
    """Return the problem that the tool found in a snapshot, or None if it is intact.

    Raises:
        TargetError: the tool is older than the Redis that wrote the file.
    """
    if status == 0:
        return None
    newer = NEWER_RDB.search(output)
    if newer is not None:
        raise TargetError(
            f"cannot check {name}: it has RDB version {newer.group(1)}, which {program} does not know; "
            "install the tools of the Redis that wrote it"
        )
    return output.strip().rpartition("\n")[2][-300:]
