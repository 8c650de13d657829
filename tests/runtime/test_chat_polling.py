"""The buttons of Telegram against a test server with its protocol: long polling with an offset, and callback
queries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from remediator.extensions.notifiers.telegram import TelegramNotifier
from remediator.runtime.chat_loops import chat_actions
from remediator.runtime.chat_polling import LEASE, ButtonPoller
from remediator.storage.repositories import stops
from remediator.storage.repositories.approvals import Approval
from tests.runtime.test_slack_socket import eventually
from tests.support.servers import free_port
from tests.support.web_service import WebService, web_service

CHAT = "-1001"


@dataclass
class FakeTelegram:
    """A server with the methods of the Bot API that the service uses. It keeps each update until the client confirms
    it."""

    port: int = field(default_factory=free_port)
    updates: list[dict[str, Any]] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)

    async def call(self, request: Request) -> JSONResponse:
        """Answer one method of the API."""
        if request.path_params["bot"] != "bot1:secret":
            return JSONResponse({"ok": False, "error_code": 401, "description": "Unauthorized"}, 401)
        body, method = await request.json(), request.path_params["method"]
        if method == "getUpdates":
            assert body["allowed_updates"] == ["callback_query"]
            self.updates = [item for item in self.updates if item["update_id"] >= body["offset"]]
            return JSONResponse({"ok": True, "result": self.updates})
        if method == "answerCallbackQuery":
            assert len(body["text"]) <= 200
            self.answers.append(body)
            return JSONResponse({"ok": True, "result": True})
        self.sent.append(body)
        return JSONResponse({"ok": True, "result": {"message_id": len(self.sent)}})

    def press(self, user: int, data: str, chat: str = CHAT) -> None:
        """Let a user press a button."""
        number = 100 + len(self.answers) + len(self.updates)
        query = {
            "id": f"query-{number}",
            "from": {"id": user, "is_bot": False, "first_name": "x"},
            "message": {"message_id": 1, "date": 1, "chat": {"id": int(chat), "type": "supergroup"}},
            "chat_instance": "1",
            "data": data,
        }
        self.updates.append({"update_id": number, "callback_query": query})

    def buttons(self) -> dict[str, str]:
        """Return the data of the buttons of the last message, by text."""
        rows = self.sent[-1]["reply_markup"]["inline_keyboard"]
        return {key["text"]: key["callback_data"] for row in rows for key in row if "callback_data" in key}


@asynccontextmanager
async def fake_telegram() -> AsyncIterator[FakeTelegram]:
    """Start the server."""
    telegram = FakeTelegram()
    app = Starlette(routes=[Route("/{bot}/{method}", telegram.call, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=telegram.port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    try:
        yield telegram
    finally:
        server.should_exit = True
        await serving


@dataclass
class Polled:
    """A service that polls the server, and a request in the chat."""

    web: WebService
    telegram: FakeTelegram
    notifier: TelegramNotifier
    asked: Approval

    def poller(self, replica: str = "r1") -> ButtonPoller:
        """Return the poller of a replica."""
        service, context = self.web.service, replace(self.web.context, replica=replica)
        actions = chat_actions(context, service.config, service.clients)
        return ButtonPoller(
            context, "chat", self.notifier, lambda: service.access.people, service.keyring, actions, wait=0
        )

    async def poll(self, poller: ButtonPoller) -> list[str]:
        """Poll once, and return the new answers."""
        before = len(self.telegram.answers)
        after = await self.web.context.store.write(lambda tx: poller.lease.claim(tx, 0))
        assert after is not None
        await poller.poll_once(after)
        return [item["text"] for item in self.telegram.answers[before:]]


@pytest.fixture
async def polled(tmp_path: Path) -> AsyncIterator[Polled]:
    """Return a request in a Telegram chat with buttons."""
    token = tmp_path / "telegram.token"
    token.write_text("1:secret")
    async with fake_telegram() as telegram, web_service(tmp_path) as web:
        people = yaml.safe_load((tmp_path / "people.yaml").read_text())
        for number, name in enumerate(people["people"]):
            people["people"][name]["telegram"] = str(700 + number)
        (tmp_path / "people.yaml").write_text(yaml.safe_dump(people))
        web.service.access.rules = replace(web.service.access.rules, people=web.service.access.read().people)
        settings = {"kind": "telegram", "token_file": str(token), "chat": CHAT, "buttons": True}
        settings["api"] = f"http://127.0.0.1:{telegram.port}"
        post = web.post({"chat": settings}, "chat")
        asked = await web.request_approval()
        await web.deliver(post)
        notifier = post.channels["chat"]
        assert isinstance(notifier, TelegramNotifier)
        yield Polled(web, telegram, notifier, asked)
        await post.aclose()


@pytest.mark.promise(6)
async def test_a_press_has_to_be_confirmed_and_counts_once(polled: Polled) -> None:
    """The first press asks for a second one, which decides; a repeated update changes nothing."""
    data = polled.telegram.buttons()
    assert list(data) == ["Approve", "Reject", "Not now", "Stop all actions"]
    assert max(len(value.encode()) for value in data.values()) <= 64
    poller = polled.poller()
    polled.telegram.press(700, data["Approve"])
    assert await polled.poll(poller) == ["Press approve again within 30 s to confirm."]
    assert (await polled.web.state(polled.asked)).status == "pending"
    polled.telegram.press(700, data["Approve"])
    assert await polled.poll(poller) == ["Recorded."]
    assert (await polled.web.state(polled.asked)).status == "approved"
    log = await polled.web.audit_text()
    assert log.count('"verb":"approve"') == 1 and '"how":"telegram"' in log
    assert await polled.poll(poller) == [], "the position is stored, so Telegram does not send the press again"


@pytest.mark.promise(6)
async def test_presses_that_do_not_count(polled: Polled) -> None:
    """A press by an unknown person or a viewer, a forged button, a button token for another decision, and another
    chat change nothing."""
    data, poller = polled.telegram.buttons(), polled.poller()
    reject = data["Reject"]
    polled.telegram.press(999, reject)
    polled.telegram.press(704, reject)
    polled.telegram.press(700, reject[:-4] + "AAAA")
    polled.telegram.press(700, "r" + data["Not now"][1:])
    polled.telegram.press(700, "nonsense")
    polled.telegram.press(700, reject, chat="-1002")
    told = await polled.poll(poller)
    assert "user 999 is not in the people file" in told[0] and "may not do this" in told[1]
    assert all("was not made by this service" in text for text in told[2:]) and len(told) == 5
    assert (await polled.web.state(polled.asked)).status == "pending"


@pytest.mark.promise(4)
async def test_one_replica_polls(polled: Polled) -> None:
    """Another replica continues after the last offset when the lease has ended."""
    store = polled.web.context.store
    first, second = polled.poller("r1"), polled.poller("r2")
    polled.telegram.press(700, polled.telegram.buttons()["Not now"])
    assert await polled.poll(first) == ["Recorded."]
    assert await store.write(lambda tx: second.lease.claim(tx, 0)) is None
    polled.web.clock.time += LEASE * 2
    after = await store.write(lambda tx: second.lease.claim(tx, 0))
    assert after == 100
    assert await store.write(lambda tx: first.lease.claim(tx, 0)) is None


async def test_pause_by_button(polled: Polled) -> None:
    """*Stop all actions* creates one stop with the person who pressed the button."""
    data, poller = polled.telegram.buttons(), polled.poller()
    for _ in range(2):
        polled.telegram.press(701, data["Stop all actions"])
        told = await polled.poll(poller)
    assert told[0].startswith("All actions are stopped.")
    now = polled.web.clock.now()
    listed = await polled.web.context.store.read(lambda connection: stops.list_active(connection, now))
    assert [item.created_by for item in listed] == ["bob"]
