"""The HTTP client: each failure has one meaning, credentials reach only their server, and answers are bounded."""

from __future__ import annotations

import asyncio
import base64
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.endpoints import Endpoint, read_secret
from remediator.clients.http import HttpClient, HttpRefused
from remediator.errors import BadAnswer, ConfigurationError, Refused, TimedOut, Unreachable
from tests.support.fake_servers import Authority, hang_up, peer, reply, silence
from tests.support.servers import free_port


async def ask(
    url: str, method: str = "GET", path: str = "/x", call: dict[str, Any] | None = None, **settings: Any
) -> bytes:
    """Make one call with a new client, and return the answer."""
    client = HttpClient(Endpoint(url=url, **{"timeout": "300ms", **settings}))
    try:
        return (await client.call(method, "/x", **(call or {}))).body
    finally:
        await client.aclose()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_refused_connection_means_that_nothing_happened(method: str) -> None:
    """Without a server, every call is Unreachable."""
    with pytest.raises(Unreachable):
        await ask(f"http://127.0.0.1:{free_port()}", method)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_is_not_accepted_in_time_means_that_nothing_happened(method: str) -> None:
    """If the accept queue is full, the call is Unreachable and not TimedOut: nothing was sent."""
    with socket.socket() as listener, socket.socket() as filler, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for each in (filler, second):
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        with pytest.raises(Unreachable):
            await ask(f"http://127.0.0.1:{listener.getsockname()[1]}", method)


@pytest.mark.promise(3)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
async def test_no_answer_in_time_means_unknown(method: str) -> None:
    """If the request was sent and no answer came in time, the call is TimedOut."""
    async with peer(silence) as server:
        with pytest.raises(TimedOut):
            await ask(server.url, method)
        assert len(server.requests) == 1


@pytest.mark.promise(3)
async def test_a_connection_lost_after_sending_is_unknown_unless_it_only_read() -> None:
    """If the peer dies after a POST, the outcome is unknown. After a GET, nothing was changed."""
    async with peer(hang_up) as server:
        with pytest.raises(TimedOut):
            await ask(server.url, "POST")
        with pytest.raises(Unreachable):
            await ask(server.url, "GET")
        assert len(server.requests) == 2, "nothing is ever sent twice"


async def test_a_post_can_be_marked_as_read_only() -> None:
    """If the caller marks a POST as read-only, its failures have the meaning of a GET."""
    async with peer(hang_up) as server:
        with pytest.raises(Unreachable):
            await ask(server.url, "POST", call={"reads": True})


@pytest.mark.promise(3)
async def test_a_slow_answer_ends_at_the_time_limit() -> None:
    """The time limit is for the whole call and not for each byte."""

    async def trickle(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with peer(trickle) as server:
        with pytest.raises(TimedOut):
            await ask(server.url)


async def _garbage(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")


async def test_another_protocol_is_a_bad_answer_and_after_a_post_unknown() -> None:
    """An answer that is not HTTP is a BadAnswer. For a POST, the outcome is unknown."""
    async with peer(_garbage) as server:
        with pytest.raises(BadAnswer):
            await ask(server.url)
        with pytest.raises(TimedOut):
            await ask(server.url, "POST")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500, 503])
async def test_a_refusal_has_status_and_reason(status: int) -> None:
    """The error contains the status and the beginning of the body."""
    async with peer(reply(status, b"because")) as server:
        with pytest.raises(HttpRefused, match="because") as refused:
            await ask(server.url, "POST")
    assert (refused.value.status, refused.value.text) == (status, "because")
    assert isinstance(refused.value, Refused)


@pytest.mark.promise(3)
@pytest.mark.parametrize("status", [502, 504])
async def test_a_timeout_of_a_gateway_leaves_the_outcome_unknown(status: int) -> None:
    """A gateway answers 502 or 504: after a POST the outcome is unknown, after a GET the call was refused."""
    async with peer(reply(status, b"")) as server:
        with pytest.raises(TimedOut):
            await ask(server.url, "POST")
        with pytest.raises(HttpRefused):
            await ask(server.url)


