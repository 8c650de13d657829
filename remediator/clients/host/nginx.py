"""nginx on this host: write one included file, test it, reload nginx and see that it is used."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from remediator.clients.host import disk, process
from remediator.clients.host.disk_changes import replace_file
from remediator.clients.host.process import Process
from remediator.errors import Refused, TargetError

MARK = "# managed by remediator; files without this line are never replaced\n"
OFF = MARK
_POLL_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class NginxFiles:
    """Paths of one nginx."""

    include: Path
    pid_file: Path
    binary: str
    config: Path | None


class IncludedFile:
    """The included file of one nginx. File access blocks, but is short and local."""

    def __init__(self, files: NginxFiles) -> None:
        self._files = files

    def master(self) -> Process:
        """Return the master process.

        Raises:
            TargetError: it is not running.
        """
        return process.named_by(self._files.pid_file)

    def content(self) -> str:
        """Return the content of the file, or the empty configuration if there is no file.

        Raises:
            TargetError: it cannot be read, or it is not managed by remediator.
        """
        path = self._files.include
        with disk.opened(path.parent, link=True) as folder:
            if disk.stat_of(folder, path.name) is None:
                return OFF
            try:
                with os.fdopen(disk.open_file(folder, path.name), encoding="utf-8") as file:
                    text = file.read()
            except UnicodeDecodeError as error:
                raise TargetError(f"cannot read {path}: {error}") from None
        if not text.startswith(MARK):
            raise TargetError(f"{self._files.include} is not managed by remediator, so it is not replaced")
        return text

    async def apply(self, content: str, *, expected: str, master: Process) -> int:
        """Write this content, test it and reload nginx. Return the number of new workers.

        The order of the checks: same master as planned, same file as planned, valid configuration. If anything fails
        before the reload, the old content is restored, so that nginx never loads an untested file.

        Raises:
            TargetError: the file or the process is not as planned.
            Refused: nginx rejects the configuration.
            Unreachable: nginx cannot be started to test it.
        """
        if self.master() != master:
            raise TargetError("nginx was restarted after planning; nothing was changed")
        if self.content() != expected:
            raise TargetError(f"{self._files.include} was changed after planning; nothing was changed")
        before = set(process.children(master))
        self._write(content)
        try:
            config = () if self._files.config is None else ("-c", str(self._files.config))
            test = await process.run((self._files.binary, "-t", "-q", "-e", "stderr", *config), seconds=10)
            if test.status != 0:
                problem = test.output.strip()[-500:]
                raise Refused(f"nginx rejects the configuration, so the old one was restored: {problem}")
            process.send(master, signal.SIGHUP)
        except BaseException:  # clean up also when the task is cancelled
            self._write(expected)
            raise
        while True:  # wait until the master has started new workers; the old workers finish their requests
            new = set(process.children(master)) - before
            if new:
                return len(new)
            await asyncio.sleep(_POLL_INTERVAL)

    def _write(self, content: str) -> None:
        path = self._files.include
        with disk.opened(path.parent, link=True) as folder:
            try:
                replace_file(folder, path.name, content.encode(), mode=0o644)
            except OSError as error:
                raise Refused(f"cannot write {path}: {error.strerror}") from None

    def in_use(self, since: float) -> bool:
        """Return whether a worker started after this Unix time, so that it has read the file."""
        since -= 0.02  # the kernel reports start times in hundredths of a second
        return any(child.started_at.timestamp() >= since for child in process.children(self.master()))
