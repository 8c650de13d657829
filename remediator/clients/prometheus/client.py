"""Prometheus HTTP API client: current values, history, and the freshness of the data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import Answer, HttpClient, HttpRefused, Part, decoded
from remediator.clients.prometheus.promql import selector, selectors
from remediator.core import untrusted_json
from remediator.core.clock import format_duration, rfc3339
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, Refused, TimedOut

_LONG_QUERY = 2000  # longer queries are sent by POST, since proxies limit URLs to about 8 kB
_STEPS_PER_QUERY = 10_000  # Prometheus rejects more than 11,000 points per series

T = TypeVar("T")


class PrometheusRefused(Refused):
    """Prometheus rejected the call. ``error_type`` is its reason: bad_data, execution, unavailable, internal, …"""

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class Sample(msgspec.Struct, frozen=True):
    """One value of one series. In an instant query, ``at`` is the time of the query, not of the measurement."""

    labels: dict[str, str]
    value: float
    at: datetime


class Vector(msgspec.Struct, frozen=True):
    """Result of an instant query. An empty result means that there is no data, which differs from the value 0.

    With several servers behind one address, ``warnings`` can mean that the result is partial.
    """

    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.samples)


class Series(msgspec.Struct, frozen=True):
    """Values of one series over time, oldest first."""

    labels: dict[str, str]
    points: tuple[tuple[datetime, float], ...]


class Freshness(msgspec.Struct, frozen=True):
    """Times of the last samples of a selector: the newest and the oldest over all its series.

    Both are None if there is no data.
    """

    selector: str
    newest: datetime | None
    oldest: datetime | None


class Target(Part, frozen=True, kw_only=True, rename="camel"):
    """One scrape target. ``health`` is up, down or unknown (not scraped yet)."""

    labels: dict[str, str]
    scrape_url: str
    health: Literal["up", "down", "unknown"]
    last_error: str


class RuleAlert(Part, frozen=True, kw_only=True, rename="camel"):
    """A pending or firing alert of a rule."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: Literal["pending", "firing"]


class AlertRule(Part, frozen=True, kw_only=True, rename="camel"):
    """An alerting rule. ``duration`` is its ``for`` in seconds; ``health`` is ok, err or unknown."""

    name: str
    query: str
    duration: float
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    state: Literal["firing", "pending", "inactive", "unknown"] = "unknown"
    health: str
    last_error: str = ""
    alerts: tuple[RuleAlert, ...] = ()


class RuleGroup(Part, frozen=True, kw_only=True, rename="camel"):
    """Alerting rules that are evaluated together, every ``interval`` seconds."""

    name: str
    file: str
    interval: float
    rules: tuple[AlertRule, ...]


class _Envelope(msgspec.Struct, rename="camel"):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    error_type: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()


class _Result(msgspec.Struct, rename="camel"):
    result_type: Literal["vector", "scalar", "matrix", "string"]
    result: msgspec.Raw


