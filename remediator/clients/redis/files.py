"""Redis' files on this host: whether they are whole, as Redis' own tools judge."""

from __future__ import annotations

from pathlib import Path

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.errors import TargetError, TimedOut, Unreachable


async def rdb_flaw(path: Path, seconds: float = 60.0) -> str | None:
    """What is wrong with a snapshot, or None if it is whole.

    Raises:
        TargetError: it cannot be told: the tool is missing or takes too long.
    """
    return await _flaw("redis-check-rdb", path, seconds)


async def aof_flaw(path: Path, seconds: float = 60.0) -> str | None:
    """What is wrong with an append-only file (its manifest, since Redis 7), or None if it is whole.

    Raises:
        TargetError: it cannot be told: the tool is missing or takes too long.
    """
    return await _flaw("redis-check-aof", path, seconds)


async def _flaw(name: str, path: Path, seconds: float) -> str | None:
    program = tool(name)
    if program is None:
        raise TargetError(f"{name} is not installed, so whether {path.name} is whole cannot be told")
    try:
        ended = await process.run((program, str(path)), seconds=seconds)
    except (TimedOut, Unreachable) as error:
        raise TargetError(f"whether {path.name} is whole cannot be told: {error}") from None
    return None if ended.status == 0 else ended.output.strip().rpartition("\n")[2][-300:]
