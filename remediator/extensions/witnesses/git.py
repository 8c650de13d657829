"""``git``: checkpoints as commits of a git repository, with a push to a remote."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from remediator.extensions.witnesses.base import Witness, WitnessError, is_latest, parse_note

FILE = "checkpoint"
"""The only file in the tree. Its history is the history of the log."""

_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_AUTHOR = {
    "GIT_AUTHOR_NAME": "remediator",
    "GIT_AUTHOR_EMAIL": "remediator@localhost",
    "GIT_COMMITTER_NAME": "remediator",
    "GIT_COMMITTER_EMAIL": "remediator@localhost",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


class GitWitness(Witness):
    """Commits notes to a branch with git plumbing commands: no work tree, no index, no shell.

    Args:
        repository: path of the repository. A bare repository is created if it does not exist.
        branch: branch that contains only checkpoints.
        remote: where to push after each commit. Without a remote, protect the repository itself.
        timeout: seconds for one git command.
    """

    kind = "git"

    def __init__(
        self, repository: Path, branch: str = "checkpoints", remote: str | None = None, timeout: float = 30.0
    ) -> None:
        if not _BRANCH.fullmatch(branch) or ".." in branch or (remote is not None and remote.startswith("-")):
            raise WitnessError(f"invalid branch {branch!r} or remote {remote!r}: use a branch name such as checkpoints")
        self._repository = repository
        self._ref = f"refs/heads/{branch}"
        self._remote = remote
        self._timeout = timeout

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`. The branch moves by compare-and-swap, so two replicas cannot lose a commit."""
        size = parse_note(note).size
        if not self._repository.exists():
            await self._run("init", "--quiet", "--bare", str(self._repository), inside=False)
        tip = await self._tip()
        kept = [await self._run("cat-file", "blob", f"{tip}:{FILE}")] if tip else []
        if not is_latest(kept, note):
            blob = (await self._run("hash-object", "-w", "--stdin", given=note)).strip()
            tree = (await self._run("mktree", given=f"100644 blob {blob}\t{FILE}\n")).strip()
            parent, message = ("-p", tip) if tip else (), f"Checkpoint of {size} entries"
            commit = (await self._run("commit-tree", "--no-gpg-sign", tree, *parent, "-m", message)).strip()
            await self._run("update-ref", self._ref, commit, tip or "0" * len(commit))
            tip = commit
        if self._remote is not None:
            await self._run("push", "--quiet", "--", self._remote, f"{self._ref}:{self._ref}")
        return f"{self._remote or self._repository} {tip}"

    async def fetch(self) -> list[str]:
        """See :meth:`Witness.fetch`."""
        tip = await self._tip()
        if not tip:
            return []
        commits = (await self._run("rev-list", "--first-parent", "--reverse", tip)).split()
        return [await self._run("cat-file", "blob", f"{commit}:{FILE}") for commit in commits]

    async def _tip(self) -> str:
        # for-each-ref prints nothing, without an error, while the branch does not exist
        return (await self._run("for-each-ref", "--format=%(objectname)", self._ref)).strip()

    async def _run(self, *command: str, given: str = "", inside: bool = True) -> str:
        where = ("-C", str(self._repository)) if inside else ()
        # without variables that select another repository; HOME stays, for push credentials
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("GIT_") or name == "GIT_SSH_COMMAND"
        }
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *("-c", "core.fsync=all", "-c", "core.hooksPath=/dev/null"),
                *where,
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment | _AUTHOR,
            )
        except OSError as error:
            raise WitnessError(f"cannot run git: {error.strerror}") from error
        try:
            async with asyncio.timeout(self._timeout):
                output, errors = await process.communicate(given.encode())
        except TimeoutError:
            raise WitnessError(f"git {command[0]} timed out after {self._timeout:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            reason = errors.decode("utf-8", "replace").strip().splitlines()
            raise WitnessError(f"git {command[0]} failed: {reason[-1] if reason else process.returncode}")
        return output.decode("utf-8", "replace")
