"""The crash matrix: a real process is killed before and after every commit and call. Targets count their starts."""

from __future__ import annotations

import pytest

from tests.promises.conftest import MakeInstallation
from tests.support.replicas import succeeded
from tests.support.servers import until

pytestmark = [pytest.mark.long, pytest.mark.promise(3)]

PLACES = (
    "notification",
    "episode.opened",
    "run.matched",
    "run.transition/planned",
    "run.transition/running",
    "action.intended",
    "call",
    "action.outcome/ok",
    "run.transition/succeeded",
)


@pytest.mark.promise(2)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_kill_at_any_point_restarts_each_target_once(
    make_installation: MakeInstallation, kind: str, request: pytest.FixtureRequest
) -> None:
    """Whenever the process is killed, each target is restarted exactly once.

    The process is killed with kill -9 before and after every commit and call, each time with a separate incident. The
    log of each target shows one restart, each run proves success, and the audit log verifies.
    """
    places = [f"kill@{moment}:{place}" for place in PLACES for moment in ("before", "after")]
    installation = make_installation(
        targets=len(places), store="sqlite" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    )
    replica = installation.replica()
    acknowledged = []
    for place, target in zip(places, installation.targets, strict=True):
        replica.crash_at = place
        replica.launch()
        until(lambda: replica.ended or replica.ready(), "ready, or killed while it takes up what the last one left")
        if not replica.ended and replica.tell(target):
            acknowledged.append(target)
        until(lambda: replica.ended, f"killed {place}")
        replica.kill()
    replica.crash_at = ""
    replica.start()
    until(lambda: succeeded(replica) >= set(acknowledged), "what was acknowledged is healed, though not sent again")
    for target in installation.targets:
        assert replica.tell(target, tries=20)  # Alertmanager repeats all notifications, acknowledged or not
    until(lambda: succeeded(replica) == set(installation.targets), "everything is healed")

    assert {target: installation.starts(target) for target in installation.targets} == dict.fromkeys(
        installation.targets, 2
    )
    assert len(replica.runs()) == len(installation.targets)
    assert len(acknowledged) >= len(places) // 4, "most were killed before the alert was told: this shows little"
    if kind == "sqlite":
        replica.verified()


@pytest.mark.promise(1)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_acknowledged_notifications_are_kept_after_a_kill(make_installation: MakeInstallation, moment: str) -> None:
    """After a kill at the commit of the 20th notification, every body that got a 2xx is in the inbox."""
    installation = make_installation()
    replica = installation.replica(f"kill@{moment}:notification#20")
    replica.start()
    bodies = [replica.notification("firing", alertname="Other", n=str(number)) for number in range(30)]
    acknowledged = []
    for body in bodies:
        try:
            if replica.post(body)[0] == 200:
                acknowledged.append(body)
        except OSError:
            break
    until(lambda: replica.ended, "killed")

    assert len(acknowledged) == 19
    assert set(replica.inbox()) >= set(acknowledged)


@pytest.mark.promise(4)
@pytest.mark.parametrize("place", ["after:action.intended", "before:call", "after:call"])
def test_a_replica_that_was_paused_past_its_lease_does_nothing_more(
    make_installation: MakeInstallation, postgres_url: str, place: str
) -> None:
    """After SIGSTOP between intent and outcome, another replica takes over, and the resumed one changes nothing."""
    installation = make_installation(store=postgres_url)
    first = installation.replica(f"stop@{place}")
    first.start()
    assert first.tell("target-0")
    until(lambda: first.stopped, "it stands still")
    second = installation.replica()
    second.start()

    run = second.wait_for("succeeded")
    first.resume()
    until(lambda: first.ready(), "the first answers again")
    until(lambda: second.get(f"/api/v1/runs/{run['id']}") is not None, "still there")
    again = installation.replica()
    again.start()  # enough time for the first replica to act

    assert installation.starts("target-0") == 2
    assert [item["status"] for item in second.runs()] == ["succeeded"]
