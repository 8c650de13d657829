"""Actions in a chat: create a silence on a real Alertmanager, take over a run, and typed commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from remediator.clients.alertmanager.client import Alertmanager as Client
from remediator.clients.endpoints import Endpoint
from remediator.core.approval import Person, Role
from remediator.extensions.clientset import ClientSet
from remediator.reporting.incidents import load_incident
from remediator.runtime.chat import ChatActions, Press, Verb
from remediator.runtime.chat_loops import chat_actions
from remediator.storage.repositories import runs
from remediator.storage.schema import episodes
from tests.support.servers.alertmanager import Alertmanager
from tests.support.web_service import WebService, web_service

ANN = Person("ann", "slack", frozenset({Role.APPROVER}))
VICTOR = Person("victor", "slack", frozenset({Role.VIEWER}))


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[WebService]:
    """Return a service at the present time, because Alertmanager has its own clock."""
    async with web_service(tmp_path) as made:
        made.clock.time = datetime.now(UTC)
        yield made


def actions(web: WebService, *alertmanagers: Client) -> ChatActions:
    """Return the actions of a chat with these Alertmanagers."""
    return chat_actions(web.context, web.service.config, ClientSet(alertmanagers=alertmanagers))


async def test_a_silence_is_created_once(web: WebService, tmp_path: Path) -> None:
    """A press creates one silence for one hour with all labels of the alert, and an audit entry; a second press creates
    none."""
    asked = await web.request_approval(labels={"severity": "critical"})
    server = Alertmanager(tmp_path / "alertmanager")
    server.start()
    try:
        async with aclosing(Client(Endpoint(url=server.url))) as client:
            chat = actions(web, client)
            press = Press(Verb.SILENCE, asked.run_id, ANN, "press-1", reason="we work on it")
            assert await chat.press(press) == "1 alert is silenced for 1h"
            assert await chat.press(press) == "The alerts are silenced already."
            [silence] = await client.silences()
    finally:
        server.stop()
    assert silence.created_by == "ann" and silence.comment.endswith("we work on it")
    assert {item.name: item.value for item in silence.matchers}["severity"] == "critical"
    assert (silence.ends_at - silence.starts_at).total_seconds() == pytest.approx(3600, abs=5)
    assert '"command":"silence"' in await web.audit_text()


async def test_what_cannot_be_silenced_says_why(web: WebService) -> None:
    """Without an Alertmanager, or without the role, no silence is created, and the answer has the reason."""
    asked = await web.request_approval()
    press = Press(Verb.SILENCE, asked.run_id, ANN, "press-1")
    assert await actions(web).press(press) == "Nothing was changed: no Alertmanager is in the settings."
    told = await actions(web).press(Press(Verb.SILENCE, asked.run_id, VICTOR, "press-2"))
    assert "needs the role 'approver'" in told


async def test_an_alert_of_another_source_is_not_silenced_in_alertmanager(web: WebService) -> None:
    """The answer names the source in which the person can create a silence."""
    asked = await web.request_approval()
    await web.context.store.write(lambda tx: tx.connection.execute(update(episodes).values(source="grafana")))
    said = await actions(web).press(Press(Verb.SILENCE, asked.run_id, ANN, "press-1"))
    assert said == "Nothing was changed: an alert is from grafana: silence it there."


async def test_a_run_is_taken_over(web: WebService) -> None:
    """The incident names the person who took it over."""
    asked = await web.request_approval()
    told = await actions(web).press(Press(Verb.ACKNOWLEDGE, asked.run_id, ANN, ""))
    assert told == f"You take care of {asked.run_id}. Messages about the incident name you."
    run = await web.context.store.read(lambda connection: runs.get(connection, asked.run_id))
    assert run is not None
    incident = await web.context.store.read(lambda connection: load_incident(connection, run.incident_id))
    assert incident is not None and incident.runs[0].acknowledged_by == "ann"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Commands: start PLAYBOOK"),
        ("start nothing redis", "no active playbook 'nothing'"),
        ("start redis-disk-full redis app", "give one service"),
        ("undo @latest", "only a finished run can be undone"),
        ("take @latest -- I look", "You take care of run-1."),
        ("undo run-none", "there is no run 'run-none'"),
    ],
)
async def test_a_wrong_command_is_answered_with_its_usage(web: WebService, text: str, told: str) -> None:
    """A wrong command changes nothing, and the answer has the correct usage."""
    await web.request_approval()
    oscar = Person("oscar", "slack", frozenset({Role.OPERATOR}))
    assert told in await actions(web).command(oscar, text)
