"""A small file system for the data of Redis, so that a really full disk can be shown.

It needs root and the right to mount. Without them, the data of Redis are in a plain folder, and the demonstration
leaves out full disks with a sentence.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from demo.stack.programs import find
from demo.stack.settings import Settings, StackError

MEBIBYTE = 1024 * 1024
SIZE = 64 * MEBIBYTE


def folder(settings: Settings) -> Path:
    """Return the mount point. Its path contains ``redis``, by which the alert rule selects mount points."""
    return settings.state / "redis"


def mounted(settings: Settings) -> bool:
    """Return whether the data of Redis are on a separate file system."""
    return folder(settings).is_mount()


def seen(settings: Settings) -> bool:
    """Return whether node_exporter sees the file system. It reads the mounts of process 1, which a sandbox may hide."""
    try:
        lines = Path("/proc/1/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return True  # node_exporter then reads its own mounts
    return str(folder(settings).resolve()).replace(" ", "\\040") in (line.split()[1] for line in lines)


def mount(settings: Settings) -> None:
    """Create and mount the file system, if that is possible."""
    if os.geteuid() != 0 or mounted(settings):
        return
    image = settings.state / "redis.img"
    folder(settings).mkdir(parents=True, exist_ok=True)
    if not any(folder(settings).iterdir()) and not _loop(image, folder(settings)):
        image.unlink(missing_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "remediator-demo", str(folder(settings)))


def _loop(image: Path, target: Path) -> bool:
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(SIZE)
        if not _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image)):
            return False
    if not _run("mount", "-o", "loop,nodev,nosuid,noexec", str(image), str(target)):
        return False
    lost = target / "lost+found"
    if lost.is_dir():
        lost.rmdir()
    return True


def unmount(settings: Settings) -> None:
    """Unmount the file system. The data on a disk image stay.

    Raises:
        StackError: the file system is in use.
    """
    if mounted(settings) and not _run("umount", str(folder(settings))):
        raise StackError(
            f"{folder(settings)} cannot be unmounted; find the process that uses it with 'fuser -vm {folder(settings)}'"
        )


def forget(settings: Settings) -> None:
    """Unmount the file system and delete its data."""
    unmount(settings)
    (settings.state / "redis.img").unlink(missing_ok=True)


def _run(program: str, *arguments: str) -> bool:
    path = find(program)
    return path is not None and subprocess.run((path, *arguments), capture_output=True, check=False).returncode == 0