@pytest.mark.promise(11)
async def test_a_redirect_is_not_followed_and_gets_no_credentials(tmp_path: Path) -> None:
    """The client follows no redirect, so it sends the token to no other server."""
    (tmp_path / "token").write_text("secret\n")
    async with peer(reply(200, b"{}")) as other, peer(reply(307, b"", f"location: {other.url}/y")) as server:
        with pytest.raises(HttpRefused, match="redirects are not followed"):
            await ask(server.url, token_file=tmp_path / "token")
        assert other.requests == []


async def test_an_answer_that_is_too_long_is_refused_or_cut_as_asked() -> None:
    """The client refuses or truncates a long answer, as the caller asks, so an answer never exceeds its limit."""
    async with peer(reply(200, b"x" * 5000)) as server:
        with pytest.raises(BadAnswer, match="longer than 1000 bytes"):
            await ask(server.url, call={"max_bytes": 1000})
        assert await ask(server.url, call={"max_bytes": 1000, "cut": True}) == b"x" * 1000


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """The client does not decompress an answer, so a small answer cannot become large."""
    async with peer(reply(200, b"x", "content-encoding: gzip")) as server:
        with pytest.raises(BadAnswer, match="compressed"):
            await ask(server.url)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"a": "x"}', b'{"a": "\xff"}'])
async def test_an_answer_of_another_shape_is_a_bad_answer(body: bytes) -> None:
    """JSON with an unexpected structure is an error and never a guess."""
    async with peer(reply(200, body)) as server:
        client = HttpClient(Endpoint(url=server.url))
        answer = await client.get("/x")
        with pytest.raises(BadAnswer):
            answer.json(dict[str, int])
        await client.aclose()


async def test_credentials_and_headers_are_read_for_every_call(tmp_path: Path) -> None:
    """The next call uses a rotated token. The final newline of the file is not part of the token."""
    token = tmp_path / "token"
    async with peer(reply(200, b"{}", "connection: close")) as server:
        client = HttpClient(Endpoint(url=server.url + "/prefix/", token_file=token, headers={"X-Scope-OrgID": "team"}))
        for secret in ("one", "two"):
            token.write_text(secret + "\n")
            await client.get("/x", {"q": "a b&c"})
        await client.aclose()
    for request, secret in zip(server.requests, (b"one", b"two"), strict=True):
        assert request.startswith(b"GET /prefix/x?q=a+b%26c HTTP/1.1\r\n")
        assert b"Authorization: Bearer " + secret + b"\r\n" in request
        assert b"X-Scope-OrgID: team\r\n" in request


async def test_basic_and_secret_headers_come_from_files(tmp_path: Path) -> None:
    """The user name comes from the settings, and the password and secret headers come from files."""
    (tmp_path / "password").write_text("pä:ss\n")
    (tmp_path / "key").write_text("k-123")
    basic = {"username": "me", "password_file": tmp_path / "password"}
    async with peer(reply(200, b"{}")) as server:
        await ask(server.url, basic=basic, header_files={"X-Api-Key": tmp_path / "key"})
    expected = base64.b64encode("me:pä:ss".encode())
    assert b"Authorization: Basic " + expected + b"\r\n" in server.requests[0]
    assert b"X-Api-Key: k-123\r\n" in server.requests[0]


async def test_a_secret_file_that_is_missing_means_that_nothing_was_sent(tmp_path: Path) -> None:
    """If a file with credentials is missing, the client does not make the call."""
    async with peer(reply(200, b"{}")) as server:
        with pytest.raises(Unreachable, match="was not sent"):
            await ask(server.url, "POST", token_file=tmp_path / "missing")
        assert server.requests == []


@pytest.mark.parametrize("content", ["", "\n", "a\nb", "a\r\nX-Other: b\n"])
def test_a_secret_is_exactly_one_line(content: str, tmp_path: Path) -> None:
    """An empty secret file is refused. A second line is refused, so it cannot become a second header."""
    (tmp_path / "secret").write_bytes(content.encode())
    with pytest.raises(ValueError, match="exactly one line"):
        read_secret(tmp_path / "secret")


async def test_proxy_settings_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables of the environment do not redirect requests."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with peer(reply(200, b"direct")) as server:
        assert await ask(server.url) == b"direct"


