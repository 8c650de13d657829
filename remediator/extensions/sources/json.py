"""Any sender of JSON, such as Datadog, Zabbix or CloudWatch: CEL expressions map its bodies to alerts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from pydantic import Field, model_validator

from remediator.core import untrusted_json
from remediator.core.alert import NOT_SET, Alert, AlertStatus, Notification, check_alerts, decoded, identity
from remediator.core.clock import rfc3339
from remediator.core.sizes import MEBIBYTE
from remediator.core.types import FieldError, Strict
from remediator.errors import PayloadError
from remediator.extensions.sources.base import Source
from remediator.playbooks import cel
from remediator.playbooks.field_types import ExpressionText

MAX_ALERTS = 1000
"""Maximum number of alerts in one body. Each is mapped on its own."""
MAX_DEPTH = 20
"""Maximum nesting of a body, with the JSON in its texts."""
MAX_WORK = 32 * MEBIBYTE
"""Limit of the length of a body times the number of its alerts, if expressions use ``body`` for each alert."""
_PAIR_NAMES = ("name", "tag", "key")
_MILLISECONDS = 10**11
"""A time of at least this number is in milliseconds. As seconds, it would be after the year 5000."""

Labels = dict[Annotated[str, Field(min_length=1)], ExpressionText]


class AlertMapping(Strict):
    """CEL expressions that map a body to alerts. ``body`` is the body, ``alert`` the alert that is mapped."""

    decode: tuple[str, ...] = Field(
        default=(),
        description="Fields of the body with JSON in a text, for example Message; dots separate names. The "
        "expressions read the value instead of the text. A text that is not JSON does not change.",
    )
    alerts: ExpressionText | None = Field(
        default=None, description="List of the alerts in the body. Default: the body is one alert."
    )
    ignore: ExpressionText | None = Field(
        default=None, description="Whether to ignore this alert, for example because of its type. Default: no."
    )
    status: ExpressionText = Field(description="Status of the alert: the text firing or resolved.")
    labels: Labels = Field(
        description="Expression of each label, including alertname. An empty text or null omits the label."
    )
    labels_from: ExpressionText | None = Field(
        default=None,
        description="Further labels: a mapping; a list of pairs with value and name, tag or key; or a text such as "
        "env:prod,host:web-1. Labels in 'labels' have priority.",
    )
    annotations: Labels = Field(default={}, description="Expression of each annotation, for example summary.")
    starts_at: ExpressionText | None = Field(
        default=None, description="When the alert began: RFC 3339, or seconds or milliseconds since 1970."
    )
    ends_at: ExpressionText | None = Field(
        default=None, description="When the alert ended: RFC 3339, or seconds or milliseconds since 1970."
    )
    fingerprint: ExpressionText | None = Field(
        default=None,
        description="Identity of the alert, if its labels can differ when it is resolved. Default: its labels.",
    )
    generator_url: ExpressionText | None = Field(default=None, description="Link to the alert in its source.")

    @model_validator(mode="after")
    def _named(self) -> AlertMapping:
        if "alertname" not in self.labels:
            raise FieldError("must have alertname, by which playbooks match alerts", ("labels",))
        return self


class JsonSettings(Strict):
    """A sender of JSON."""

    mapping: AlertMapping = Field(description="Mapping from a body to alerts.")


class JsonSource(Source):
    """Maps any JSON to alerts. The source has no API for firing alerts, so a person is asked before each action."""

    kind = "json"
    Settings = JsonSettings

    def __init__(self, name: str, settings: JsonSettings) -> None:
        super().__init__(name, settings)
        self._mapping = settings.mapping

    def check(self, body: bytes) -> None:
        _require_shallow(decoded(msgspec.json.decode, body, "JSON"))

    def read(self, body: bytes) -> Notification:
        content = decoded(msgspec.json.decode, body, "JSON")
        for path in self._mapping.decode:
            _decode_text(content, path.split("."))
        _require_shallow(content)
        alerts = [alert for alert in self._alerts(content, len(body)) if alert is not None]
        check_alerts(alerts)
        return Notification("4", alerts)

    def identity(self, alert: Alert, ignore: Collection[str] = ()) -> str:
        if alert.fingerprint:
            return identity(self.name, {"": alert.fingerprint})  # a label must not have an empty name
        return super().identity(alert, ignore)

    def _alerts(self, body: Any, length: int) -> Iterator[Alert | None]:
        if self._mapping.alerts is None:
            items: Any = [body]
        else:
            items = _value("alerts", self._mapping.alerts, {"body": body, "alert": {}})
        if not isinstance(items, list):
            raise PayloadError("mapping.alerts: expected a list of alerts")
        if len(items) > MAX_ALERTS:
            raise PayloadError(f"{len(items)} alerts in one body; the limit of this kind of source is {MAX_ALERTS}")
        if len(items) > 1 and len(items) * length > MAX_WORK:
            given = self._mapping.model_dump(exclude={"decode", "alerts"}, exclude_none=True)
            texts = [*given.pop("labels").values(), *given.pop("annotations").values(), *given.values()]
            if any("body" in cel.compile_expression(text).used for text in texts):
                many = f"{len(items)} alerts in {length} bytes"
                raise PayloadError(f"{many} are too many for expressions that use 'body'")
        for number, item in enumerate(items):
            try:
                yield self._alert({"body": body, "alert": item})
            except PayloadError as error:
                raise PayloadError(f"alert {number + 1}: {error}") from None

    def _alert(self, variables: Mapping[str, Any]) -> Alert | None:
        mapping = self._mapping
        if mapping.ignore is not None and _value("ignore", mapping.ignore, variables) is True:
            return None
        labels = _texts("labels", mapping.labels, variables)
        if mapping.labels_from is not None:
            labels = {**_further(_value("labels_from", mapping.labels_from, variables)), **labels}
        if not labels.get("alertname"):
            raise PayloadError("mapping.labels.alertname: the result is empty")
        fingerprint = _optional("fingerprint", mapping.fingerprint, variables)
        if mapping.fingerprint is not None and not fingerprint:
            raise PayloadError("mapping.fingerprint: the result is empty")
        return Alert(
            _status(_value("status", mapping.status, variables)),
            labels,
            _texts("annotations", mapping.annotations, variables),
            _time("starts_at", mapping.starts_at, variables),
            _time("ends_at", mapping.ends_at, variables),
            _optional("generator_url", mapping.generator_url, variables),
            fingerprint,
        )


def _value(name: str, text: str, variables: Mapping[str, Any]) -> Any:
    found = cel.compile_expression(text).evaluate(variables)
    if isinstance(found, cel.Unknown):
        raise PayloadError(f"mapping.{name}: {found.reason}")
    return found


def _optional(name: str, text: str | None, variables: Mapping[str, Any]) -> str:
    return "" if text is None else _text(name, _value(name, text, variables))


def _texts(section: str, expressions: Mapping[str, str], variables: Mapping[str, Any]) -> dict[str, str]:
    found = {name: _optional(f"{section}.{name}", text, variables) for name, text in expressions.items()}
    return {name: text for name, text in found.items() if text}


def _text(name: str, value: Any) -> str:
    """Return a JSON value as the text of a label; the empty text for null.

    Raises:
        PayloadError: it is a list or a mapping.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        raise PayloadError(f"mapping.{name}: expected a text or a number, not a {type(value).__name__}")
    return str(value)


