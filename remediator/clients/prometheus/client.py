"""Prometheus' HTTP API v1: what is true now, what was true, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeVar

import msgspec

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import MEBIBYTE, Answer, HttpClient, HttpRefused, Part
from remediator.clients.prometheus.promql import selector, selectors
from remediator.core.clock import format_duration, rfc3339
from remediator.errors import BadAnswer, Refused, TimedOut

_LONG_QUERY = 2000  # longer ones go into a POST body; urls are limited to about 8 kB on the way
_STEPS_PER_QUERY = 10_000  # Prometheus refuses more than 11,000 points a series

T = TypeVar("T")


class PrometheusRefused(Refused):
    """Prometheus said no; ``error_type`` is its own word: bad_data, execution, unavailable, internal, …"""

    def __init__(self, message: str, error_type: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class Sample(msgspec.Struct, frozen=True):
    """One value of one series. Of an instant query ``at`` is the instant asked about, not when it was measured."""

    labels: dict[str, str]
    value: float
    at: datetime


class Vector(msgspec.Struct, frozen=True):
    """The answer to an instant query. Empty means that Prometheus has no such data, which is not the value 0.

    ``warnings`` are Prometheus' own; with some servers behind one address they mean that the answer is partial.
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
    """When one selector of an expression was measured last: over all its series the newest and the oldest instant.

    Both are None when there is no data at all.
    """

    selector: str
    newest: datetime | None
    oldest: datetime | None


class Target(Part, frozen=True, kw_only=True, rename="camel"):
    """One scrape target. ``health`` is up, down or unknown (not scraped yet)."""

    labels: dict[str, str]
    scrape_pool: str
    scrape_url: str
    health: Literal["up", "down", "unknown"]
    last_error: str
    last_scrape: datetime


class RuleAlert(Part, frozen=True, kw_only=True, rename="camel"):
    """An alert of a rule, pending or firing, as Prometheus sees it."""

    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: Literal["pending", "firing"]
    active_at: datetime


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


