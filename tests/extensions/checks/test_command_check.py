"""command.check: a read-only command of the settings, judged by its exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.extensions.checks.base import CheckAnswer, Evidence
from remediator.extensions.checks.command_check import CommandCheck
from remediator.extensions.clientset import ClientSet
from tests.support.action_runner import service

pytestmark = pytest.mark.promise(7)


async def look(argv: list[str], given: dict[str, Any] | None = None, **declared: Any) -> Evidence:
    """Run a check with a command from the settings."""
    allowed = AllowedCommand.model_validate({"argv": argv, "read_only": True, **declared})
    check = CommandCheck(ClientSet(commands={"it": allowed}))
    parameters = check.Parameters.model_validate({"command": "it", **(given or {})})
    return await check.ask(service("app"), parameters)


@pytest.mark.parametrize(
    ("status", "given", "answer"),
    [
        (0, {}, CheckAnswer.OK),
        (1, {}, CheckAnswer.FAIL),
        (2, {}, CheckAnswer.UNKNOWN),
        (2, {"fail_status": [1, 2]}, CheckAnswer.FAIL),
        (3, {"fail_status": [1, 2]}, CheckAnswer.UNKNOWN),
    ],
)
async def test_the_exit_status_decides(status: int, given: dict[str, Any], answer: CheckAnswer) -> None:
    """Only the declared exit status means fail; any other status may be an error of the command and is unknown."""
    seen = await look(["/bin/sh", "-c", f"echo 7 orders; exit {status}"], given)
    assert seen.answer is answer
    assert seen.facts == {"status": status, "output": "7 orders"}


@pytest.mark.parametrize(
    ("argv", "declared", "says"),
    [
        (["/no/such/program"], {}, "cannot start"),
        (["/bin/sleep", "10"], {"timeout": "100ms"}, "did not end"),
        (["/bin/echo", "{what}"], {"parameters": {"what": "a"}}, "needs exactly these values"),
        (["/bin/true"], {"environment_files": {"TOKEN": "/no/such/file"}}, "nothing was run"),
    ],
)
async def test_what_did_not_run_is_unknown(argv: list[str], declared: dict[str, Any], says: str) -> None:
    """A command that did not run proves nothing, so the answer is unknown."""
    seen = await look(argv, **declared)
    assert seen.answer is CheckAnswer.UNKNOWN and says in seen.summary


async def test_a_command_that_may_change_something_is_not_run(tmp_path: Path) -> None:
    """A command that is not declared read-only is refused, because a check has no approval."""
    seen = await look(["/usr/bin/touch", str(tmp_path / "file")], read_only=False)
    assert seen.answer is CheckAnswer.UNKNOWN and "read_only" in seen.summary
    assert not (tmp_path / "file").exists()
