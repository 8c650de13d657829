"""The receive stage: authenticate, limit, parse, commit, answer. The request does nothing else.

Alertmanager never repeats a 2xx, retries a 5xx, and drops a 4xx. So 2xx is sent only after the commit, and 503 if the
commit failed. 4xx is only for content that no retry can make valid (promise 1).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from remediator.errors import PayloadError
from remediator.extensions.sources.base import DEFAULT, Source
from remediator.storage import Store

_NO_TIME = timedelta(0)


class Unauthorized(PayloadError):
    """The credentials are missing or wrong.

    Args:
        setting: the section of the settings with the right ones.
        what: what is missing or wrong.
    """

    def __init__(self, setting: str, what: str = "credentials are missing or wrong") -> None:
        super().__init__(f"{what}: compare with '{setting}' in the settings", 401)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a sender signs each body: HMAC-SHA256 in hexadecimal digits, over ``TIMESTAMP:BODY`` or over the body alone.

    Args:
        secrets: the secrets, all valid at the same time.
        header: name of the header with the signature, in lower case. A prefix ``sha256=`` of its value is ignored.
        timestamp_header: name of the header with the Unix time in seconds, in lower case; None: it is not signed.
        max_age: how far the timestamp may be from the time here. Older requests may be replays.
    """

    secrets: tuple[bytes, ...]
    header: bytes
    timestamp_header: bytes | None = None
    max_age: timedelta = _NO_TIME

    def problem(self, headers: Iterable[tuple[bytes, bytes]], body: bytes, now: datetime) -> str:
        """Return why the signature of a body is not valid; empty if it is. It is compared in constant time."""
        given = dict(headers)
        signature = given.get(self.header, b"").strip().removeprefix(b"sha256=").lower()
        if not signature:
            return f"the header {self.header.decode()} is missing"
        signed = body
        if self.timestamp_header is not None:
            stamp = given.get(self.timestamp_header, b"").strip()
            if not stamp.isdigit() or len(stamp) > 12:
                return f"the header {self.timestamp_header.decode()} is not a Unix time"
            if abs(now.timestamp() - int(stamp)) > self.max_age.total_seconds():
                return f"the header {self.timestamp_header.decode()} is too far from the time here"
            signed = stamp + b":" + body
        right = [hmac.new(secret, signed, hashlib.sha256).hexdigest().encode() for secret in self.secrets]
        return "" if any([hmac.compare_digest(signature, each) for each in right]) else "the signature is wrong"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials that a sender must present: a named token, or a user name and password, and perhaps a signature.

    Without credentials, every sender is accepted; the service never starts without credentials.
    """

    tokens: Mapping[str, bytes] = field(default_factory=dict)
    """Bearer tokens by name, all valid at the same time."""
    basic: tuple[bytes, bytes] | None = None
    signature: Signature | None = None
    setting: str = "webhook"
    """The section of the settings with these credentials."""

    @property
    def challenge(self) -> bytes:
        """The value of ``WWW-Authenticate``. Some senders, such as SNS, send a password only after this challenge."""
        return b"Bearer" if self.basic is None else b'Basic realm="remediator"'

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
            # compare all tokens, so that the duration does not reveal which token is nearly right
            fits = any([hmac.compare_digest(given.strip(), token) for token in self.tokens.values()])
        elif self.basic is not None and kind == b"basic":
            fits = hmac.compare_digest(_decoded(given), b":".join(self.basic))
        else:
            fits = False
        if not fits:
            raise Unauthorized(self.setting)

    def check_signature(self, headers: Iterable[tuple[bytes, bytes]], body: bytes, now: datetime) -> None:
        """Check the signature of a body, if one is required.

        Raises:
            Unauthorized: it is missing, wrong or too old.
        """
        if self.signature is not None and (problem := self.signature.problem(headers, body, now)):
            raise Unauthorized(self.setting, problem)


def _decoded(given: bytes) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return b""


async def receive(store: Store, body: bytes, source: Source = DEFAULT) -> None:
    """Parse and commit a notification. After it returns, the notification may be acknowledged.

    Raises:
        PayloadError: it is not a notification of this source; nothing is stored.
        StoreUnavailable: it is not committed; the sender must try again.
    """
    source.check(body)
    await store.accept(source.name, body)
