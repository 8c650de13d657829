"""Checkpoints in a chat or a mailbox: many people have seen them, on machines that are not ours.

Nothing comes back, so a notary of this kind cannot say more than that the channel took it; copy the messages into a
file and give that to ``audit verify``. A bot may be able to delete its own messages: use a channel of its own that
people follow, or a mailbox.
"""

from __future__ import annotations

import msgspec

from remediator.errors import ClientError
from remediator.notaries import Notary, NotaryError, parse
from remediator.notifiers import Message, Notifier, Section


class ChatNotary(Notary):
    """Tells each note by one of the settings' channels, as one line of JSON, which survives being copied out of a
    chat. Telling twice does no harm.

    Args:
        channel: tells it.
    """

    kind = "chat"

    def __init__(self, channel: Notifier) -> None:
        self._channel = channel

    async def publish(self, note: str) -> str:
        """See :meth:`Notary.publish`; here "kept" can only mean that the channel took it."""
        point = parse(note)
        line = msgspec.json.encode({"checkpoint": note}).decode()
        message = Message(
            id=f"checkpoint-{point.size}-{point.root.hex()[:16]}",
            run_id=None,
            kind="notice",
            title=f"Audit log {point.origin}: {point.size} entries",
            sections=(
                Section("Signed checkpoint", (line,), exact=True),
                Section("What for", ("Keep this message: audit verify --checkpoints FILE reads its text.",)),
            ),
            body={"origin": point.origin, "size": point.size},
        )
        try:
            delivery = await self._channel.send(message)
        except ClientError as error:
            raise NotaryError(f"the checkpoint was not told: {error}") from error
        where = ", ".join(f"{name} {value}" for name, value in sorted(delivery.receipt.items()) if value)
        return f"{self._channel.kind} {where}".strip()

    async def fetch(self) -> list[str]:
        """Always refuses."""
        raise NotaryError("a chat cannot be read back from here; copy its messages into a file for audit verify")
