"""The HTTP client of all other clients: connections, credentials, limits of time and size, and failure classes."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, TypeVar

import httpx
import msgspec

from remediator.clients import egress
from remediator.clients.endpoints import Endpoint, TlsSettings, read_secret
from remediator.clients.tls import client_context
from remediator.core import trace_context, untrusted_json
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, ClientError, ConfigurationError, Refused, TimedOut, Unreachable

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_GATEWAY = frozenset({502, 504})  # a gateway sends these statuses, and does not know whether the server acted
_EXCERPT = 300
_KEPT_TEXT = 4000

T = TypeVar("T")


class HttpRefused(Refused):
    """The server answered with a status other than 2xx.

    Attributes:
        status: the HTTP status.
        text: the beginning of the answer's body.
        retry_after: seconds of the ``Retry-After`` header, if there is one.
    """

    def __init__(self, message: str, status: int, text: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.text = text
        self.retry_after = retry_after


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A typed part of an answer. Unknown fields are ignored, so that newer servers may add some.

    Times are converted to UTC.
    """

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, datetime):
                msgspec.structs.force_setattr(self, name, value.astimezone(UTC))


def decoded(data: msgspec.Raw | bytes, type_: type[T], error_text: str) -> T:
    """Decode JSON. Keys that the type does not have are ignored.

    Raises:
        BadAnswer: it is not JSON, or does not match the type; ``error_text`` is the beginning of its text.
    """
    try:
        return untrusted_json.decode(data, type_)
    except (msgspec.DecodeError, OverflowError) as error:
        raise BadAnswer(f"{error_text}: {error}") from None


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer. ``cut`` is true if only the beginning of the body was kept."""

    call: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False

    def json(self, type_: type[T]) -> T:
        """Decode the body. Keys that the type does not have are ignored.

        Raises:
            BadAnswer: the body is not JSON, or does not match the type.
        """
        return decoded(self.body, type_, f"{self.call}: unexpected answer")


@dataclass(slots=True)
class _Progress:
    """How far a call got. httpcore reports the name of each stage before the stage begins."""

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
    """A client of one HTTP server. Tasks of one event loop may share it. Close it with ``aclose``.

    Args:
        endpoint: address and credentials.
        max_bytes: maximum length of an answer.
        context: TLS context to use instead of the endpoint's files.
        credentials: returns the authentication headers of each call, instead of the endpoint's.

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
        secure = endpoint.url.startswith("https://")
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                verify=context or (tls_context(endpoint.tls) if secure else _empty_context()),
                uds=endpoint.socket,
                proxy=None if endpoint.socket else egress.proxy_for(endpoint.base),
                trust_env=False,
            ),
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "remediator", **endpoint.headers},
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def get(self, path: str, params: Any = None, **limits: Any) -> Answer:
        """Send a GET request; see `call`."""
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
        """Send one request and return its complete answer.

        Args:
            path: begins with a slash; appended to the endpoint's route prefix.
            params: parameters of the query string, as a mapping or pairs.
            json: the body, encoded by msgspec.
            files: sent with ``form`` as multipart: name, content and media type of each field.
            reads: whether the call changes nothing on the server; default: true for GET, HEAD and OPTIONS.
            seconds: timeout of the whole call; default: the endpoint's.
            max_bytes: maximum length of this answer; default: the client's.
            cut: keep the first ``max_bytes`` of a longer answer instead of raising an error.

        Raises:
            Unreachable: nothing was sent.
            TimedOut: the request was sent and not answered in time. If it may change something, also: the connection
                broke or a gateway gave up before the answer. The outcome is unknown.
            HttpRefused: the status is not 2xx.
            BadAnswer: the answer is not HTTP, or too long.
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
        headers.update(trace_context.headers())
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
            async with (
                asyncio.timeout(call.seconds),
                aclosing(await self._client.send(call.request, stream=True)) as response,
            ):
                body, cut = await _body(response, call)
        except TimeoutError:
            if call.progress.sent:
                raise TimedOut(f"{call.name}: no answer within {call.seconds:g} s") from None
            raise Unreachable(f"{call.name}: no connection within {call.seconds:g} s") from None
        except httpx.TransportError as error:
            raise _broken(call, error) from error
        answer = Answer(call.name, response.status_code, response.headers, body, cut)
        if response.is_success:
            return answer
        raise _refusal(call, answer)


async def _body(response: httpx.Response, call: _Call) -> tuple[bytes, bool]:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadAnswer(f"{call.name}: the answer is compressed although Accept-Encoding is identity")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > call.max_bytes:
            if call.cut:
                return bytes(body[: call.max_bytes]), True
            raise BadAnswer(f"{call.name}: the answer is longer than {call.max_bytes} bytes")
    return bytes(body), False


def _refusal(call: _Call, answer: Answer) -> ClientError:
    text = answer.body[:_KEPT_TEXT].decode("utf-8", "replace").strip()
    if answer.status in _GATEWAY and not call.reads:
        return TimedOut(f"{call.name}: a gateway answered {answer.status}; the outcome is unknown")
    if 300 <= answer.status < 400 and answer.status != 304:
        return HttpRefused(f"{call.name} answered {answer.status}: redirects are not followed", answer.status, text)
    after = answer.headers.get("Retry-After", "")
    retry_after = float(after) if after.isascii() and after.isdigit() else None
    message = f"{call.name} answered {answer.status}: {text[:_EXCERPT] or 'empty body'}"
    return HttpRefused(message, answer.status, text, retry_after)


def _broken(call: _Call, error: httpx.TransportError) -> ClientError:
    reason = str(error) or type(error).__name__
    if isinstance(error, _NOTHING_SENT):
        return Unreachable(f"{call.name}: no connection: {reason}")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{call.name}: no answer within {call.seconds:g} s")
    if not call.reads:
        return TimedOut(f"{call.name}: the connection broke before the answer: {reason}")
    if isinstance(error, httpx.ProtocolError) and "disconnected" not in reason:
        return BadAnswer(f"{call.name}: the answer is not HTTP: {reason}")
    return Unreachable(f"{call.name}: the connection broke: {reason}")


def _credentials(endpoint: Endpoint) -> dict[str, str]:
    headers = {name: read_secret(path) for name, path in endpoint.header_files.items()}
    if endpoint.token_file is not None:
        headers["Authorization"] = f"Bearer {read_secret(endpoint.token_file)}"
    if endpoint.basic is not None:
        pair = f"{endpoint.basic.username}:{read_secret(endpoint.basic.password_file)}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    return headers


@cache
def _empty_context() -> ssl.SSLContext:
    """Return a context without authorities, for http: loading the authorities of the system takes 20 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the TLS context of these settings.

    Raises:
        ConfigurationError: a file cannot be read, or is not a certificate or key.
    """
    try:
        context = client_context(tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(
                tls.cert_file, tls.key_file, password=""
            )  # without a password, Python would ask on the terminal
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"cannot use a TLS file: {error}") from None
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
