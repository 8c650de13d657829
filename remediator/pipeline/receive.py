"""The receive stage: authenticate, limit, parse, commit, answer. The request does nothing else.

Alertmanager never repeats a 2xx, retries a 5xx, and drops a 4xx. So 2xx is sent only after the commit, 503 if the
commit failed, and 4xx only for content that no retry can make valid (promise 1).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from remediator.core.alert import parse_notification
from remediator.errors import PayloadError
from remediator.storage import Store


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


async def receive(store: Store, body: bytes) -> None:
    """Parse and commit a notification. After it returns, the notification may be acknowledged.

    Raises:
        PayloadError: it is not a notification; nothing is stored.
        StoreUnavailable: it is not committed; the sender must try again.
    """
    parse_notification(body)
    await store.accept("webhook", body)
