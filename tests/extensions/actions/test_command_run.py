"""``command.run``: argv from the settings, validated values, no shell, a clean environment, and a timeout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from demo import proc
from remediator.clients.host.allowed_commands import AllowedCommand
from remediator.core.outcome import Outcome
from remediator.errors import TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import Action
from remediator.extensions.actions.command_run import CommandRun
from remediator.extensions.clientset import ClientSet
from tests.support.action_runner import do, plan, service, undo
from tests.support.servers import until

APP = service("app")


def action(*argv: str, **more: Any) -> CommandRun:
    return CommandRun(ClientSet(commands={"it": AllowedCommand.model_validate({"argv": argv, **more})}))


async def test_without_settings_there_is_no_command() -> None:
    """Without commands in the settings, every name is unknown."""
    with pytest.raises(TargetError, match="the settings do not allow the command 'it'; no command is allowed"):
        await plan(CommandRun(ClientSet()), APP, command="it")


async def test_a_value_with_shell_syntax_is_one_argument() -> None:
    """A value with shell syntax stays one argument, because no shell parses it."""
    echo = action("/bin/echo", "--", "{what}", parameters={"what": ".*"})
    result = await do(echo, APP, command="it", values={"what": "a b; $(id) `id` | > /tmp/x"})

    assert result.output["output"] == "-- a b; $(id) `id` | > /tmp/x"


@pytest.mark.parametrize("value", ["--help", "-x", "b", "aa", "a\n", ""])
async def test_a_value_that_does_not_match_is_refused(value: str) -> None:
    """The pattern must match the whole value, and a value is never taken as an option."""
    echo = action("/bin/echo", "{what}", parameters={"what": "a|-x"})

    with pytest.raises(TargetError, match="is not allowed"):
        await plan(echo, APP, command="it", values={"what": value})


@pytest.mark.parametrize("values", [{}, {"other": "a"}, {"what": "a", "other": "a"}])
async def test_missing_and_undeclared_values_are_refused(values: dict[str, str]) -> None:
    """The values must be exactly the declared parameters of the command."""
    with pytest.raises(TargetError, match="needs exactly these values: what"):
        await plan(action("/bin/echo", "{what}", parameters={"what": "a"}), APP, command="it", values=values)


@pytest.mark.parametrize(
    ("argv", "parameters"),
    [
        (["echo"], {}),
        (["{program}"], {"program": "/bin/.*"}),
        (["/bin/echo", "--x={what}"], {"what": "a"}),
        (["/bin/echo", "{what}"], {}),
        (["/bin/echo", "{what}"], {"what": "("}),
        ([], {}),
    ],
)
def test_settings_that_allow_any_program_or_argument_are_refused(argv: list[str], parameters: dict[str, str]) -> None:
    """The settings must not take the program from a value, embed a value in an argument, or use a relative path."""
    with pytest.raises(ValidationError):
        AllowedCommand.model_validate({"argv": argv, "parameters": parameters})


async def test_a_command_does_not_inherit_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command does not inherit the environment of remediator, which may contain secrets."""
    monkeypatch.setenv("REMEDIATOR_SECRET", "hush")
    result = await do(action("/usr/bin/env"), APP, command="it")

    assert "hush" not in result.output["output"]


async def test_a_status_that_is_not_0_is_a_failure() -> None:
    """The action fails, and its result contains the end of the output."""
    result = await do(action("/bin/ls", "/no/such/folder"), APP, command="it")

    assert result.outcome is Outcome.FAILED and "No such file" in result.output["output"]


@pytest.mark.parametrize("then", ["wait", "exit 0"])
async def test_a_command_that_exceeds_its_timeout_is_killed_with_its_children(tmp_path: Path, then: str) -> None:
    """After a timeout the outcome is unknown, because the program has run; its remaining children are killed too."""
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nsleep 1000 & echo $! > {tmp_path}/child\n{then}\n")
    script.chmod(0o755)

    with pytest.raises(TimedOut):
        await do(action(str(script), timeout="500ms"), APP, command="it")
    child = int((tmp_path / "child").read_text())
    until(lambda: not proc.alive(child), "its child is gone too")


async def test_a_missing_program_is_unreachable() -> None:
    """A missing program raises :class:`Unreachable`: nothing happened."""
    with pytest.raises(Unreachable):
        await do(action("/no/such/program"), APP, command="it")


