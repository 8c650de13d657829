"""Poll a chat for pressed buttons (long polling), so that no open port is needed.

One replica polls each channel: it holds a lease in the store, and another replica takes over when the lease ends. The
position in the stream is stored after the effect of a press is committed. So a press is never lost, and a press that is
read twice counts once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from remediator.core import progress
from remediator.core.approval import BUTTON_CODES, button_proof_is_valid
from remediator.core.identity import People
from remediator.core.tokens import Keyring
from remediator.errors import ClientError, ConfigurationError
from remediator.extensions.notifiers.base import Notifier, PressedButton
from remediator.pipeline.context import PipelineContext
from remediator.runtime.chat import DECISIONS, NOTHING, ChatActions, Press, Verb
from remediator.runtime.position_lease import PositionLease
from remediator.storage.repositories import approvals, runs

log: Any = structlog.get_logger("remediator.runtime.chat_polling")

WAIT = 25.0
"""Seconds that one request waits for a press."""
LEASE = timedelta(seconds=60)
CONFIRM_WITHIN = timedelta(seconds=30)
"""A button that acts must be pressed twice within this time."""
_CONFIRMED = (Verb.APPROVE, Verb.PAUSE, Verb.UNDO)
_PAUSE = 5.0


@dataclass(slots=True)
class ButtonPoller:
    """Polls one channel.

    Args:
        context: the dependencies of the pipeline.
        name: of the channel.
        notifier: the channel.
        people: returns the people file.
        keyring: signed the buttons.
        actions: executes the requests of people.
        wait: seconds that one request waits.
    """

    context: PipelineContext
    name: str
    notifier: Notifier
    people: Callable[[], People]
    keyring: Keyring
    actions: ChatActions
    wait: float = WAIT
    _first_presses: dict[tuple[str, str], datetime] = field(default_factory=dict)

    async def run(self) -> None:
        """Poll while this replica holds the lease, for ever."""
        while True:
            progress.report(max(LEASE.total_seconds(), self.wait) + _PAUSE)
            after = await self.context.store.write(lambda tx: self.lease.claim(tx, first=0))
            if after is None:
                await self.context.clock.sleep(LEASE.total_seconds() / 4)
                continue
            try:
                await self.poll_once(after)
            except (ClientError, ConfigurationError) as error:
                log.warning("buttons not polled, retrying", channel=self.name, message=str(error))
                await self.context.clock.sleep(_PAUSE)

    async def poll_once(self, after: int) -> None:
        """Wait for presses after a position, handle them in order, and store the new position.

        Raises:
            ClientError: the chat does not answer.
            StoreError: the store does not answer; the presses are read again.
        """
        for pressed in await self.notifier.poll_buttons(after, self.wait):
            answer = await self._handle(pressed)
            position = pressed.position
            await self.context.store.write(lambda tx: self.lease.renew(tx, position))  # noqa: B023
            try:
                await self.notifier.answer_button(pressed.id, answer)
            except ClientError as error:  # the answer is optional: the decision is recorded
                log.info("press not answered", channel=self.name, message=str(error))

    @property
    def lease(self) -> PositionLease:
        """The lease of the replica that polls, with the position in the stream of presses."""
        return PositionLease(f"buttons {self.name}", self.context.replica, LEASE)

    async def _handle(self, pressed: PressedButton) -> str:
        """Execute a press; return the answer. The checks: signature, person, then the rules of the page."""
        press = await self._press(pressed)
        if isinstance(press, str):
            return press
        if press.verb in _CONFIRMED:
            now, key = self.context.clock.now(), (pressed.user, pressed.value)
            self._first_presses = {each: at for each, at in self._first_presses.items() if now - at <= CONFIRM_WITHIN}
            if self._first_presses.pop(key, None) is None:
                self._first_presses[key] = now
                return f"Press {press.verb.value} again within {CONFIRM_WITHIN.seconds} s to confirm."
        return await self.actions.press(press) or "Recorded."

    async def _press(self, pressed: PressedButton) -> Press | str:
        """Return the press, or why it does not count."""
        code, _, rest = pressed.value.partition(":")
        name, _, proof = rest.partition(":")
        verb = BUTTON_CODES.get(code)
        if verb is None:
            return f"{NOTHING}this button was not made by this service."
        person = self.people().by_chat(self.notifier.kind, pressed.user)
        run_id, plan = name, ""
        if Verb(verb) in DECISIONS or name.startswith("approval-"):
            found = await self.context.store.read(lambda connection: approvals.get(connection, name))
            run_id, plan = ("", "") if found is None else (found.run_id, found.plan_hash)
        known = await self.context.store.read(lambda connection: runs.get(connection, run_id))
        if known is None or not button_proof_is_valid(self.keyring, proof, verb, name, plan):
            return f"{NOTHING}this button was not made by this service, or its plan is outdated."
        if person is None:
            return f"{NOTHING}your user {pressed.user} is not in the people file. Ask an administrator to add you."
        approval = name if plan else ""
        return Press(Verb(verb), run_id, person, f"stop-{self.notifier.kind}-{pressed.id}"[:64], approval, plan)
