"""The append-only file fills the disk of Redis, because one key is written again and again."""

from __future__ import annotations

import os

from demo.faults import disk_backups
from demo.probe import Probe
from demo.stack import volume

NAME = "Disk full: append-only file"
ALERT = "RedisDiskFull"
TELLS = "one key is overwritten until the append-only file has nearly filled the disk of Redis"
STARTED_ONCE: str | None = None
_KEY = "demo:counter"
_MOST = 1000


def inject(probe: Probe) -> None:
    """Write 256 KiB each time. Redis starts its own rewrite at 64 MiB, which is more than the disk has."""
    for backup in (volume.folder(probe.settings) / "backups").glob("*.rdb"):
        backup.unlink()  # removes backups of the previous fault, which must not be the cause here
    with probe.redis() as client:
        for _ in range(_MOST):
            if disk_backups.percent(probe) >= disk_backups.FULL:
                break
            client.set(_KEY, os.urandom(volume.MEBIBYTE // 4))
        client.delete(_KEY)


def healed(probe: Probe) -> str | None:
    """Return proof: free space, and Redis accepts writes."""
    percent = disk_backups.percent(probe)
    if percent > disk_backups.WELL or probe.redis_serves() is None:
        return None
    size = sum(file.stat().st_size for file in (volume.folder(probe.settings) / "appendonlydir").glob("*.aof"))
    return f"disk {percent:.0f} % full, append-only file {size / volume.MEBIBYTE:.1f} MiB, writes answered"


needs = disk_backups.needs
