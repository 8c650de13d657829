"""nginx on this host: one included file that is ours, tested before it is used, reloaded and seen to be in use."""

from __future__ import annotations

import asyncio
import secrets
import signal
from dataclasses import dataclass
from pathlib import Path

from remediator.clients.host import process
from remediator.clients.host.process import Process
from remediator.errors import Refused, TargetError

MARK = "# written by remediator; it refuses to replace what somebody else wrote\n"
OFF = MARK
_LOOK = 0.05


@dataclass(frozen=True, slots=True)
class NginxFiles:
    """Where the parts of an nginx are."""

    include: Path
    pid_file: Path
    binary: str
    config: Path | None


class IncludedFile:
    """The included file of one nginx. Blocking file access is short and local."""

    def __init__(self, files: NginxFiles) -> None:
        self._files = files

    def master(self) -> Process:
        """Its master process.

        Raises:
            TargetError: it does not run.
        """
        return process.named_by(self._files.pid_file)

    def content(self) -> str:
        """What the file says; nothing said where it is not there.

        Raises:
            TargetError: it cannot be read, or somebody else wrote it.
        """
        try:
            text = self._files.include.read_text(encoding="utf-8")
        except FileNotFoundError:
            return OFF
        except (OSError, UnicodeDecodeError) as error:
            raise TargetError(f"{self._files.include} cannot be read: {error}") from None
        if not text.startswith(MARK):
            raise TargetError(f"{self._files.include} was written by somebody else, so it is not replaced")
        return text

    async def apply(self, content: str, *, expected: str, master: Process) -> int:
        """Put this content in force; how many workers use it.

        Whatever ends it before nginx is told to reload, the file is as before: nobody finds an untested one there.

        Raises:
            TargetError: the file or the process is not as planned.
            Refused: nginx does not take it.
            Unreachable: nginx cannot be asked what it thinks of it.
        """
        if self.master() != master:
            raise TargetError("nginx was started anew since the plan was made: somebody was faster")
        if self.content() != expected:
            raise TargetError(f"{self._files.include} was changed since the plan was made: somebody was faster")
        before = set(process.children(master))
        self._write(content)
        try:
            refusal = await self._refusal()
            if refusal is not None:
                raise Refused(f"nginx does not take it, so it was put back: {refusal}")
            process.send(master, signal.SIGHUP)
        except BaseException:  # cut off in time, too
            self._write(expected)
            raise
        return await self._reloaded(master, before)

    def _write(self, content: str) -> None:
        path = self._files.include
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            draft.write_text(content, encoding="utf-8")
            draft.chmod(0o644)
            draft.replace(path)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}") from None

    async def _refusal(self) -> str | None:
        config = () if self._files.config is None else ("-c", str(self._files.config))
        tested = await process.run((self._files.binary, "-t", "-q", "-e", "stderr", *config), seconds=10)
        return None if tested.status == 0 else tested.output.strip()[-500:]

    async def _reloaded(self, master: Process, before: set[Process]) -> int:
        """The master starts new workers at once and lets the old ones finish what they have in hand."""
        while True:
            new = set(process.children(master)) - before
            if new:
                return len(new)
            await asyncio.sleep(_LOOK)

    def in_use(self, since: float) -> bool:
        """Whether a worker was started after this time (seconds since 1970), so that it has read the file as it was."""
        since -= 0.02  # the kernel tells a start in whole hundredths of a second
        return any(child.started_at.timestamp() >= since for child in process.children(self.master()))
