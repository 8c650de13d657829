"""Old backups fill the disk of Redis: nightly copies that are never deleted."""

from __future__ import annotations

import os
import shutil
import time

from demo.probe import Probe
from demo.stack import volume

NAME = "Disk full: old backups"
ALERT = "RedisDiskFull"
TELLS = "backups of Redis are copied to its data disk until it is nearly full"
STARTED_ONCE: str | None = None
FULL, WELL = 92.0, 80.0
"""Percent of the disk after the fault, and limit of a healthy disk."""
_BALLAST = "demo:ballast"
_MOST = 50


def inject(probe: Probe) -> None:
    """Copy real snapshots, each a day older than the last. The newest is from last night."""
    with probe.redis() as client:
        client.set(_BALLAST, os.urandom(4 * volume.MEBIBYTE))
        client.save()
    folder = volume.folder(probe.settings)
    for age in range(1, _MOST):
        if percent(probe) >= FULL:
            break
        name = folder / "backups" / f"dump-{_MOST - age:02}.rdb"
        shutil.copyfile(folder / "dump.rdb", name)
        os.utime(name, (time.time() - 86_400 * age,) * 2)
    with probe.redis() as client:
        client.delete(_BALLAST)


def healed(probe: Probe) -> str | None:
    """Return proof: free space, backups left, and Redis accepts writes."""
    left = len(list((volume.folder(probe.settings) / "backups").glob("*.rdb")))
    if percent(probe) > WELL or left < 2 or probe.redis_serves() is None:
        return None
    return f"disk {percent(probe):.0f} % full, {left} backups left, writes answered"


def percent(probe: Probe) -> float:
    """Return how full the disk of Redis is in percent, as df counts."""
    found = os.statvfs(volume.folder(probe.settings))
    used = found.f_blocks - found.f_bfree
    return 100 * used / (used + found.f_bavail)


def needs(probe: Probe) -> str | None:
    """Return why the fault cannot be shown here, or None if it can."""
    if not volume.mounted(probe.settings):
        return "it needs a small file system for the data of Redis, which only root can mount"
    if not volume.seen(probe.settings):
        return "it needs a small file system that node_exporter sees, but process 1 is in another mount namespace"
    return None
