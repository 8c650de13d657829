"""Slack's Socket Mode against a test server with its protocol: WebSocket, envelopes, acknowledgements and
reconnects."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from remediator.core.approval import BUTTON, ApprovalLink
from remediator.core.clock import SystemClock
from remediator.errors import StoreUnavailable
from remediator.runtime import slack_socket
from remediator.runtime.chat_loops import slack_events
from remediator.runtime.slack_events import Reply
from remediator.runtime.slack_socket import SlackSocket
from remediator.storage.repositories import approvals, runs, stops
from tests.support.servers import free_port
from tests.support.web_service import WebService, web_service


@dataclass
class FakeSlack:
    """A server with the methods of the Web API and the WebSockets that the service uses."""

    port: int = field(default_factory=free_port)
    sockets: list[WebSocket] = field(default_factory=list)
    acknowledged: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    opened: int = 0
    tickets: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Return the base URL of the server."""
        return f"http://127.0.0.1:{self.port}"

    async def open_connection(self, request: Request) -> JSONResponse:
        """Answer ``apps.connections.open``: a URL for one connection, only for the app-level token."""
        if request.headers.get("authorization") != "Bearer xapp-1-secret":
            return JSONResponse({"ok": False, "error": "invalid_auth"})
        self.opened += 1
        ticket = f"ticket-{self.opened}"
        self.tickets.add(ticket)
        return JSONResponse({"ok": True, "url": f"ws://127.0.0.1:{self.port}/link/?ticket={ticket}"})

    async def open_view(self, request: Request) -> JSONResponse:
        """Answer ``views.open``, which opens a dialog, only for the bot token."""
        assert request.headers["authorization"] == "Bearer xoxb-secret"
        self.views.append(await request.json())
        return JSONResponse({"ok": True})

    async def link(self, socket: WebSocket) -> None:
        """Serve one WebSocket: send the greeting, then collect the acknowledgements."""
        ticket = socket.query_params.get("ticket", "")
        assert ticket in self.tickets, "an address works once"
        self.tickets.remove(ticket)
        await socket.accept()
        await socket.send_json({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A01"}})
        self.sockets.append(socket)
        try:
            while True:
                self.acknowledged.append(await socket.receive_json())
        except WebSocketDisconnect:
            pass

    async def send(self, kind: str, payload: dict[str, Any], envelope: str, **more: Any) -> dict[str, Any]:
        """Send an event over the newest WebSocket, and return its acknowledgement."""
        event = {"type": kind, "envelope_id": envelope, "payload": payload, "accepts_response_payload": False, **more}
        before = len(self.acknowledged)
        await self.sockets[-1].send_json(event)
        await eventually(lambda: len(self.acknowledged) > before)
        return self.acknowledged[-1]


async def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def fake_slack() -> AsyncIterator[FakeSlack]:
    """Start the server."""
    slack = FakeSlack()
    app = Starlette(
        routes=[
            Route("/api/apps.connections.open", slack.open_connection, methods=["POST"]),
            Route("/api/views.open", slack.open_view, methods=["POST"]),
            WebSocketRoute("/link/", slack.link),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=slack.port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    try:
        yield slack
    finally:
        server.should_exit = True
        await serving


@dataclass
class Connected:
    """A service whose socket is connected."""

    web: WebService
    slack: FakeSlack
    socket: SlackSocket
    replies: list[Reply]

    def press(self, verb: str, user: str, value: str, at: str = "1.1") -> dict[str, Any]:
        """Return the payload of a pressed button."""
        return {
            "type": "block_actions",
            "team": {"id": "T01"},
            "user": {"id": user},
            "trigger_id": "trigger-1",
            "response_url": "https://hooks.slack.com/actions/x",
            "actions": [{"action_id": f"remediator.{verb}", "value": value, "action_ts": at}],
        }

    def value(self, asked: approvals.Approval) -> str:
        """Return the value of the buttons of a request."""
        link = ApprovalLink(asked.id, asked.run_id, asked.plan_hash, "channel:chat", asked.expires_at)
        return link.token(self.web.service.keyring, self.web.clock.now(), BUTTON)


@asynccontextmanager
async def connection(folder: Path, slack: FakeSlack, **settings: Any) -> AsyncIterator[Connected]:
    """Start a service, and connect it to the server."""
    (folder / "app.token").write_text("xapp-1-secret")
    (folder / "bot.token").write_text("xoxb-secret")
    chat = {"app_token_file": "app.token", "bot_token_file": "bot.token", "api": slack.url}
    async with web_service(folder, access={"slack": chat}, **settings) as web:
        service, replies = web.service, list[Reply]()
        events = slack_events(service.context, service.config, service.access, service.keyring, service.clients)

        async def reply(answer: Reply) -> None:
            replies.append(answer)

        socket = SlackSocket(events.settings, events, SystemClock(), reply)
        running = asyncio.create_task(socket.run())
        await eventually(lambda: socket.connected)
        yield Connected(web, slack, socket, replies)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connected]:
    """Return a service that is connected to the server."""
    monkeypatch.setattr(slack_socket, "FIRST_PAUSE", 0.05)
    async with fake_slack() as slack, connection(tmp_path, slack) as made:
        yield made


@pytest.mark.promise(6)
async def test_a_press_counts_once(connected: Connected) -> None:
    """The approval counts once for the person in the people file, also if Slack sends the event again."""
    asked = await connected.web.request_approval()
    press = connected.press("approve", "U00", connected.value(asked))
    assert await connected.slack.send("interactive", press, "e-1") == {"envelope_id": "e-1"}
    assert (await connected.web.state(asked)).status == "approved"
    assert connected.replies == []
    assert await connected.slack.send("interactive", press, "e-1", retry_attempt=1) == {"envelope_id": "e-1"}
    await connected.slack.send("interactive", press, "e-2")
    assert connected.replies[-1].text == "Nothing was changed: this request is approved."
    log = await connected.web.audit_text()
    assert log.count('"verb":"approve"') == 1 and '"how":"slack"' in log


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    ("user", "change", "told"),
    [
        ("U77", lambda value: value, "Slack user U77 is not in the people file"),
        ("U00", lambda value: value[:-4] + "AAAA", "this button was not made by this service"),
        ("U04", lambda value: value, "may not do this"),
    ],
)
async def test_a_press_that_does_not_count(
    connected: Connected, user: str, change: Callable[[str], str], told: str
) -> None:
    """A press by an unknown person or a viewer, and a forged button, change nothing, and the answer has the reason."""
    asked = await connected.web.request_approval()
    await connected.slack.send("interactive", connected.press("approve", user, change(connected.value(asked))), "e-1")
    assert told in connected.replies[-1].text
    assert (await connected.web.state(asked)).status == "pending"


async def test_a_rejection_asks_for_a_reason(connected: Connected) -> None:
    """*Reject* opens a dialog; only its submission decides, and its reason is recorded."""
    asked = await connected.web.request_approval()
    await connected.slack.send("interactive", connected.press("reject", "U00", connected.value(asked)), "e-1")
    assert (await connected.web.state(asked)).status == "pending"
    [opened] = connected.slack.views
    assert opened["trigger_id"] == "trigger-1" and len(opened["view"]["title"]["text"]) <= 24
    assert len(opened["view"]["private_metadata"]) <= 3000
    submitted = {
        "type": "view_submission",
        "team": {"id": "T01"},
        "user": {"id": "U00"},
        "view": {
            "id": "V1",
            "callback_id": opened["view"]["callback_id"],
            "private_metadata": opened["view"]["private_metadata"],
            "state": {"values": {"reason": {"reason": {"value": "we fix it by hand"}}}},
        },
    }
    assert await connected.slack.send("interactive", submitted, "e-2") == {"envelope_id": "e-2"}
    assert (await connected.web.state(asked)).status == "rejected"
    assert "we fix it by hand" in await connected.web.audit_text()


async def test_a_command_starts_a_run(connected: Connected) -> None:
    """``/remediator start`` is answered in the acknowledgement; an approver cannot start a run."""
    fields = {
        "team_id": "T01",
        "user_id": "U03",
        "command": "/remediator",
        "text": "start redis-disk-full redis -- full",
    }
    more = {"accepts_response_payload": True}
    answer = await connected.slack.send("slash_commands", fields, "e-1", **more)
    assert "started: redis-disk-full on redis, mode approve" in answer["payload"]["text"]
    [run] = await connected.web.context.store.read(lambda connection: runs.list_page(connection, 5))
    assert run.playbook == "redis-disk-full"
    refused = await connected.slack.send("slash_commands", {**fields, "user_id": "U00"}, "e-2", **more)
    assert "needs the role 'operator'" in refused["payload"]["text"]
    unknown = await connected.slack.send("slash_commands", {**fields, "text": "dance"}, "e-3", **more)
    assert unknown["payload"]["text"].startswith("Commands: start PLAYBOOK")


@pytest.mark.promise(14)
async def test_the_socket_is_opened_again(connected: Connected) -> None:
    """Events arrive over a new connection after a reconnect request from Slack, and after a broken connection."""
    await connected.slack.sockets[-1].send_json({"type": "disconnect", "reason": "refresh_requested"})
    await eventually(lambda: len(connected.slack.sockets) == 2 and connected.socket.connected)
    await connected.slack.sockets[-1].close(1011)
    await eventually(lambda: len(connected.slack.sockets) == 3 and connected.socket.connected)
    asked = await connected.web.request_approval()
    await connected.slack.send("interactive", connected.press("approve", "U00", connected.value(asked)), "e-9")
    assert (await connected.web.state(asked)).status == "approved"


@pytest.mark.promise(1)
async def test_an_event_is_not_acknowledged_while_the_store_is_down(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack sends the event again, and then the press counts."""
    asked = await connected.web.request_approval()
    press = connected.press("pause", "U00", connected.value(asked))
    press["trigger_id"] = ""  # the press needs no dialog
    store, tried = connected.web.context.store, asyncio.Event()

    async def down(work: Any) -> Any:
        tried.set()
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", down)
        await connected.slack.sockets[-1].send_json({"type": "interactive", "envelope_id": "e-1", "payload": press})
        await asyncio.wait_for(tried.wait(), 10)
    assert connected.slack.acknowledged == []
    assert await connected.slack.send("interactive", press, "e-1", retry_attempt=1) == {"envelope_id": "e-1"}
    listed = await store.read(lambda connection: stops.list_active(connection, connected.web.clock.now()))
    assert [item.created_by for item in listed] == ["ann"]


@pytest.mark.process
@pytest.mark.promise(2)
async def test_of_two_replicas_one_answers(tmp_path: Path, migrated_url: str) -> None:
    """Each replica has its own connection. A press counts once on any replica, also if both receive it."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    shared = {"store": migrated_url}
    async with fake_slack() as slack, connection(one, slack, **shared) as first:
        (two / "state").mkdir()
        shutil.copy(one / "state/links.key", two / "state/links.key")
        async with connection(two, slack, **shared) as second:
            assert slack.opened == len(slack.sockets) == 2
            to_first, to_second = slack.sockets
            asked = await first.web.request_approval()
            press = first.press("approve", "U00", first.value(asked))
            for socket, envelope in ((to_second, "e-1"), (to_first, "e-2")):  # Slack got no answer, and sends it again
                await socket.send_json({"type": "interactive", "envelope_id": envelope, "payload": press})
                await eventually(lambda envelope=envelope: {"envelope_id": envelope} in slack.acknowledged)
            assert second.replies == [], "the replica that recorded the decision answers in the message"
            assert [item.text for item in first.replies] == ["Nothing was changed: this request is approved."]

            stop = {**first.press("pause", "U00", first.value(asked), at="2.2"), "trigger_id": ""}
            events = [(to_first, "e-3"), (to_second, "e-4")]
            both = ({"type": "interactive", "envelope_id": name, "payload": stop} for _, name in events)
            await asyncio.gather(*(socket.send_json(event) for (socket, _), event in zip(events, both, strict=True)))
            await eventually(lambda: len(slack.acknowledged) == 4)
            now = first.web.clock.now()
            for replica in (first, second):
                assert (await replica.web.state(asked)).status == "approved"
                listed = await replica.web.context.store.read(lambda connection: stops.list_active(connection, now))
                assert [item.created_by for item in listed] == ["ann"]
            log = await second.web.audit_text()
            assert log.count('"verb":"approve"') == 1


def test_the_manifest_has_what_the_service_uses() -> None:
    """The manifest has Socket Mode, interactivity, the command, and the scopes of the calls of the service."""
    manifest = yaml.safe_load((Path(__file__).parents[2] / "deploy/slack/manifest.yaml").read_text())
    assert manifest["settings"]["socket_mode_enabled"] and manifest["settings"]["interactivity"]["is_enabled"]
    assert {"chat:write", "files:write", "commands"} <= set(manifest["oauth_config"]["scopes"]["bot"])
    assert [item["command"] for item in manifest["features"]["slash_commands"]] == ["/remediator"]
    assert json.dumps(manifest)
