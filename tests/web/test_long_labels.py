"""Every page and message shortens a label of 200,000 characters, and shows the other labels and the state."""

from __future__ import annotations

import json

import pytest

from tests.promises.conftest import MakeInstallation
from tests.promises.conftest import make_installation as make_installation
from tests.support import commands
from tests.support.servers import until
from tests.support.servers.receivers import receiver

pytestmark = pytest.mark.promise(14)
LONG = "x" * 200_000


def test_a_long_label_is_shortened_for_people_and_whole_for_programs(make_installation: MakeInstallation) -> None:
    """Message, pages, command line and log show a shortened label, and the API returns the whole label."""
    installation = make_installation()
    with receiver() as chat:
        replica = installation.replica(
            public_url="http://127.0.0.1:1",
            channels={"ops": {"kind": "webhook", "url": chat.url}},
            approvals={"channels": ["ops"]},
        )
        replica.playbooks = [{**replica.playbooks[0], "mode": "approve", "escalate": {"to": ["ops"]}}]
        replica.start()
        labels = {"alertname": "TargetDown", "service": "target-0", "stack": LONG, "zone": "eu-1"}
        assert replica.post(replica.notification("firing", **labels))[0] == 200
        replica.wait_for("awaiting_approval")
        until(lambda: bool(chat.received), "the request is sent")
        message = json.dumps(chat.received[0].json)
    (found,) = replica.runs()
    pages = [replica.text("/"), replica.text(f"/runs/{found['id']}")]
    shown = commands.remediator("run", "show", found["id"], "--config", str(replica.config)).stdout
    assert found["id"] in shown
    for surface in (message, *pages, shown, replica.log):
        assert "x" * 1_000 not in surface
    assert "zone=eu-1" in message
    assert "firing since" in message
    whole = replica.get(f"/api/v1/runs/{found['id']}")
    assert whole["alerts"][0]["labels"]["stack"] == LONG
