"""Commands of people in a chat: decide, stop, silence, undo, acknowledge and start, by the same rules as on the pages.

A chat client proves who pressed a button; here the person is looked up, and the button's signature is checked. A press
that arrives twice has one effect: decisions, stops and undos count once, and a silence has the ID of its press.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from remediator.audit import Draft, Kind
from remediator.clients.alertmanager.client import Alertmanager, Matcher, NewSilence
from remediator.core.alert import ALERTMANAGER
from remediator.core.approval import Permission, PermissionDenied, Person
from remediator.core.clock import format_duration
from remediator.core.notification_policy import Approvals
from remediator.core.run import EpisodeKind, EpisodeStatus, Run
from remediator.errors import ClientError, InputError
from remediator.pipeline import decisions, manual_start, manual_undo, stop_commands
from remediator.pipeline.context import PipelineContext
from remediator.pipeline.decisions import DecisionRequest
from remediator.pipeline.manual_start import StartRequest
from remediator.storage import Tx
from remediator.storage.repositories import episodes, lookup, runs, stops
from remediator.storage.repositories.comments import CommentKind

NOTHING = "Nothing was changed: "


class Verb(StrEnum):
    """The effect of a button. The first three verbs decide on a request; the other verbs concern its run."""

    APPROVE = "approve"
    REJECT = "reject"
    SNOOZE = "snooze"
    PAUSE = "pause"
    ACKNOWLEDGE = "acknowledge"
    SILENCE = "silence"
    UNDO = "undo"


DECISIONS = (Verb.APPROVE, Verb.REJECT, Verb.SNOOZE)


@dataclass(frozen=True, slots=True)
class Press:
    """A button that a person pressed."""

    verb: Verb
    run: str
    person: Person
    id: str
    """Identifies the press; the same if the chat delivers it twice. Empty if the chat sends no ID."""
    approval: str = ""
    """For a decision: the request, and the hash of the plan that the message showed."""
    plan: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ChatActions:
    """Executes the requests of people in a chat.

    Args:
        context: the dependencies of the pipeline.
        policy: the settings of approvals.
        alertmanagers: where silences are created; the members of a cluster replicate them.
        silence_for: how long a silence lasts.
    """

    context: PipelineContext
    policy: Approvals
    alertmanagers: tuple[Alertmanager, ...] = ()
    silence_for: timedelta = timedelta(hours=1)

    async def press(self, press: Press) -> str:
        """Execute a button. Return a sentence for the person; empty if the message itself shows the result.

        Raises:
            StoreError: the store does not answer; nothing was changed, and the press may be delivered again.
        """
        try:
            if press.verb is Verb.SILENCE:
                return await self._silence(press)
            return str(await self.context.store.write(lambda tx: self._write(tx, press)))
        except PermissionDenied as error:
            await self._record_denial(press.person, press.verb, str(error))
            return f"{NOTHING}{error}"
        except InputError as error:
            return f"{NOTHING}{error}"

    async def _record_denial(self, person: Person, verb: str, why: str) -> None:
        draft = Draft(kind=Kind.ACCESS_REFUSED, actor=person.id, reason=why, data={"how": person.how, "command": verb})
        await self.context.store.write(lambda tx: tx.append_audit(draft))

    def _write(self, tx: Tx, press: Press) -> str:
        if press.verb in DECISIONS:
            request = DecisionRequest(press.approval, press.plan, press.verb.value, press.person, press.reason)
            result = decisions.decide(tx, request, self.policy)
            return "" if result.counted else f"{NOTHING}this request is {result.status}."
        if press.verb is Verb.PAUSE:
            run = runs.get(tx.connection, press.run)
            about = "" if run is None else f" ({run.playbook} on {run.target})"
            before = stops.get(tx.connection, press.id) if press.id else None
            if before is not None and before.released_at is not None:
                return f"{NOTHING}this click already created a stop, which was released since."
            chat = press.person.how.capitalize()
            said = press.reason.strip() or f"from {chat}, request for {press.run}{about}"
            stop_commands.create_stop(tx, press.person, said, request_id=press.id)
            return "All actions are stopped. To release the stop, use the console or 'remediator stop release'."
        if press.verb is Verb.ACKNOWLEDGE:
            decisions.comment(tx, press.person, press.run, press.reason, CommentKind.ACKNOWLEDGEMENT)
            return f"You take care of {press.run}. Messages about the incident name you."
        steps = manual_undo.request_undo(tx, press.person, press.run, press.reason)
        return f"Being undone: {', '.join(item.step.id for item in steps)}. The result is in the timeline of the run."

    async def _silence(self, press: Press) -> str:
        """Silence the firing alerts of a run, each by all of its labels, for a limited time.

        The audit entry is written first: every created silence has an entry, even if this process ends.
        """
        press.person.require(Permission.SILENCE)
        found = await self.context.store.read(lambda connection: episodes.list_for_run(connection, press.run))
        firing = [item for item in found if item.status is EpisodeStatus.FIRING and item.kind is EpisodeKind.ALERT]
        if not firing:
            return f"{NOTHING}no alert of {press.run} fires any more."
        if others := sorted({item.source for item in firing} - {ALERTMANAGER}):
            return f"{NOTHING}an alert is from {', '.join(others)}: silence it there."
        if not self.alertmanagers:
            return f"{NOTHING}no Alertmanager is in the settings."
        mark = f"remediator {press.run}, press {press.id or 'without an ID'}"

        def record(tx: Tx) -> None:
            run = runs.get(tx.connection, press.run)
            assert run is not None, "a run with alerts exists"
            data = {"command": "silence", "how": press.person.how, "alerts": [item.id for item in firing], "mark": mark}
            draft = runs.draft(Kind.OPERATOR_COMMAND, run, press.person.id, data, tx.redact(press.reason) or None)
            tx.append_audit(draft)

        try:
            active = [item for item in await self.alertmanagers[0].silences() if mark in item.comment]
            if press.id and active:
                return "The alerts are silenced already."
            await self.context.store.write(record)
            now = self.context.clock.now()
            for item in firing:
                matchers = tuple(
                    Matcher(name=name, value=value) for name, value in sorted(item.labels.items()) if value
                )
                comment = f"{mark}{f': {press.reason}' if press.reason else ''}"
                silence = NewSilence(
                    matchers=matchers,
                    starts_at=now,
                    ends_at=now + self.silence_for,
                    created_by=press.person.id,
                    comment=comment,
                )
                await self.alertmanagers[0].post_silence(silence)
        except ClientError as error:
            return f"The silence may be incomplete: {error}"
        return f"{len(firing)} {'alert is' if len(firing) == 1 else 'alerts are'} silenced for " + format_duration(
            self.silence_for
        )

    async def command(self, person: Person, text: str) -> str:
        """Execute a typed command; return the answer for the person.

        Raises:
            StoreError: the store does not answer.
        """
        words, _, reason = text.partition(" -- ")
        verb, *rest = words.split() or ["help"]
        try:
            if verb == "start" and rest:
                return await self._start(person, rest, reason.strip())
            if verb == "undo" and len(rest) == 1:
                run = await self._run(rest[0])
                return await self.press(Press(Verb.UNDO, run.id, person, "", reason=reason.strip()))
            if verb == "take" and len(rest) == 1:
                run = await self._run(rest[0])
                return await self.press(Press(Verb.ACKNOWLEDGE, run.id, person, "", reason=reason.strip()))
        except PermissionDenied as error:
            await self._record_denial(person, verb, str(error))
            return f"{NOTHING}{error}"
        except InputError as error:
            return f"{NOTHING}{error}"
        return HELP

    async def _start(self, person: Person, words: list[str], reason: str) -> str:
        playbook, *rest = words
        service = next((word for word in rest if "=" not in word), "")
        given = dict(word.split("=", 1) for word in rest if "=" in word)
        if len([word for word in rest if "=" not in word]) > 1:
            raise InputError(f"give one service, and parameters as NAME=VALUE; {HELP}")
        request, context = StartRequest(playbook, service, given, reason), self.context
        made: Run = await context.store.write(
            lambda tx: manual_start.start(
                tx, person, context.playbooks, request, context.timeouts.incident_window, context.ids
            )
        )
        return f"{made.id} started: {made.playbook} on {made.target}, mode {made.mode}."

    async def _run(self, name: str) -> Run:
        found = await self.context.store.read(lambda c: runs.get(c, lookup.run_id(c, name)))
        if found is None:
            raise InputError(f"there is no run {name[:64]!r}")
        return found


HELP = (
    "Commands: start PLAYBOOK [SERVICE] [NAME=VALUE …] [-- REASON]; undo RUN [-- REASON]; take RUN [-- NOTE]. "
    "RUN is an ID, its beginning, or @latest."
)
