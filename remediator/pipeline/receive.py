"""The verb *receive*: authenticate, bound, parse, commit, answer. Nothing else happens inside the request.

What Alertmanager does with an answer decides ours: 2xx is never sent again, 5xx is retried, 4xx is dropped. So 2xx
comes only after the commit, 503 whenever that failed, and 4xx only for what no retry could mend.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass

from remediator.core.alert import parse_notification
from remediator.errors import PayloadError
from remediator.storage import Store

WITHIN = 60.0
"""Seconds that a body may take to arrive; Alertmanager itself has long given up by then."""


class TooSlow(PayloadError):
    """The body did not arrive in time; whoever sent it may try again."""

    def __init__(self) -> None:
        super().__init__(f"the body did not arrive within {WITHIN:g} s; nothing was taken, send it again", 503)


class Unauthorized(PayloadError):
    """The sender did not say who it is, or not convincingly."""

    def __init__(self) -> None:
        super().__init__("credentials are missing or wrong; see 'webhook' in the settings", 401)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sender has to present; with neither set, everyone is let in (only on loopback, see config)."""

    bearer: bytes | None = None
    basic: tuple[bytes, bytes] | None = None

    def check(self, authorization: bytes) -> None:
        """Compare an ``Authorization`` header in constant time.

        Raises:
            Unauthorized: it does not fit.
        """
        if self.bearer is None and self.basic is None:
            return
        scheme, _, given = authorization.partition(b" ")
        kind = scheme.lower()
        if self.bearer is not None and kind == b"bearer":
            fits = hmac.compare_digest(given.strip(), self.bearer)
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


DRAIN = 128 * 1024 * 1024
"""How much of a refused body is still read and thrown away: a sender that is cut off while it sends sees a broken
connection instead of the answer, and would try again for ever."""


async def bounded(stream: AsyncIterator[bytes], limit: int) -> bytes:
    """The whole body, if it is no longer than ``limit`` bytes; a longer one is read past, not kept.

    Raises:
        PayloadError: longer, with status 413. Alertmanager drops it then; its ``max_alerts`` is the cure.
        TooSlow: not whole in time.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(WITHIN):
            async for chunk in stream:
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                if size > DRAIN:
                    break
    except TimeoutError:
        raise TooSlow from None
    if size > limit:
        raise _too_large(limit)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> PayloadError:
    return PayloadError(f"longer than {limit} bytes; set max_alerts for this receiver in alertmanager.yml", 413)


async def receive(store: Store, body: bytes) -> None:
    """Acknowledge only what is committed.

    Raises:
        PayloadError: no notification; nothing is stored.
        StoreUnavailable: not committed; the sender must try again.
    """
    parse_notification(body)
    await store.accept("webhook", body)
