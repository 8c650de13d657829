"""A service without its loops: a real store with a run that waits for approval, and its web application."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from sqlalchemy import insert

from remediator.audit import Redactor
from remediator.config import Config, MessageChannel
from remediator.core.alert import ALERTMANAGER
from remediator.core.approval import ApprovalLink
from remediator.core.identity import hash_token, make_token
from remediator.core.notification_policy import Approvals
from remediator.core.plan import Plan, PlannedCall, PlannedCheck, PlannedStep
from remediator.core.reason import Reason
from remediator.core.run import Run
from remediator.core.run_detail import AwaitingApprovalDetail
from remediator.core.tokens import create_keyring, load_keyring
from remediator.extensions.clientset import ClientSet
from remediator.extensions.notifiers.base import Message
from remediator.extensions.notifiers.log import LogNotifier
from remediator.extensions.registry import Registry
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.ingest import IngestSettings
from remediator.pipeline.match import Index
from remediator.pipeline.receive import Credentials
from remediator.playbooks.loader import load_config
from remediator.reporting.messages import MessageRenderer
from remediator.runtime.access import AccessControl
from remediator.runtime.live_inventory import LiveInventory
from remediator.runtime.metrics import Metrics
from remediator.runtime.outbox import Outbox, deliver
from remediator.runtime.reload import reload_settings
from remediator.runtime.store_access import database_file, open_store
from remediator.runtime.worker import Worker
from remediator.service import Service, read_only_context
from remediator.storage import Tx
from remediator.storage.repositories import approvals, audit, evidence, run_claims, runs
from remediator.storage.repositories import outbox as messages
from remediator.storage.repositories.approvals import Approval
from remediator.storage.repositories.evidence import EvidenceRecord
from remediator.storage.schema import episodes, run_episodes
from remediator.storage.schema import runs as runs_table
from remediator.web.application import Application
from tests.support.guard_history import MINUTE, NOON, SetClock, alert, row
from tests.support.stores import new_file

BASE = "http://remediator.test"

PLAYBOOK = {
    "apiVersion": "remediator/v1",
    "kind": "Playbook",
    "name": "redis-disk-full",
    "summary": "Makes room for Redis.",
    "match": {"alertname": "RedisDiskFull"},
    "mode": "approve",
    "target": "redis",
    "about": {"any": "the alerts of these tests have no labels"},
    "conclude": [{"id": "full", "when": "true", "cause": "The disk is full."}],
    "steps": [{"id": "restart", "action": "service.restart", "for": "full"}],
    "verify": {"checks": [{"check": "redis.ping"}]},
    "escalate": {"to": ["oncall"]},
}
INVENTORY = {
    "apiVersion": "remediator/v1",
    "kind": "Inventory",
    "services": {
        "redis": {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "redis"}},
        "app": {"platform": {"kind": "supervisor", "url": "unix:///none", "program": "app"}, "depends_on": ["redis"]},
    },
}


def step(*, destructive: bool = False) -> PlannedStep:
    """Return a step that changes something."""
    return PlannedStep(
        id="prune",
        title="Delete old backups",
        action="service.restart",
        parameters={},
        call=PlannedCall("move 3 files of /backups to quarantine", {}, {}, "move them back", "the oldest backups go"),
        mutates=True,
        idempotent=False,
        destructive=destructive,
        timeout=30.0,
        attempts=1,
        backoff=0.0,
        when=None,
        on_success="verify",
        on_failure="next",
        approval=False,
    )


@dataclass
class WebService:
    """A service with its web application, and methods that fill its store."""

    service: Service
    clock: SetClock
    tokens: Mapping[str, str]
    numbers: int = field(default=0)
    _applied: tuple[Service, Any] | None = None

    @property
    def context(self) -> PipelineContext:
        """Return the pipeline context of the service."""
        return self.service.context

    def client(self, **more: Any) -> httpx.AsyncClient:
        """Return a client that keeps cookies and does not follow redirects."""
        if self._applied is None or self._applied[0] is not self.service:  # one application, as in production
            self._applied = (self.service, Application(self.service))
        transport = httpx.ASGITransport(self._applied[1], client=more.pop("client", ("192.0.2.7", 1234)))
        return httpx.AsyncClient(transport=transport, base_url=BASE, **more)

    def bearer(self, who: str) -> dict[str, str]:
        """Return the headers with a person's operator token."""
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    async def request_approval(
        self,
        *,
        destructive: bool = False,
        quorum: int = 1,
        groups: tuple[str, ...] = (),
        reason: Reason = Reason.APPROVAL_NEEDED,
        labels: Mapping[str, str] | None = None,
        steps: Sequence[PlannedStep] = (),
        summary: str = "The disk of Redis is 97 % full.",
        cause: str = "",
        incident: str = "",
        measured: str = "97 % of 1 GiB used, 800 MiB of it backups",
    ) -> Approval:
        """Create a run that waits for approval, with alert, evidence and request. All of ``steps`` are due."""
        planned = tuple(steps) or (step(destructive=destructive),)
        self.numbers += 1
        run_id = f"run-{self.numbers}"
        plan = Plan(
            playbook="redis-disk-full",
            playbook_hash=self.context.playbooks.active[0].content_hash,
            target="redis",
            mode="approve",
            parameters={},
            steps=planned,
            checks=(PlannedCheck("redis.ping"),),
            settle=1.0,
            within=30.0,
            escalate_to=("oncall",),
            escalate_message="",
            approval_groups=groups,
            quorum=quorum,
        )

        def write(tx: Tx) -> Run:
            values = row(run_id, plan.playbook, "redis", "planned", tx.now, mode="approve", fence=1)
            values |= {"playbook_hash": plan.playbook_hash, "plan": plan.to_data(), "plan_hash": plan.hash}
            values |= {"incident_id": incident}
            values |= {"lease_owner": "replica-1", "lease_until": tx.now + MINUTE}
            tx.connection.execute(insert(runs_table), values)
            told = {"summary": summary}
            item = replace(
                alert(self.numbers, at=tx.now, **{"instance": "redis:6379", **(labels or {})}), annotations=told
            )
            item = replace(item, alertname="RedisDiskFull", identity=f"identity-{run_id}")
            tx.connection.execute(insert(episodes), {name: getattr(item, name) for name in item.__dataclass_fields__})
            tx.connection.execute(insert(run_episodes), {"run_id": run_id, "episode_id": item.id, "joined_at": tx.now})
            run = runs.get(tx.connection, run_id)
            assert run is not None
            seen = [EvidenceRecord("diagnose", "disk", "fail", measured, {}, tx.now)]
            if cause:
                seen.append(EvidenceRecord("conclude", "cause", "ok", cause, {"typed": True}, tx.now))
            evidence.add(tx, run, seen, "test")
            after = approvals.request(
                tx,
                self.context.ids,
                run,
                plan,
                None,
                reason,
                AwaitingApprovalDetail(),
                "test",
                [each.id for each in planned],
            )
            run_claims.release(tx, after, after.wake_at, after.wakeup_count)
            return after

        await self.context.store.write(write)
        found = await self.context.store.read(lambda connection: approvals.get_pending(connection, run_id))
        assert found is not None
        return found

    def link(self, asked: Approval, audience: str = "channel:chat") -> str:
        """Return the path of a link to a request."""
        link = ApprovalLink(asked.id, asked.run_id, asked.plan_hash, audience, asked.expires_at)
        return f"/approve/{link.token(self.service.keyring, self.clock.now())}"

    async def state(self, asked: Approval) -> Approval:
        """Return the current state of a request."""
        found = await self.context.store.read(lambda connection: approvals.get(connection, asked.id))
        assert found is not None
        return found

    async def head(self) -> int:
        """Return the number of audit log entries. If it is unchanged, no transition happened."""
        return (await self.context.store.read(audit.get_head)).seq

    async def audit_text(self) -> str:
        """Return the audit log as text."""
        found = await self.context.store.read(lambda connection: audit.list_newest(connection, 1000))
        return "\n".join(item.canonical.decode() for item in found)

    async def audit_kinds(self) -> set[str]:
        """Return the kinds of all audit entries."""
        found = await self.context.store.read(lambda connection: audit.list_newest(connection, 1000))
        return {item.kind for item in found}

    @property
    def started(self) -> datetime:
        """Return the time of the clock at the start."""
        return NOON

    async def outbox(self, run_id: str) -> list[messages.OutboxMessage]:
        """Return the messages of a run."""
        return await self.context.store.read(lambda connection: messages.list_for_run(connection, run_id))

    async def deliver(self, post: Outbox) -> None:
        """Send all due messages once, as the outbox loop does."""
        due = await self.context.store.read(lambda connection: messages.list_due(connection, self.clock.now()))
        for message in due:
            await deliver(self.context, post, message)

    def post(self, channels: Mapping[str, Any], *approvals_: str, policy: Approvals | None = None) -> Outbox:
        """Return an outbox with these channels."""
        renderer = MessageRenderer(self.service.keyring, BASE)
        chosen = {name: MessageChannel.model_validate(item) for name, item in channels.items()}
        policy = policy or Approvals(channels=approvals_, remind_after=timedelta(0))
        quiet = {name: item.quiet_hours for name, item in chosen.items() if item.quiet_hours}
        made = Registry().make_channels(chosen)
        return Outbox(made, LogNotifier({}), policy, renderer, self.service.access, quiet_hours=quiet)


