"""The messages of each kind for each channel, as files to read.

``GOLDEN=write`` rewrites the files. Read them as the on-call before you commit them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import respx
import structlog
import yaml
from aiosmtpd.controller import Controller
from sqlalchemy import insert, update

from remediator.core.approval import ApprovalStatus
from remediator.core.notification_policy import Approvals
from remediator.core.reason import Reason
from remediator.core.run import Run
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.runtime.outbox import Outbox
from remediator.storage import Tx
from remediator.storage.repositories import approvals, outbox, runs
from remediator.storage.repositories.approvals import Approval
from remediator.storage.schema import attempts
from remediator.storage.schema import runs as runs_table
from tests.extensions.notifiers.test_notifiers import ANSWERS, KINDS, Mailbox, settings
from tests.support.guard_history import MINUTE
from tests.support.servers import free_port
from tests.support.servers.receivers import receiver
from tests.support.web_service import WebService, web_service

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*imghdr:DeprecationWarning"),  # required by Apprise
]

GOLDEN = Path(__file__).parent / "golden" / "messages"
EVENTS = ("ask", "reminder", "page", "heal", "relapse", "outdated", "escalation")
Take = Callable[[], list[str]]


@asynccontextmanager
async def channel(kind: str, folder: Path) -> AsyncIterator[tuple[dict[str, Any], Take]]:
    """Yield the settings of a channel, and a function that returns what it has sent since the last call."""
    given: dict[str, Any] = {"kind": kind, **settings(kind, folder)}
    if kind == "telegram":
        given["buttons"] = True
    if kind == "email":
        box = Mailbox()
        controller = Controller(box, "127.0.0.1", port := free_port())
        controller.start()
        try:
            yield {**given, "port": port}, _new(lambda: [_mail(mail) for mail in box.mails])
        finally:
            controller.stop()
    elif kind == "apprise":
        with receiver() as chat:
            (folder / "urls").write_text(chat.url.replace("http://", "json://"))
            yield given, _new(lambda: [_readable(item.body) for item in chat.received])
    elif kind == "log":
        with structlog.testing.capture_logs() as logged:
            yield given, _new(lambda: [_dumped(entry) for entry in logged])
    else:
        async with respx.mock(assert_all_called=False) as router:
            router.route().mock(return_value=httpx.Response(200, json=ANSWERS.get(kind, {})))
            yield given, _new(lambda: [_request(call.request) for call in router.calls])


def _new(everything: Callable[[], list[str]]) -> Take:
    taken = 0

    def take() -> list[str]:
        nonlocal taken
        found = everything()
        new, taken = found[taken:], len(found)
        return new

    return take


def _request(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}\n{_readable(request.content)}"


def _readable(body: bytes) -> str:
    return _dumped(json.loads(body))


def _dumped(value: Any) -> str:
    return yaml.safe_dump(json.loads(json.dumps(value, default=str)), allow_unicode=True, sort_keys=False, width=110)


def _mail(raw: bytes) -> str:
    mail = message_from_bytes(raw, policy=default)
    part = mail.get_body(("plain",))
    assert part is not None
    return f"Subject: {mail['Subject']}\n\n{part.get_content()}".replace("\r\n", "\n")


class Story:
    """Messages of two incidents: one is requested, reminded, paged, healed and relapses; the other is outdated and then
    expires."""

    def __init__(self, web: WebService, post: Outbox, take: Take) -> None:
        self.web, self.post, self.take = web, post, take
        self.sent: dict[str, list[str]] = {}

    async def tell(self) -> dict[str, list[str]]:
        """Run all steps, and return the sent messages by event."""
        first = await self.ask_until_paged()
        await self.heal(first)
        self.web.clock.time += timedelta(minutes=2)
        await self._write(lambda tx: self._relapse(tx, first))
        await self._send("relapse")
        second = await self._ask(2)
        await self._send("ask of the second incident")
        await self._write(lambda tx: self._outdate(tx, second))
        await self._send("outdated")
        self.web.clock.time += timedelta(minutes=20)
        await self._write(lambda tx: self._expire(tx, second))
        await self._send("escalation")
        return {name: self.sent[name] for name in EVENTS}

    async def ask_until_paged(self) -> Approval:
        """Send the request, the reminder and the page, because no person decides."""
        asked = await self._ask(1)
        await self._send("ask")
        self.web.clock.time += timedelta(minutes=5)
        await self._send("reminder")
        self.web.clock.time += timedelta(minutes=4)
        await self._send("page")
        return asked

    async def heal(self, asked: Approval) -> None:
        """Approve the request, and let the run succeed."""
        await self._write(lambda tx: self._heal(tx, asked))
        await self._send("heal")

    async def _ask(self, number: int) -> Approval:
        asked = await self.web.request_approval(labels={"severity": "warning"})
        chosen = update(runs_table).where(runs_table.c.id == asked.run_id)
        values = {"incident_id": f"incident-{number}"}
        await self._write(lambda tx: tx.connection.execute(chosen.values(**values)))
        return asked

    async def _send(self, name: str) -> None:
        for _ in range(40):
            await self.web.deliver(self.post)
            self.web.clock.time += timedelta(seconds=1)
        self.sent[name] = self.take()

    async def _write(self, work: Callable[[Tx], Any]) -> None:
        await self.web.context.store.write(work)

    def _run(self, tx: Tx, asked: Approval) -> Run:
        run = runs.get(tx.connection, asked.run_id)
        assert run is not None
        return run

    def _set(self, tx: Tx, asked: Approval, **values: Any) -> Run:
        tx.connection.execute(update(runs_table).where(runs_table.c.id == asked.run_id).values(**values))
        return self._run(tx, asked)

    def _heal(self, tx: Tx, asked: Approval) -> None:
        approvals.decide(
            tx, asked, asked.plan_hash, approvals.Decision("ann", "approve", tx.now, "looks right", "token")
        )
        done = {
            "id": "attempt-1",
            "run_id": asked.run_id,
            "step": "prune",
            "number": 1,
            "action": "service.restart",
            "playbook": "redis-disk-full",
            "target": "redis",
            "mutates": True,
            "is_undo": False,
            "call": {"text": "move 3 files of /backups to quarantine", "arguments": {}, "pin": {}},
            "fence": 1,
            "intent_at": tx.now - timedelta(seconds=12),
            "outcome": "ok",
            "outcome_at": tx.now - timedelta(seconds=10),
            "result": {"summary": "3 files moved, 800 MiB free"},
        }
        tx.connection.execute(insert(attempts), done)
        detail = {"step": "prune", "proof": ["Redis: a value was written, read back and deleted"]}
        ended = {"status": "succeeded", "reason": "verified", "detail": detail, "finished_at": tx.now}
        self._set(tx, asked, **ended, first_action_at=tx.now - timedelta(seconds=12))
        outbox.enqueue_update(tx, asked.run_id, "succeeded")
        outbox.enqueue_incident_update(tx, self._run(tx, asked), "succeeded")

    def _relapse(self, tx: Tx, asked: Approval) -> None:
        runs.mark_ineffective(tx, asked.run_id)
        run = self._run(tx, asked)
        detail = {"text": "redis.ping: no answer; 2m after it was healed"}
        content = {"status": "succeeded", "reason": "relapsed", "detail": detail}
        outbox.enqueue_for_incident(tx, self.web.context.ids, "escalation", run, content, ("chat",))

    def _outdate(self, tx: Tx, asked: Approval) -> None:
        run = self._run(tx, asked)
        approvals.void(tx, run, "the target has changed, and the plan with it", "test")
        step = asked.plan.steps[0]
        call = msgspec.structs.replace(step.call, text="move 5 files of /backups to quarantine")
        plan = msgspec.structs.replace(asked.plan, steps=(msgspec.structs.replace(step, call=call),))
        held = {"lease_owner": "replica-1", "lease_until": tx.now + MINUTE, "fence": 2}
        run = self._set(tx, asked, status="planned", plan=plan.to_data(), plan_hash=plan.hash, **held)
        ids, detail = self.web.context.ids, AwaitingApprovalDetail()
        approvals.request(tx, ids, run, plan, None, Reason.APPROVAL_NEEDED, detail, "test", ("prune",))

    def _expire(self, tx: Tx, asked: Approval) -> None:
        pending = approvals.get_pending(tx.connection, asked.run_id)
        assert pending is not None
        approvals.close(tx, pending, ApprovalStatus.EXPIRED)
        detail = {"approval": pending.id, "expired_at": pending.expires_at.isoformat()}
        values = {"status": "escalated", "reason": "approval_expired", "detail": detail, "finished_at": tx.now}
        run = self._set(tx, asked, **values, incident_open=True)
        content = {"status": "escalated", "reason": "approval_expired", "detail": detail}
        outbox.enqueue_for_incident(tx, self.web.context.ids, "escalation", run, content, ("chat",))


def _stable(text: str) -> str:
    """Replace values that differ in each run: IDs, tokens and proofs."""
    text = re.sub(r"/approve/[\w.-]+", "/approve/TOKEN", text)
    text = re.sub(r"\b[0-9a-f]{8}\.[\w-]{20,}\.[\w-]{43}", "TOKEN", text)
    text = re.sub(r":[\w-]{22}(?=\s|$|')", ":PROOF", text, flags=re.MULTILINE)
    text = re.sub(r"\b(approval|message)-[0-9a-hjkmnp-tv-z]{17}", r"\1-ID", text)
    return re.sub(r"\b[0-9a-f]{64}\b", "HASH", text)


@pytest.mark.promise(13)
@pytest.mark.parametrize("kind", ["teams", "google_chat", "email"])
async def test_a_channel_gets_the_result_once(kind: str, tmp_path: Path) -> None:
    """A channel that got the request and the page, and cannot edit its messages, gets one closing message."""
    async with web_service(tmp_path) as web, channel(kind, tmp_path) as (given, take):
        policy = Approvals(channels=("chat",), page_channels=("chat",))
        post = web.post({"chat": given}, policy=policy)
        story = Story(web, post, take)
        asked = await story.ask_until_paged()
        assert len(story.sent["page"]) == 1
        await story.heal(asked)
        await post.aclose()
    assert len(story.sent["heal"]) == 1 and "Healed" in story.sent["heal"][0]


@pytest.mark.promise(13)
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_messages_are_the_golden_files(kind: str, tmp_path: Path) -> None:
    """The request, reminder, page, success, relapse, outdated request and escalation match their golden files."""
    async with web_service(tmp_path) as web, channel(kind, tmp_path) as (given, take):
        policy = Approvals(channels=("chat",), page_channels=("pager",))
        post = web.post({"chat": given, "pager": given}, policy=policy)
        sent = await Story(web, post, take).tell()
        await post.aclose()
    parts = [f"=== {name} ===\n" + "\n---\n".join(texts or ["(nothing)\n"]) for name, texts in sent.items()]
    made = _stable("\n".join(parts))
    golden = GOLDEN / f"{kind}.txt"
    if os.environ.get("GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(made, encoding="utf-8")
    assert made == golden.read_text(encoding="utf-8")