async def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    """The client speaks HTTP over unix:///path. A missing socket is Unreachable."""
    path = tmp_path / "s.sock"
    with pytest.raises(Unreachable):
        await ask(f"unix://{path}")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reply(200, b"over a socket")(b"", writer)
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    assert await ask(f"unix://{path}") == b"over a socket"
    server.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


async def test_tls_verifies_the_server_by_ca_and_name(authority: Authority) -> None:
    """Without the right CA, or with a name that is not in the certificate, nothing is sent."""
    certificate, key = authority.issue("redis.internal")
    tls = {"ca_file": authority.ca_file, "server_name": "redis.internal"}
    async with peer(reply(200, b"ok"), authority.server_context(certificate, key)) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert await ask(url, tls=tls) == b"ok"
        assert await ask(url, tls={"insecure_skip_verify": True}) == b"ok"
        for wrong in ({}, {"ca_file": authority.ca_file}, {**tls, "server_name": "other.internal"}):
            with pytest.raises(Unreachable, match="certificate"):
                await ask(url, "POST", tls=wrong)
        assert len(server.requests) == 2


async def test_a_server_that_requires_a_client_certificate_gets_it(authority: Authority) -> None:
    """A server with mTLS answers with our client certificate and refuses a call without it."""
    certificate, key = authority.issue("server", "127.0.0.1")
    mine, my_key = authority.issue("remediator")
    context = authority.server_context(certificate, key, clients=True)
    async with peer(reply(200, b"ok"), context) as server:
        url, tls = f"https://127.0.0.1:{server.port}", {"ca_file": authority.ca_file}
        assert await ask(url, tls={**tls, "cert_file": mine, "key_file": my_key}) == b"ok"
        with pytest.raises((Unreachable, TimedOut)):
            await ask(url, tls=tls)


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_tls_files_are_checked_when_the_client_is_made(content: str | None, tmp_path: Path) -> None:
    """A missing or wrong CA file is a configuration error at start, and not at the first call."""
    path = tmp_path / "ca.crt"
    if content:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match="TLS file"):
        HttpClient(Endpoint(url="https://127.0.0.1", tls={"ca_file": path}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://host"}, "must be http"),
        ({"url": "http://"}, "must be http"),
        ({"url": "localhost:9090"}, "must be http"),
        ({"url": "http://me:pw@host"}, "must not contain credentials"),
        ({"url": "http://host/?a=1"}, "must not contain"),
        ({"url": "http://host:99999"}, "[Pp]ort"),
        ({"url": "unix://relative/path"}, "unix:///"),
        ({"url": "http://host", "timeout": "0s"}, "must be positive"),
        ({"url": "http://host", "timeout": "5 seconds"}, "invalid duration"),
        ({"url": "http://host", "tokenfile": "x"}, "Extra inputs"),
        ({"url": "http://host", "headers": {"authorization": "x"}}, "basic or token_file"),
        ({"url": "http://host", "headers": {"A": "x"}, "header_files": {"a": "y"}}, "set twice"),
        ({"url": "http://host", "token_file": "a", "basic": {"username": "u", "password_file": "b"}}, "not both"),
        ({"url": "http://host", "tls": {"key_file": "k"}}, "needs cert_file"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, Any], message: str) -> None:
    """A wrong setting of an endpoint is reported when the settings are read."""
    with pytest.raises(ValidationError, match=message):
        Endpoint.model_validate(settings)


def test_relative_files_are_beside_the_settings_file() -> None:
    """Relative paths start at the folder of the settings file, whatever the working directory is."""
    settings = {"url": "http://host", "token_file": "t", "tls": {"ca_file": "/abs/ca"}}
    endpoint = Endpoint.model_validate(settings, context={"base": Path("/etc/remediator")})
    assert endpoint.token_file == Path("/etc/remediator/t")
    assert endpoint.tls.ca_file == Path("/abs/ca")


def test_an_endpoint_is_equal_after_writing_and_reading() -> None:
    """An endpoint that is written and read back is equal, and durations keep their form."""
    endpoint = Endpoint.model_validate({"url": "http://host/prefix/", "timeout": "1m30s"})
    assert endpoint.model_dump(mode="json")["timeout"] == "1m30s"
    assert Endpoint.model_validate_json(endpoint.model_dump_json()) == endpoint