async def test_settings_that_changed_since_the_plan_are_noticed() -> None:
    """If the settings changed after planning, the command is refused: only the approved command runs."""
    call = await plan(action("/bin/echo", "one"), APP, command="it")

    with pytest.raises(TargetError, match="'it' was changed in the settings after planning"):
        await do(action("/bin/echo", "two"), APP, call=call, command="it")


async def test_a_program_without_execute_permission_is_unreachable(tmp_path: Path) -> None:
    """A program without execute permission raises :class:`Unreachable`: it was not started, so nothing happened."""
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\ntouch done\n")
    script.chmod(0o644)

    with pytest.raises(Unreachable, match="Permission denied"):
        await do(action(str(script)), APP, command="it")
    assert not (tmp_path / "done").exists()


async def test_a_variable_comes_from_its_file_at_each_run(tmp_path: Path) -> None:
    """A rotated secret is used at the next call; if its file is missing, the command is not started."""
    secret = tmp_path / "token"
    secret.write_text("first\n")
    command = action("/usr/bin/env", environment={"SHOP": "berlin"}, environment_files={"TOKEN": str(secret)})
    result = await do(command, APP, command="it")
    assert {"SHOP=berlin", "TOKEN=first"} <= set(result.output["output"].splitlines())

    secret.write_text("second")
    assert "TOKEN=second" in (await do(command, APP, command="it")).output["output"].splitlines()
    secret.unlink()
    with pytest.raises(TargetError, match="nothing was run"):
        await do(command, APP, command="it")


def test_a_variable_is_set_once(tmp_path: Path) -> None:
    """A variable with two sources is refused, because it is unclear which value applies."""
    given = {"argv": ["/bin/true"], "environment": {"A": "x"}, "environment_files": {"A": str(tmp_path)}}
    with pytest.raises(ValidationError, match="A is set twice"):
        AllowedCommand.model_validate(given)


@pytest.mark.promise(12)
@pytest.mark.parametrize(
    ("declared", "traits"),
    [
        ({}, (True, False, True, True)),
        ({"destructive": False}, (True, False, False, True)),
        ({"destructive": False, "interrupts": False, "idempotent": True}, (True, True, False, False)),
        ({"read_only": True}, (False, True, False, False)),
    ],
)
def test_what_is_not_declared_is_assumed(declared: dict[str, bool], traits: tuple[bool, ...]) -> None:
    """By default, a command is mutating, not idempotent, destructive and interrupting."""
    command = action("/bin/true", **declared)
    found = command.traits_for(command.Parameters.model_validate({"command": "it"}))
    assert (found.mutates, found.idempotent, found.destructive, found.interrupts) == traits
    unknown = command.traits_for(command.Parameters.model_validate({"command": "other"}))
    assert unknown.destructive and unknown.interrupts and not unknown.idempotent


async def test_a_command_that_became_harmful_after_planning_is_not_run() -> None:
    """If the settings declare the command as destructive after planning, it is refused: the approval did not cover
    this."""
    harmless = {"destructive": False, "interrupts": False}
    call = await plan(action("/bin/true", **harmless), APP, command="it")
    with pytest.raises(TargetError, match="was changed in the settings after planning"):
        await do(action("/bin/true"), APP, call=call, command="it")


async def test_the_risk_is_what_the_settings_say() -> None:
    """Without a declared text, the request shows an unknown risk; a read-only command has no risk."""
    assert (await plan(action("/bin/true", risk="Slow."), APP, command="it")).risk == "Slow."
    assert "do not declare" in str((await plan(action("/bin/true"), APP, command="it")).risk)
    assert (await plan(action("/bin/true", read_only=True), APP, command="it")).risk is None


async def test_the_undo_is_another_command_with_the_same_values(tmp_path: Path) -> None:
    """The undo command gets only the values that it declares."""
    file = tmp_path / "marker"
    given = {
        "mark": {"argv": ["/usr/bin/touch", "{file}"], "parameters": {"file": ".*"}, "undo": "unmark"},
        "unmark": {
            "argv": ["/bin/rm", "{file}"],
            "parameters": {"file": ".*"},
            "destructive": False,
            "interrupts": False,
        },
    }
    command: Action = CommandRun(ClientSet(commands={n: AllowedCommand.model_validate(v) for n, v in given.items()}))
    values = {"command": "mark", "values": {"file": str(file)}}
    call = await plan(command, APP, **values)
    assert call.undo == "run the command 'unmark' of the settings"
    result = await do(command, APP, call=call, **values)
    assert file.exists()

    await undo(command, {"command.run": command}, APP, call, result)
    assert not file.exists()
