"""End to end on real servers: an alert arrives, Redis is restarted and verified, and everything is recorded."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support import commands
from tests.support.servers import until
from tests.support.servers.remediator import Stack


@pytest.mark.promise(7)
def test_a_dead_redis_is_restarted_and_verified(stack: Stack) -> None:
    """An alert from a real Alertmanager leads to one restart, and the run succeeds by its verification."""
    pid = stack.kill_redis()

    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")

    run = stack.remediator.wait_for("succeeded")
    assert stack.redis()["statename"] == "RUNNING"
    assert stack.redis()["pid"] != pid
    assert [(step["action"], step["outcome"]) for step in run["steps"]] == [("service.restart", "ok")]
    assert "Redis: a value was written, read back and deleted" in run["detail"]["proof"]


def test_run_show_lists_the_events_in_order(stack: Stack) -> None:
    """``remediator run show`` lists the events of all stages in order."""
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    run = stack.remediator.wait_for("succeeded")

    shown = commands.remediator("run", "show", run["id"], "--config", str(stack.remediator.config)).stdout

    wanted = [
        "matched",
        "diagnose ping",
        "planned:",
        "guards passed for the plan",
        "starting:",
        "service.restart ok",
        "healed",
    ]
    places = [shown.index(text) for text in wanted]
    assert places == sorted(places), shown


@pytest.mark.promise(3)
def test_a_run_survives_a_kill_during_its_call(stack: Stack) -> None:
    """After a SIGKILL during the call, the next process observes the target, continues and verifies."""
    os.kill(int(stack.redis()["pid"]), signal.SIGSTOP)  # so that supervisord needs two seconds to stop it
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    stack.remediator.wait_for("running")
    until(lambda: stack.redis()["statename"] == "STOPPING", "the call is under way")

    stack.remediator.kill()
    stack.remediator.start()

    run = stack.remediator.wait_for("succeeded")
    assert stack.redis()["statename"] == "RUNNING"
    assert [step["outcome"] for step in run["steps"]] == ["failed", "ok"]
    assert "observed" in " ".join(event["kind"] for event in run["timeline"])


@pytest.mark.promise(3)
def test_a_call_that_took_effect_is_not_repeated(stack: Stack) -> None:
    """After a SIGKILL between the effect and the outcome, the observation shows the effect, and the call is not
    repeated."""
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    stack.remediator.wait_for("running")
    until(lambda: stack.redis()["statename"] == "STARTING", "the call is under way")

    stack.remediator.kill()
    until(lambda: stack.redis()["statename"] == "RUNNING", "supervisord has started it")
    pid = stack.redis()["pid"]
    stack.remediator.start()

    run = stack.remediator.wait_for("succeeded")
    assert stack.redis()["pid"] == pid
    assert [step["outcome"] for step in run["steps"]] == ["ok"]


@pytest.mark.promise(2)
def test_repeats_never_start_a_second_run(stack: Stack) -> None:
    """Two senders send the same alert many times, during and after the fix: there is one run and one restart."""
    stack.kill_redis()
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    body = stack.remediator.notification("firing", alertname="RedisDown", instance="redis:6379")
    for _ in range(50):
        assert stack.remediator.post(body)[0] == 200

    run = stack.remediator.wait_for("succeeded")
    for _ in range(50):
        assert stack.remediator.post(body)[0] == 200

    assert len(stack.remediator.runs()) == 1
    assert len(run["steps"]) == 1


def test_sigterm_waits_for_the_current_call(stack: Stack) -> None:
    """After a SIGTERM during a call, the process ends when the outcome is recorded; the next process continues."""
    os.kill(int(stack.redis()["pid"]), signal.SIGSTOP)  # so that supervisord needs two seconds to stop it
    stack.alertmanager.fire(alertname="RedisDown", instance="redis:6379")
    stack.remediator.wait_for("running")
    until(lambda: stack.redis()["statename"] == "STOPPING", "the call is under way")

    stack.remediator.stop()
    stack.remediator.start()

    run = stack.remediator.wait_for("succeeded")
    assert [step["outcome"] for step in run["steps"]] == ["ok"]
