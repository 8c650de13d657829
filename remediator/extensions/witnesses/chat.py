"""``chat``: checkpoints as messages in a chat, where many people see them.

The messages cannot be read back. To verify, save them as a file for ``remediator audit verify --checkpoints FILE``.
"""

from __future__ import annotations

import asyncio
import hashlib

from remediator.core.message import MessageKind
from remediator.errors import RemediatorError
from remediator.extensions.notifiers.base import Message, Notifier, Section
from remediator.extensions.witnesses.base import Witness, WitnessError, parse_note

_TIMEOUT = 30.0


class ChatWitness(Witness):
    """Sends each note to a channel of the settings file, as exact text. Sending it twice is harmless.

    Args:
        channel: notifier of the channel.
        timeout: seconds for one message.
    """

    kind = "chat"

    def __init__(self, channel: Notifier, timeout: float = _TIMEOUT) -> None:
        if not channel.keeps_history:
            raise WitnessError(
                f"a channel of kind {channel.kind!r} does not store messages unchanged; use a chat or email"
            )
        self._channel = channel
        self._timeout = timeout

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`. Here, *stored* means that the chat accepted the message."""
        point = parse_note(note)
        message = Message(
            # a note always has the same ID, so that chats that detect repeats show it once
            id=f"checkpoint-{hashlib.sha256(note.encode()).hexdigest()[:16]}",
            run_id=None,
            kind=MessageKind.NOTICE,
            title=f"Checkpoint of the audit log {point.origin}: {point.size} entries",
            sections=(Section("Signed", tuple(note.removesuffix("\n").split("\n")), exact=True),),
            body={"checkpoint": note},
        )
        try:
            async with asyncio.timeout(self._timeout):
                delivery = await self._channel.send(message)
        except TimeoutError:
            raise WitnessError(f"{self._channel.kind}: no answer within {self._timeout:g} s") from None
        except RemediatorError as error:
            raise WitnessError(f"cannot send the checkpoint: {error}") from error
        where = ", ".join(f"{name} {value}" for name, value in sorted(delivery.receipt.items()) if value)
        return f"{self._channel.kind} {where}".strip()

    async def fetch(self) -> list[str]:
        """Always raise: a chat cannot be read back."""
        raise WitnessError(
            "cannot read checkpoints from a chat; save the messages as a file for audit verify --checkpoints FILE"
        )