@asynccontextmanager
async def web_service(folder: Path, world: ClientSet | None = None, **settings: Any) -> AsyncIterator[WebService]:
    """Run a service in a folder. ``settings`` override the default settings."""
    tokens = {name: make_token() for name in ("ann", "bob", "eve", "oscar", "victor")}
    _write_files(folder, tokens)
    data = {
        "apiVersion": "remediator/v1",
        "kind": "Config",
        "listen": "127.0.0.1:8095",
        "public_url": BASE,
        "state": "state",
        "playbooks": ["redis-disk-full.yaml"],
        "inventory": "inventory.yaml",
        "access": {"people": "people.yaml", "anonymous_role": "viewer"},
    }
    (folder / "remediator.yaml").write_text(yaml.safe_dump(_over(data, settings)))
    config = load_config(folder / "remediator.yaml", Config)
    clock = SetClock(NOON)
    async with AsyncExitStack() as stack:
        if config.store == "sqlite" and not (file := database_file(config)).exists():
            new_file(file)
        store = open_store(config, clock, Redactor())
        stack.push_async_callback(store.close)
        context = await stack.enter_async_context(read_only_context(config, store, clock))
        registry = Registry()
        ingest = IngestSettings(frozenset(), timedelta(0), "W", sources=registry.make_sources(config))
        loops = Worker(context, Index(context.playbooks.active, "Watchdog"), ingest)
        create_keyring(config.state / "links.key")
        keyring = load_keyring(config.state / "links.key")
        metrics, access = Metrics(), AccessControl.load(config, folder / "remediator.yaml")
        if "webhook" not in settings:  # most of these tests do not concern the token of Alertmanager
            access.rules = replace(access.rules, credentials={**access.rules.credentials, ALERTMANAGER: Credentials()})
        context.current_person, context.allow_link_only = access.person, config.approvals.allow_link_only
        reloading = reload_settings(
            config, registry, loops, metrics, store, access, LiveInventory(context.playbooks.inventory), ()
        )
        service = Service(config, context, loops, metrics, access, keyring, world or ClientSet(), registry, reloading)
        yield WebService(service, clock, tokens)