class _VectorItem(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _MatrixItem(msgspec.Struct):
    metric: dict[str, str]
    values: tuple[tuple[float, str], ...]


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: tuple[Target, ...]


class _Rules(msgspec.Struct):
    groups: tuple[RuleGroup, ...]


class _Alerts(msgspec.Struct):
    alerts: tuple[RuleAlert, ...]


class _Build(msgspec.Struct):
    version: str


class _Address(msgspec.Struct):
    url: str


class _Alertmanagers(msgspec.Struct, rename="camel"):
    active_alertmanagers: tuple[_Address, ...]


class Prometheus:
    """A client of one Prometheus, or of a server with the same API.

    Every method raises what `HttpClient.call` raises for a read, and `PrometheusRefused` if Prometheus gives a reason.
    A query that exceeds the timeout of the server raises TimedOut.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self._http = HttpClient(endpoint, max_bytes=64 * MEBIBYTE)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def query(self, expression: str, at: datetime | None = None) -> Vector:
        """Evaluate an expression at a time (default: now). A scalar becomes one sample without labels.

        Raises:
            BadAnswer: the result is a string, a range of samples, or native histograms.
        """
        parameters = {"query": expression}
        if at is not None:
            parameters["time"] = rfc3339(at)
        envelope, result = await self._evaluate("/api/v1/query", parameters)
        if result.result_type == "scalar":
            return Vector((_sample({}, _decode(result.result, tuple[float, str])),), envelope.warnings)
        if result.result_type != "vector":
            raise BadAnswer(
                f"{self.url}: the result of {expression!r} is a {result.result_type}, not an instant vector"
            )
        items = _decode(result.result, tuple[_VectorItem, ...])
        return Vector(tuple(_sample(item.metric, item.value) for item in items), envelope.warnings)

    async def samples(self, selector_: str, within: timedelta, at: datetime | None = None) -> tuple[Series, ...]:
        """Return the raw samples of a selector in the time before ``at``, with their own times."""
        parameters = {"query": f"{selector_}[{format_duration(within)}]"}
        if at is not None:
            parameters["time"] = rfc3339(at)
        _, result = await self._evaluate("/api/v1/query", parameters)
        return _series(result)

    async def freshness(self, expression: str, at: datetime | None = None) -> tuple[Freshness, ...]:
        """Return the age of the data of each selector in an expression. Offsets are ignored.

        This distinguishes a quiet system from a Prometheus that stopped scraping: the value of an expression stays the
        same for five minutes.
        """
        found = []
        for each in selectors(expression):
            vector = await self.query(f"timestamp({each})", at)
            times = sorted(sample.value for sample in vector.samples)
            newest, oldest = (_instant(times[-1]), _instant(times[0])) if times else (None, None)
            found.append(Freshness(each, newest, oldest))
        return tuple(found)

    async def query_range(self, expression: str, start: datetime, end: datetime, step: timedelta) -> tuple[Series, ...]:
        """Evaluate an expression at every step from start to end, inclusive. A long range is split into queries."""
        points: dict[tuple[tuple[str, str], ...], list[tuple[datetime, float]]] = {}
        while start <= end:
            last = min(end, start + step * (_STEPS_PER_QUERY - 1))
            parameters = {
                "query": expression,
                "start": rfc3339(start),
                "end": rfc3339(last),
                "step": f"{step.total_seconds():.3f}",
            }
            _, result = await self._evaluate("/api/v1/query_range", parameters)
            for series in _series(result):
                points.setdefault(tuple(sorted(series.labels.items())), []).extend(series.points)
            start += step * _STEPS_PER_QUERY  # queries do not overlap
        return tuple(Series(dict(labels), tuple(values)) for labels, values in points.items())

    async def firing_history(
        self, labels: Mapping[str, str], start: datetime, end: datetime, step: timedelta
    ) -> tuple[Series, ...]:
        """Return when alerts with these labels fired: one point per step, from the ALERTS series."""
        return await self.query_range(selector("ALERTS", {**labels, "alertstate": "firing"}), start, end, step)

    async def alerts(self) -> tuple[RuleAlert, ...]:
        """Return all pending and firing alerts."""
        return (await self._get("/api/v1/alerts", _Alerts)).alerts

    async def targets(self) -> tuple[Target, ...]:
        """Return all scrape targets with their health and last error."""
        return (await self._get("/api/v1/targets", _Targets, state="active")).active_targets

    async def alert_rules(self) -> tuple[RuleGroup, ...]:
        """Return the alerting rules by group."""
        return (await self._get("/api/v1/rules", _Rules, type="alert")).groups

    async def metric_names(self) -> tuple[str, ...]:
        """Return the name of every metric that has a series."""
        return tuple(await self._get("/api/v1/label/__name__/values", list[str]))

    async def label_names(self, metric: str) -> tuple[str, ...]:
        """Return the names of the labels of the series of a metric, without ``__name__``."""
        found = await self._get("/api/v1/labels", list[str], **{"match[]": metric})
        return tuple(name for name in found if name != "__name__")

    async def alertmanagers(self) -> tuple[str, ...]:
        """Return the base URL of each Alertmanager to which Prometheus sends alerts."""
        found = (await self._get("/api/v1/alertmanagers", _Alertmanagers)).active_alertmanagers
        return tuple(each.url.partition("/api/v")[0] for each in found)

    async def version(self) -> str:
        """Return the version, for example ``2.53.0``."""
        return (await self._get("/api/v1/status/buildinfo", _Build)).version

    async def ready(self) -> None:
        """Check that the server is ready to answer queries. Raise an error if it is not."""
        await self._http.get("/-/ready")

    async def _get(self, path: str, type_: type[T], **parameters: str) -> T:
        return _decode((await self._send("GET", path, parameters)).data, type_)

    async def _evaluate(self, path: str, parameters: Mapping[str, str]) -> tuple[_Envelope, _Result]:
        method = "POST" if len(parameters["query"]) > _LONG_QUERY else "GET"
        envelope = await self._send(method, path, parameters)
        return envelope, _decode(envelope.data, _Result)

    async def _send(self, method: str, path: str, parameters: Mapping[str, str]) -> _Envelope:
        place = {"form": parameters} if method == "POST" else {"params": parameters}
        try:
            answer: Answer = await self._http.call(method, path, reads=True, **place)  # type: ignore[arg-type]
        except HttpRefused as error:
            raise _refused(error) from error
        envelope = answer.json(_Envelope)
        if envelope.status != "success":
            raise BadAnswer(f"{answer.call} answered 200 with status {envelope.status!r}")
        return envelope


def _refused(error: HttpRefused) -> Refused | TimedOut:
    """Return the error with the reason of Prometheus, or the original one if a proxy answered."""
    try:
        envelope = untrusted_json.decode(error.text, _Envelope)
    except msgspec.DecodeError:
        return error
    if envelope.error_type == "timeout":
        return TimedOut(f"{error}")
    return PrometheusRefused(
        f"Prometheus rejected the query: {envelope.error_type}: {envelope.error}", envelope.error_type
    )


def _decode(data: msgspec.Raw | bytes, type_: type[T]) -> T:
    return decoded(data, type_, "unexpected answer of Prometheus")


def _series(result: _Result) -> tuple[Series, ...]:
    if result.result_type != "matrix":
        raise BadAnswer(f"unexpected answer of Prometheus: {result.result_type} instead of a range")
    items = _decode(result.result, tuple[_MatrixItem, ...])
    return tuple(Series(item.metric, tuple(_point(each) for each in item.values)) for item in items)


def _sample(labels: dict[str, str], pair: tuple[float, str]) -> Sample:
    at, value = _point(pair)
    return Sample(labels, value, at)


def _point(pair: tuple[float, str]) -> tuple[datetime, float]:
    try:
        return _instant(pair[0]), float(pair[1])
    except ValueError as error:
        raise BadAnswer(f"unexpected answer of Prometheus: {error}") from None


def _instant(seconds: float) -> datetime:
    """Convert Unix time to the millisecond, which is the precision of Prometheus."""
    try:
        return datetime.fromtimestamp(round(seconds, 3), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadAnswer(f"unexpected answer of Prometheus: invalid time: {error}") from None