def _further(value: Any) -> dict[str, str]:
    """Return the labels in a mapping, in a list of pairs, or in a text such as ``env:prod,host:web-1``.

    Raises:
        PayloadError: the value has another form.
    """
    if isinstance(value, str):
        parts = (part.strip().partition(":") for part in value.split(","))
        pairs = [(name, text or "true") for name, _, text in parts if name]
    elif isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        pairs = [(next((item[key] for key in _PAIR_NAMES if key in item), ""), item.get("value")) for item in value]
    else:
        raise PayloadError("mapping.labels_from: expected a mapping, a list of pairs, or a text like env:prod,host:a")
    found = {str(name): _text(f"labels_from.{name}", each) for name, each in pairs}
    return {name: text for name, text in found.items() if name and text}


def _status(value: Any) -> AlertStatus:
    if value == "firing":
        return "firing"
    if value == "resolved":
        return "resolved"
    raise PayloadError(f"mapping.status: expected firing or resolved, not {str(value)[:40]!r}")


def _time(name: str, text: str | None, variables: Mapping[str, Any]) -> str:
    """Return a time as RFC 3339. The caller checks a time that is a text."""
    value = None if text is None else _value(name, text, variables)
    if value in (None, ""):
        return NOT_SET
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return _text(name, value)
    try:
        return rfc3339(datetime.fromtimestamp(seconds / 1000 if seconds >= _MILLISECONDS else seconds, UTC))
    except (ValueError, OverflowError, OSError):
        raise PayloadError(f"mapping.{name}: {str(value)[:40]!r} is not a time") from None


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for each in level for item in _children(each)]
        if not level:
            return
    raise PayloadError(f"nested more than {MAX_DEPTH} levels deep")


def _children(value: Any) -> Collection[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _decode_text(content: Any, path: list[str]) -> None:
    """Replace the text at a path by the JSON in it, if there is one."""
    for name in path[:-1]:
        content = content.get(name) if isinstance(content, dict) else None
    text = content.get(path[-1]) if isinstance(content, dict) else None
    if isinstance(text, str):
        try:
            content[path[-1]] = untrusted_json.decode(text)
        except msgspec.DecodeError:
            return
