"""The one place where HTTP is spoken: connections, credentials, time and size limits, and what a failure means."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar

import httpx
import msgspec

from remediator.clients.endpoints import Endpoint, TlsSettings, read_secret
from remediator.clients.tls import trusting
from remediator.errors import BadAnswer, ClientError, ConfigurationError, Refused, TimedOut, Unreachable

MEBIBYTE = 1024 * 1024
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_GATEWAY = frozenset({502, 504})  # said by something in between, which cannot know either
_EXCERPT = 300
_KEPT_TEXT = 4000

T = TypeVar("T")


class HttpRefused(Refused):
    """An HTTP status that means no.

    Attributes:
        status: the HTTP status.
        text: the beginning of the answer's body, for a person.
        retry_after: seconds after which the server would like to be asked again, if it said so.
    """

    def __init__(self, message: str, status: int, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.text = text
        self.retry_after = retry_after


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer, typed: what it does not name is ignored, so that newer servers can say more.

    Instants become UTC, whatever zone the server writes them in.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                msgspec.structs.force_setattr(self, name, value.astimezone(UTC))


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer, whole unless ``cut``."""

    call: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    def json(self, type_: type[T]) -> T:
        """The body as such a type; keys that the type does not name are ignored.

        Raises:
            BadAnswer: it is not JSON, or not of that shape.
        """
        try:
            return msgspec.json.decode(self.body, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
            raise BadAnswer(f"{self.call} answered something unexpected: {error}") from None


@dataclass(slots=True)
class _Progress:
    """How far one call got; httpcore reports every stage by name before it begins."""

    sent: bool = False

    async def __call__(self, stage: str, info: Mapping[str, Any]) -> None:
        if stage.endswith("send_request_headers.started"):
            self.sent = True


@dataclass(frozen=True, slots=True)
class _Call:
    """One request with its limits."""

    name: str
    request: httpx.Request
    reads: bool
    seconds: float
    max_bytes: int
    cut: bool
    progress: _Progress = field(default_factory=_Progress)


class HttpClient:
    """One HTTP server. Safe to share between tasks of one event loop; close it with ``aclose``.

    Args:
        endpoint: where it is and how to authenticate.
        max_bytes: no answer may be longer.
        context: TLS as it is wanted, for servers that are not described by files.
        credentials: gives the headers that prove who asks, anew for every call, instead of the endpoint's.

    Raises:
        ConfigurationError: a TLS file cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        max_bytes: int = 16 * MEBIBYTE,
        context: ssl.SSLContext | None = None,
        credentials: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._max_bytes = max_bytes
        self._credentials = credentials or partial(_credentials, endpoint)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=context or _tls(endpoint), uds=endpoint.socket, trust_env=False),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "remediator", **endpoint.headers},
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def get(self, path: str, params: Any = None, **limits: Any) -> Answer:
        """``call("GET", …)``, the common case."""
        return await self.call("GET", path, params=params, **limits)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        reads: bool | None = None,
        seconds: float | None = None,
        max_bytes: int | None = None,
        cut: bool = False,
    ) -> Answer:
        """Send one request and wait for its whole answer.

        Args:
            path: begins with a slash; comes after the endpoint's route prefix.
            params: of the query string, as a mapping or pairs; None values are left out by the caller.
            json: sent as the body, encoded by msgspec.
            files: sent with ``form`` as multipart: name, content and media type of each field.
            reads: whether it changes nothing over there; by default what the method says.
            seconds: for the whole call instead of the endpoint's.
            max_bytes: for this answer instead of the client's.
            cut: keep the first ``max_bytes`` of a longer answer instead of refusing it.

        Raises:
            Unreachable: nothing was sent.
            TimedOut: sent, and either not answered in time, or (if it may change something) the connection
                broke or a gateway gave up before an answer: the outcome is unknown.
            HttpRefused: any status that is not 2xx.
            BadAnswer: it is not HTTP, or too long.
        """
        request = self._client.build_request(
            method,
            self.endpoint.base + path,
            params=params,
            content=msgspec.json.encode(json) if json is not None else content,
            data=form,
            files=files,
            headers=self._headers(method, path, json is not None, headers),
        )
        call = _Call(
            name=f"{method} {self.endpoint.url}{path}",
            request=request,
            reads=method in _READS if reads is None else reads,
            seconds=self.endpoint.timeout.total_seconds() if seconds is None else seconds,
            max_bytes=self._max_bytes if max_bytes is None else max_bytes,
            cut=cut,
        )
        return await self._send(call)

    def _headers(self, method: str, path: str, is_json: bool, more: Mapping[str, str] | None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"} if is_json else {}
        try:
            headers.update(self._credentials())
        except (OSError, ValueError) as error:
            raise Unreachable(f"{method} {self.endpoint.url}{path} was not sent: {error}") from None
        headers.update(more or {})
        return headers

    async def _send(self, call: _Call) -> Answer:
        call.request.extensions = {
            "timeout": dict.fromkeys(("connect", "read", "write", "pool"), call.seconds),
            "trace": call.progress,
        }
        if self.endpoint.tls.server_name:
            call.request.extensions["sni_hostname"] = self.endpoint.tls.server_name
        try:
            async with asyncio.timeout(call.seconds):
                return await self._exchange(call)
        except TimeoutError:
            raise _out_of_time(call) from None
        except httpx.TransportError as error:
            raise _broken(call, error) from error

    async def _exchange(self, call: _Call) -> Answer:
        response = await self._client.send(call.request, stream=True)
        try:
            body, cut = await _body(response, call)
        finally:
            await response.aclose()
        answer = Answer(call.name, response.status_code, response.headers, body, cut)
        if response.is_success:
            return answer
        raise _refusal(call, answer)


async def _body(response: httpx.Response, call: _Call) -> tuple[bytes, bool]:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadAnswer(f"{call.name} answered compressed, though it was asked not to")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > call.max_bytes:
            if call.cut:
                return bytes(body[: call.max_bytes]), True
            raise BadAnswer(f"{call.name} answered with more than {call.max_bytes} bytes")
    return bytes(body), False


def _refusal(call: _Call, answer: Answer) -> ClientError:
    text = answer.body[:_KEPT_TEXT].decode("utf-8", "replace").strip()
    if answer.status in _GATEWAY and not call.reads:
        return TimedOut(f"{call.name}: a gateway answered {answer.status}; whether it was done is unknown")
    if 300 <= answer.status < 400 and answer.status != 304:
        return HttpRefused(f"{call.name} answered {answer.status}: redirects are not followed", answer.status, text)
    said = answer.headers.get("Retry-After", "")
    later = float(said) if said.isascii() and said.isdigit() else None
    message = f"{call.name} answered {answer.status}: {text[:_EXCERPT] or 'no text'}"
    return HttpRefused(message, answer.status, text, later)


def _out_of_time(call: _Call) -> ClientError:
    if call.progress.sent:
        return TimedOut(f"{call.name} was not answered within {call.seconds:g} s")
    return Unreachable(f"{call.name}: no connection within {call.seconds:g} s")


def _broken(call: _Call, error: httpx.TransportError) -> ClientError:
    reason = str(error) or type(error).__name__
    if isinstance(error, _NOTHING_SENT):
        return Unreachable(f"{call.name}: no connection: {reason}")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{call.name} was not answered within {call.seconds:g} s")
    if not call.reads:
        return TimedOut(f"{call.name}: the connection broke before an answer: {reason}")
    if isinstance(error, httpx.ProtocolError) and "disconnected" not in reason:
        return BadAnswer(f"{call.name} did not answer in HTTP: {reason}")
    return Unreachable(f"{call.name}: the connection broke: {reason}")


def _credentials(endpoint: Endpoint) -> dict[str, str]:
    headers = {name: read_secret(path) for name, path in endpoint.header_files.items()}
    if endpoint.token_file is not None:
        headers["Authorization"] = f"Bearer {read_secret(endpoint.token_file)}"
    if endpoint.basic is not None:
        pair = f"{endpoint.basic.username}:{read_secret(endpoint.basic.password_file)}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return headers


def _tls(endpoint: Endpoint) -> ssl.SSLContext:
    """A context for https; for anything else one that trusts nobody, because loading the system's costs 20 ms."""
    return tls_context(endpoint.tls) if endpoint.url.startswith("https://") else _trusts_nobody()


@cache
def _trusts_nobody() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """What Python's ``ssl`` needs to talk to a server with these settings.

    Raises:
        ConfigurationError: a file cannot be read or is not what it should be.
    """
    try:
        context = trusting(tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")  # never ask on the terminal
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"a TLS file cannot be used: {error}") from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