def _over(data: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in more.items():
        both = isinstance(value, Mapping) and isinstance(data.get(name), dict)
        data[name] = _over(dict(data[name]), value) if both else value
    return data


def _write_files(folder: Path, tokens: Mapping[str, str]) -> None:
    (folder / "redis-disk-full.yaml").write_text(yaml.safe_dump(PLAYBOOK))
    (folder / "inventory.yaml").write_text(yaml.safe_dump(INVENTORY))
    roles = {"ann": ["approver"], "bob": ["approver"], "eve": ["approver"], "oscar": ["operator"], "victor": ["viewer"]}
    groups = {"ann": ["sre"], "bob": ["sre"], "oscar": ["sre"]}
    people = {
        name: {
            "roles": roles[name],
            "groups": groups.get(name, []),
            "tokens": [hash_token(token)],
            "slack": f"T01/U{number:02}",
        }
        for number, (name, token) in enumerate(tokens.items())
    }
    (folder / "people.yaml").write_text(yaml.safe_dump({"kind": "People", "people": people}))


def nonce_of(page: str) -> str:
    """Return the nonce of a page's form."""
    return page.partition('name="nonce" value="')[2].partition('"')[0]


def text_of(page: str) -> str:
    """Return the text of a page's main part, without tags, on one line."""
    main = page.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", main)).split())


async def submit_decision(client: httpx.AsyncClient, path: str, verb: str, **fields: str) -> httpx.Response:
    """Open a page and submit its form with one of its buttons."""
    page = await client.get(path)
    return await client.post(path, data={"nonce": nonce_of(page.text), "verb": verb, **fields})


__all__ = ["BASE", "Message", "WebService", "nonce_of", "submit_decision", "text_of", "web_service"]
