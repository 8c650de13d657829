"""The receive stage: authenticate, limit, parse, commit, answer. The request does nothing else.

Alertmanager never repeats a 2xx, retries a 5xx, and drops a 4xx. So 2xx is sent only after the commit, 503 if the
commit failed, and 4xx only for content that no retry can make valid (promise 1).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from remediator.core.alert import parse_notification
from remediator.core.sizes import MEBIBYTE
from remediator.errors import PayloadError
from remediator.storage import Store

BODY_TIMEOUT = 60.0
"""Seconds within which a body must arrive. Alertmanager itself gives up earlier."""


class TooSlow(PayloadError):
    """The body did not arrive in time; the sender may try again."""

    def __init__(self) -> None:
        super().__init__(f"the body did not arrive within {BODY_TIMEOUT:g} s; nothing was stored: send it again", 503)


class Unauthorized(PayloadError):
    """The credentials are missing or wrong."""

    def __init__(self) -> None:
        super().__init__("credentials are missing or wrong: compare with 'webhook' in the settings", 401)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sender must present: one of several named tokens, or user name and password. Without any, every sender is
    accepted; the service itself never starts without any."""

    tokens: Mapping[str, bytes] = field(default_factory=dict)
    """Bearer tokens by name, all valid at the same time."""
    basic: tuple[bytes, bytes] | None = None

    def check(self, authorization: bytes) -> None:
        """Check an ``Authorization`` header in constant time.

        Raises:
            Unauthorized: the credentials are missing or wrong.
        """
        if not self.tokens and self.basic is None:
            return
        scheme, _, given = authorization.partition(b" ")
        kind = scheme.lower()
        if kind == b"bearer":
            # all are compared, so that the time does not tell which one is nearly right
            fits = any([hmac.compare_digest(given.strip(), token) for token in self.tokens.values()])
        elif self.basic is not None and kind == b"basic":
            fits = hmac.compare_digest(_decoded(given), b":".join(self.basic))
        else:
            fits = False
        if not fits:
            raise Unauthorized


def _decoded(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return b""


MAX_DRAIN = 128 * MEBIBYTE
"""Bytes of a refused body that are read and discarded. A sender that is disconnected while it sends would see a broken
connection instead of the answer, and try again forever."""


async def bounded(stream: AsyncIterator[bytes], limit: int) -> bytes:
    """Return the whole body, if it has at most ``limit`` bytes. A longer body is read and discarded.

    Raises:
        PayloadError: the body is longer, with status 413. Alertmanager drops it; its ``max_alerts`` prevents that.
        TooSlow: the body did not arrive in time.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in stream:
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                if size > MAX_DRAIN:
                    break
    except TimeoutError:
        raise TooSlow from None
    if size > limit:
        raise PayloadError(
            f"the body is longer than {limit} bytes: set max_alerts for this receiver in alertmanager.yml", 413
        )
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def receive(store: Store, body: bytes) -> None:
    """Parse and commit a notification. After it returns, the notification may be acknowledged.

    Raises:
        PayloadError: it is not a notification; nothing is stored.
        StoreUnavailable: it is not committed; the sender must try again.
    """
    parse_notification(body)
    await store.accept("webhook", body)
