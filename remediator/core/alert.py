"""Alerts as Alertmanager's webhook (version 4) delivers them: parsed and bounded, never interpreted.

What the format guarantees, and what it does not, is in docs/operations.md. The two facts that shape this
module: every notification repeats all alerts of its group, and neither ``startsAt`` nor ``groupKey`` is stable;
so the only thing that identifies an alert is its labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from remediator.errors import PayloadError

MAX_ALERTS = 50_000
"""More alerts than this in one notification are refused; Alertmanager's ``max_alerts`` bounds them."""

FAR_FUTURE = datetime.max.replace(tzinfo=UTC)
YEAR_ONE = datetime.min.replace(tzinfo=UTC)

AlertStatus = Literal["firing", "resolved"]


class Alert(msgspec.Struct, frozen=True, rename="camel"):
    """One alert of a notification; times are kept as sent and read by :func:`instant`."""

    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: str = "0001-01-01T00:00:00Z"
    ends_at: str = "0001-01-01T00:00:00Z"
    generator_url: str = msgspec.field(default="", name="generatorURL")
    fingerprint: str = ""


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    """One webhook POST. Unknown fields are ignored: newer versions of Alertmanager add some."""

    version: str
    alerts: list[Alert]
    receiver: str = ""
    status: str = ""
    group_key: str = ""
    truncated_alerts: int = 0
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    common_annotations: dict[str, str] = {}
    external_url: str = msgspec.field(default="", name="externalURL")
    as_of: str = ""
    """For alerts made of what Alertmanager's API told (:mod:`remediator.runtime.reconcile`): when it was asked."""


_decoder = msgspec.json.Decoder(Notification)


def parse_notification(body: bytes) -> Notification:
    """The notification in a request body.

    Raises:
        PayloadError: not JSON, not version 4, wrong types, absent fields, times that are none; one line that
            says where.
    """
    try:
        notification = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise PayloadError(f"not an Alertmanager notification: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"malformed JSON: {error}") from None
    except RecursionError:
        raise PayloadError("nested too deeply to be an Alertmanager notification") from None
    if notification.version != "4":
        raise PayloadError(f"version {notification.version[:20]!r} is not supported; send Alertmanager's version '4'")
    if len(notification.alerts) > MAX_ALERTS:
        raise PayloadError(f"{len(notification.alerts)} alerts in one notification; set max_alerts", 413)
    for position, alert in enumerate(notification.alerts):
        _check(position, alert)
    return notification


def stored_notification(body: bytes) -> Notification:
    """A body that :func:`parse_notification` has accepted before; its checks are not made again.

    Raises:
        PayloadError: not a notification; accepted by another version, then.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PayloadError(f"a stored notification cannot be read: {error}") from None


def _check(position: int, alert: Alert) -> None:
    if not alert.labels:
        raise PayloadError(f"$.alerts[{position}].labels is empty; an alert is known by its labels")
    instant(alert.starts_at, f"$.alerts[{position}].startsAt")
    instant(alert.ends_at, f"$.alerts[{position}].endsAt")


def instant(text: str, where: str = "time") -> datetime:
    """An RFC 3339 time as Go prints it, down to microseconds; clamped to what datetime can hold.

    Year 1 stands for "not set" in Alertmanager; years past 9999 and offsets that leave the range are clamped.
    """
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


def identity(labels: Mapping[str, str], ignore: Collection[str] = ()) -> str:
    """What makes two alerts the same alert: a digest of the labels, without those named in ``ignore``.

    Alertmanager's own fingerprint covers every label, so a Prometheus pair that differs by a replica label
    would be two faults; and it is the sender's word, while this is ours.
    """
    kept = sorted((name, value) for name, value in labels.items() if name not in ignore)
    return hashlib.sha256(msgspec.json.encode(kept)).hexdigest()[:32]


def fingerprint(labels: Mapping[str, str]) -> str:
    """Alertmanager's name for the alert with these labels, as its API, ``amtool -o json`` and notifications give it:
    64-bit FNV-1a over sorted names and values, each followed by the byte 255 (prometheus/common, model/signature.go).
    """
    digest = 14695981039346656037
    for name, value in sorted(labels.items(), key=lambda item: item[0].encode()):
        for byte in (*name.encode(), 255, *value.encode(), 255):
            digest = (digest ^ byte) * 1099511628211 & 0xFFFFFFFFFFFFFFFF
    return f"{digest:016x}"


def receiver_name(raw: str) -> str:
    """The receiver's name with the regular-expression quoting undone that Alertmanager applies to it."""
    unescaped: list[str] = []
    characters = iter(raw)
    for character in characters:
        unescaped.append(next(characters, "") if character == "\\" else character)
    return "".join(unescaped)