class Prometheus:
    """One Prometheus, or something that speaks its API.

    Every method raises what `HttpClient.call` raises for a read, and `PrometheusRefused` when Prometheus explains its
    refusal; an evaluation that ran out of time over there is TimedOut.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = endpoint.url
        self._http = HttpClient(endpoint, max_bytes=64 * MEBIBYTE)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def query(self, expression: str, at: datetime | None = None, *, lookback: timedelta | None = None) -> Vector:
        """What an expression evaluates to at an instant (default: its now). A scalar is one sample without labels.

        Args:
            lookback: how old a sample may be to count, instead of the server's 5 minutes. Prometheus before 2.43
                ignores it, so prove freshness with `freshness` where it matters.

        Raises:
            BadAnswer: it evaluates to a string, a range of samples, or native histograms.
        """
        parameters = {"query": expression}
        if at is not None:
            parameters["time"] = rfc3339(at)
        if lookback is not None:
            parameters["lookback_delta"] = format_duration(lookback)
        envelope, result = await self._evaluate("/api/v1/query", parameters)
        if result.result_type == "scalar":
            return Vector((_sample({}, _decode(result.result, tuple[float, str])),), envelope.warnings)
        if result.result_type != "vector":
            raise BadAnswer(f"{self.url}: {expression!r} gives a {result.result_type}, not an instant vector")
        items = _decode(result.result, tuple[_VectorItem, ...])
        return Vector(tuple(_sample(item.metric, item.value) for item in items), envelope.warnings)

    async def samples(self, selector_: str, within: timedelta, at: datetime | None = None) -> tuple[Series, ...]:
        """The raw samples that a selector found in the time before an instant, with the times they were taken."""
        parameters = {"query": f"{selector_}[{format_duration(within)}]"}
        if at is not None:
            parameters["time"] = rfc3339(at)
        _, result = await self._evaluate("/api/v1/query", parameters)
        return _series(result)

    async def freshness(self, expression: str, at: datetime | None = None) -> tuple[Freshness, ...]:
        """When the data that an expression reads was measured, selector by selector (offsets are not considered).

        This is what tells a quiet system from a Prometheus that has stopped scraping: the value of an expression
        looks the same for five minutes.
        """
        return tuple([await self._freshness(each, at) for each in selectors(expression)])

    async def _freshness(self, selector_: str, at: datetime | None) -> Freshness:
        found = await self.query(f"timestamp({selector_})", at)
        times = sorted(sample.value for sample in found.samples)
        if not times:
            return Freshness(selector_, None, None)
        return Freshness(selector_, _instant(times[-1]), _instant(times[0]))

    async def query_range(self, expression: str, start: datetime, end: datetime, step: timedelta) -> tuple[Series, ...]:
        """What an expression evaluated to at every step from start to end, both included.

        Ranges too long for one question are asked in pieces.
        """
        points: dict[tuple[tuple[str, str], ...], list[tuple[datetime, float]]] = {}
        for first, last in _pieces(start, end, step):
            parameters = {
                "query": expression,
                "start": rfc3339(first),
                "end": rfc3339(last),
                "step": f"{step.total_seconds():.3f}",
            }
            _, result = await self._evaluate("/api/v1/query_range", parameters)
            for series in _series(result):
                points.setdefault(tuple(sorted(series.labels.items())), []).extend(series.points)
        return tuple(Series(dict(labels), tuple(values)) for labels, values in points.items())

    async def firing_history(
        self, labels: Mapping[str, str], start: datetime, end: datetime, step: timedelta
    ) -> tuple[Series, ...]:
        """When alerts with these labels fired, from the ALERTS series: a point for every step at which one did."""
        return await self.query_range(selector("ALERTS", {**labels, "alertstate": "firing"}), start, end, step)

    async def alerts(self) -> tuple[RuleAlert, ...]:
        """Every alert of its rules that is pending or firing now."""
        return (await self._get("/api/v1/alerts", _Alerts)).alerts

    async def targets(self) -> tuple[Target, ...]:
        """Every target that it scrapes, with its health and last error."""
        return (await self._get("/api/v1/targets", _Targets, state="active")).active_targets

    async def alert_rules(self) -> tuple[RuleGroup, ...]:
        """Its alerting rules, by group."""
        return (await self._get("/api/v1/rules", _Rules, type="alert")).groups

    async def version(self) -> str:
        """Such as ``2.53.0``."""
        return (await self._get("/api/v1/status/buildinfo", _Build)).version

    async def ready(self) -> None:
        """Return if it is ready to answer queries; raise otherwise."""
        await self._http.get("/-/ready")

    async def _get(self, path: str, type_: type[T], **parameters: str) -> T:
        return _decode((await self._ask("GET", path, parameters)).data, type_)

    async def _evaluate(self, path: str, parameters: Mapping[str, str]) -> tuple[_Envelope, _Result]:
        method = "POST" if len(parameters["query"]) > _LONG_QUERY else "GET"
        envelope = await self._ask(method, path, parameters)
        return envelope, _decode(envelope.data, _Result)

    async def _ask(self, method: str, path: str, parameters: Mapping[str, str]) -> _Envelope:
        place = {"form": parameters} if method == "POST" else {"params": parameters}
        try:
            answer: Answer = await self._http.call(method, path, reads=True, **place)  # type: ignore[arg-type]
        except HttpRefused as error:
            raise _explained(error) from error
        envelope = answer.json(_Envelope)
        if envelope.status != "success":
            raise BadAnswer(f"{answer.call} answered 200 and status {envelope.status!r}")
        return envelope


def _explained(error: HttpRefused) -> Refused | TimedOut:
    """What Prometheus said about it, if it was Prometheus who answered."""
    try:
        envelope = msgspec.json.decode(error.text, type=_Envelope)
    except msgspec.DecodeError:
        return error
    if envelope.error_type == "timeout":
        return TimedOut(f"{error}")
    return PrometheusRefused(f"Prometheus refused: {envelope.error_type}: {envelope.error}", envelope.error_type)


def _decode(data: msgspec.Raw | bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise BadAnswer(f"Prometheus answered something unexpected: {error}") from None


def _series(result: _Result) -> tuple[Series, ...]:
    if result.result_type != "matrix":
        raise BadAnswer(f"Prometheus answered a {result.result_type} instead of a range")
    items = _decode(result.result, tuple[_MatrixItem, ...])
    return tuple(Series(item.metric, tuple(_point(each) for each in item.values)) for item in items)


def _sample(labels: dict[str, str], pair: tuple[float, str]) -> Sample:
    at, value = _point(pair)
    return Sample(labels, value, at)


def _point(pair: tuple[float, str]) -> tuple[datetime, float]:
    try:
        return _instant(pair[0]), float(pair[1])
    except ValueError as error:
        raise BadAnswer(f"Prometheus answered something unexpected: {error}") from None


def _instant(seconds: float) -> datetime:
    """To the millisecond, which is what Prometheus keeps."""
    try:
        return datetime.fromtimestamp(round(seconds, 3), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadAnswer(f"Prometheus answered an impossible time: {error}") from None


def _pieces(start: datetime, end: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """The range cut so that each piece has few enough steps, without asking for any instant twice."""
    while start <= end:
        last = min(end, start + step * (_STEPS_PER_QUERY - 1))
        yield start, last
        start = start + step * _STEPS_PER_QUERY
