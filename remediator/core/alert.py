"""Alerts in the format of Alertmanager's webhook (version 4): parsed and limited, never interpreted (promise 8).

The other sources are mapped to the same model (:mod:`remediator.extensions.sources`).

docs/operations.md lists the guarantees of the format. Two facts determine this module. Every notification repeats all
alerts of its group. Neither ``startsAt`` nor ``groupKey`` is stable, so only the labels identify an alert.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeVar

import msgspec

from remediator.errors import PayloadError

ALERTMANAGER = "alertmanager"
"""Name of the source that the settings ``webhook`` and ``alertmanagers`` describe."""
MAX_ALERTS = 50_000
"""Maximum number of alerts in one notification; more are refused. Alertmanager's ``max_alerts`` limits them."""

FAR_FUTURE = datetime.max.replace(tzinfo=UTC)
YEAR_ONE = datetime.min.replace(tzinfo=UTC)

NOT_SET = "0001-01-01T00:00:00Z"
"""A time that is not known, as Go writes it."""

T = TypeVar("T")

AlertStatus = Literal["firing", "resolved"]


class Alert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert of a notification. Times stay as they were sent; :func:`instant` parses them."""

    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = NOT_SET
    ends_at: str = NOT_SET
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    """The parsed fields of the body of one webhook call.

    All other fields are ignored: newer versions of Alertmanager may add fields.
    """

    version: str
    alerts: list[Alert]
    receiver: str = ""
    truncated_alerts: int = 0


_decoder = msgspec.json.Decoder(Notification)


def parse_notification(body: bytes) -> Notification:
    """Return the notification in a request body.

    Raises:
        PayloadError: not JSON, not version 4, wrong types, missing fields or invalid times; one line with the place.
    """
    notification = decoded(_decoder.decode, body, "an Alertmanager notification")
    if notification.version != "4":
        raise PayloadError(f"unsupported version {notification.version[:20]!r}: expected '4', which Alertmanager sends")
    check_alerts(notification.alerts)
    return notification


def decoded(decode: Callable[[bytes], T], body: bytes, what: str) -> T:
    """Return the decoded request body.

    Raises:
        PayloadError: not JSON, or not ``what``; one line with the place.
    """
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise PayloadError(f"not {what}: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"malformed JSON: {error}") from None
    except RecursionError:
        raise PayloadError(f"nested too deeply to be {what}") from None


def check_alerts(alerts: Sequence[Alert]) -> None:
    """Check the rules that the types of the fields do not express.

    Raises:
        PayloadError: too many alerts, an alert without labels, or an invalid time.
    """
    if len(alerts) > MAX_ALERTS:
        raise PayloadError(f"{len(alerts)} alerts in one notification; set max_alerts", 413)
    for position, alert in enumerate(alerts):
        if not alert.labels:
            raise PayloadError(f"$.alerts[{position}].labels is empty; an alert is identified by its labels")
        instant(alert.starts_at, f"$.alerts[{position}].startsAt")
        instant(alert.ends_at, f"$.alerts[{position}].endsAt")


def stored_notification(body: bytes) -> Notification:
    """Return a notification that :func:`parse_notification` has accepted before, without checking it again.

    Raises:
        PayloadError: it is not a notification; another version accepted it.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"a stored notification cannot be read: {error}") from None


def instant(text: str, where: str = "time") -> datetime:
    """Return an RFC 3339 time as Go prints it, with microseconds, limited to the range of ``datetime``.

    Year 1 means "not set" in Alertmanager. Years after 9999 and offsets that leave the range are limited.
    """
    if text == NOT_SET:  # nearly every endsAt has this value
        return YEAR_ONE
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        if text[:5].isdigit() and "-" in text[5:8]:
            return FAR_FUTURE
        raise PayloadError(f"{where} is not an RFC 3339 time: {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise PayloadError(f"{where} has no time zone: {text[:40]!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return YEAR_ONE if moment.year == 1 else FAR_FUTURE


REPLICA_LABELS = ("replica", "prometheus_replica")
"""Labels that by default do not distinguish alerts: each Prometheus of a pair sets another value."""


def identity(source: str, labels: Mapping[str, str], ignore: Collection[str] = ()) -> str:
    """Return the identity of an alert: a digest of its source and of its labels without those in ``ignore``.

    Alertmanager's own fingerprint covers every label, so that a Prometheus pair with a replica label would send two
    different alerts. It is also the sender's value and not verified. The same labels from two sources are two alerts,
    because each source reports separately whether its alert still fires.
    """
    kept = sorted((name, value) for name, value in labels.items() if name not in ignore)
    return hashlib.sha256(msgspec.json.encode((source, kept))).hexdigest()[:32]


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Alertmanager's fingerprint of an alert, as its API, ``amtool -o json`` and notifications have it.

    It is 64-bit FNV-1a over sorted names and values, each followed by the byte 255 (prometheus/common,
    model/signature.go).
    """
    digest = 14695981039346656037
    for name, value in sorted(labels.items(), key=lambda item: item[0].encode()):
        for byte in (*name.encode(), 255, *value.encode(), 255):
            digest = (digest ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def receiver_name(raw: str) -> str:
    """Return the name of a receiver without the regular-expression quoting that Alertmanager adds."""
    unescaped: list[str] = []
    characters = iter(raw)
    for character in characters:
        unescaped.append(next(characters, "") if character == "\\" else character)
    return "".join(unescaped)
