"""Checkpoints in a chat: a message that many people see, and that this host cannot take back unseen.

Nothing comes back, so a notary of this kind cannot say more than that the chat took the message; save what was said
there as a file and give it to ``audit verify --checkpoints``.
"""

from __future__ import annotations

import asyncio
import hashlib

from remediator.errors import RemediatorError
from remediator.extensions.notifiers.base import Message, Notifier, Section
from remediator.extensions.witnesses.base import NotaryError, Witness, parse

_PATIENCE = 30.0


class ChatNotary(Witness):
    """Posts each note by one of the channels of the settings file, as exact text. Posting twice does no harm.

    Args:
        channel: what delivers to it.
        patience: seconds for one message.
    """

    kind = "chat"

    def __init__(self, channel: Notifier, patience: float = _PATIENCE) -> None:
        if not channel.keeps:
            raise NotaryError(f"a channel of kind {channel.kind} does not keep what it is told, word by word")
        self._channel = channel
        self._patience = patience

    async def publish(self, note: str) -> str:
        """See :meth:`Witness.publish`; "kept" means that the chat has taken the message."""
        point = parse(note)
        message = Message(
            # the same note has the same id, so that a chat that knows repeats shows it once
            id=f"checkpoint-{hashlib.sha256(note.encode()).hexdigest()[:16]}",
            run_id=None,
            kind="notice",
            title=f"Checkpoint of the audit log {point.origin}: {point.size} entries",
            sections=(Section("Signed", tuple(note.removesuffix("\n").split("\n")), exact=True),),
            body={"checkpoint": note},
        )
        try:
            async with asyncio.timeout(self._patience):
                delivery = await self._channel.send(message)
        except TimeoutError:
            raise NotaryError(f"{self._channel.kind} did not take it within {self._patience:g} s") from None
        except RemediatorError as error:
            raise NotaryError(f"the checkpoint was not told: {error}") from error
        where = ", ".join(f"{name} {value}" for name, value in sorted(delivery.receipt.items()) if value)
        return f"{self._channel.kind} {where}".strip()

    async def fetch(self) -> list[str]:
        """Always refuses."""
        raise NotaryError("a chat cannot be read back from here; save it as a file for audit verify --checkpoints")
