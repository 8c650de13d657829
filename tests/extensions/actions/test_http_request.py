"""``http.request`` sends only the requests and only to the hosts of the settings, once, and follows no redirect."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from remediator.clients.allowed_requests import AllowedRequest, forbidden_reason
from remediator.core.outcome import Outcome
from remediator.errors import BadAnswer, Refused, TargetError, TimedOut, Unreachable
from remediator.extensions.actions.base import EffectStatus
from remediator.extensions.actions.http_request import HttpRequest
from remediator.extensions.clientset import ClientSet
from tests.support.action_runner import do, observe, plan, service
from tests.support.fake_servers import listener, peer, read_request, reply
from tests.support.servers.unanswered import deaf

APP = service("app")


def action(port: int = 9, host: str = "127.0.0.1", **more: Any) -> HttpRequest:
    given = {"url": f"http://{host}:{port}/purge", "private": True, "fields": ["tag"], **more}
    return HttpRequest(ClientSet(requests={"purge": AllowedRequest.model_validate(given)}))


async def test_a_request_is_sent_as_the_settings_define_it() -> None:
    """Method, path and host come from the settings; the body contains the values of the playbook."""
    async with peer(reply(200, b'{"purged": 3}')) as web:
        result = await do(action(web.port), APP, request="purge", fields={"tag": "items"})

    assert result.outcome is Outcome.OK and '"purged": 3' in result.output["text"]
    assert web.requests[0].startswith(b"POST /purge HTTP/1.1") and b'{"tag":"items"}' in web.requests[0]


async def test_an_error_of_the_server_leaves_it_unknown() -> None:
    """After a 5xx the outcome is unknown, because the server may have acted before it failed."""
    async with peer(reply(500, b"oops")) as web:
        result = await do(action(web.port), APP, request="purge")

    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"request": "drop-database"}, "the settings do not allow the request"),
        ({"request": "purge", "fields": {"url": "http://evil"}}, "does not accept the fields: url"),
        ({"request": "purge", "fields": {"tag": "x" * 2000}}, "longer than"),
    ],
)
async def test_what_the_settings_do_not_allow_is_refused(given: dict[str, Any], says: str) -> None:
    """A request that the settings do not allow is refused before it is sent."""
    with pytest.raises(TargetError, match=says):
        await plan(action(), APP, **given)


@pytest.mark.parametrize("url", ["ftp://x/y", "unix:///run/docker.sock", "http://u:p@x/", "http://x/?a=b", "//x"])
def test_an_address_that_is_no_web_address_is_refused(url: str) -> None:
    """Settings with an invalid URL are refused when they are loaded."""
    with pytest.raises(ValidationError):
        AllowedRequest.model_validate({"url": url})


@pytest.mark.parametrize(
    ("address", "private", "allowed"),
    [
        ("169.254.169.254", True, False),
        ("fe80::1", True, False),
        ("::ffff:169.254.169.254", True, False),
        ("64:ff9b::169.254.169.254", True, False),
        ("2002:a9fe:a9fe::", True, False),
        ("64:ff9b::8.8.8.8", False, True),
        ("0.0.0.0", True, False),
        ("224.0.0.1", True, False),
        ("127.0.0.1", False, False),
        ("10.1.2.3", False, False),
        ("::1", False, False),
        ("fd00::1", False, False),
        ("::ffff:10.0.0.1", False, False),
        ("100.64.0.1", False, False),
        ("10.1.2.3", True, True),
        ("93.184.215.14", False, True),
        ("fd00:ec2::254", True, False),
        ("fd20:ce::254", True, False),
        ("100.100.100.200", True, False),
        ("192.0.0.192", True, False),
        ("168.63.129.16", True, False),
        ("::ffff:168.63.129.16", True, False),
        ("64:ff9b:1::a9fe:a9fe", True, False),
        ("64:ff9b:1::7f00:1", False, False),
        ("64:ff9b::7f00:1", False, False),
        ("::127.0.0.1", False, False),
        ("::169.254.169.254", True, False),
        ("::10.0.0.1", False, False),
        ("fec0::1", False, False),
        ("::ffff:0:169.254.169.254", True, False),
        ("::ffff:0:127.0.0.1", False, False),
        ("2001:0:0:0:0:0:5601:5601", True, False),
        ("5f00::1", False, False),
        ("3fff::1", False, False),
        ("2606:4700::1111", False, True),
    ],
)
def test_a_forbidden_address_is_refused(address: str, private: bool, allowed: bool) -> None:
    """A request to a metadata service is always refused, and a request to a private network unless the settings allow
    this."""
    assert (forbidden_reason(address, private=private) is None) is allowed


async def test_a_name_that_resolves_to_this_host_is_refused() -> None:
    """The address counts, not the name."""
    with pytest.raises(Refused, match="nothing was sent"):
        await do(action(host="localhost", private=False), APP, request="purge")


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    """A redirect is refused, like any other status that is not 2xx."""
    async with peer(reply(302, b"", "location: http://127.0.0.1:9/")) as web:
        with pytest.raises(Refused, match="302"):
            await do(action(web.port), APP, request="purge")


async def test_no_server_and_no_answer_are_distinguished() -> None:
    """If no connection was made, nothing happened. If the request was sent and not answered, the outcome is unknown."""
    with pytest.raises(Unreachable):
        await do(action(), APP, request="purge")

    async def silent(reader: Any, writer: Any) -> None:
        await read_request(reader)
        await reader.read()

    async with listener(silent) as port:
        with pytest.raises(TimedOut):
            await do(action(port, timeout="200ms"), APP, request="purge")


async def test_a_long_answer_is_cut() -> None:
    """A long body of the answer is cut; the action still succeeds."""
    async with peer(reply(200, b"x" * 300_000)) as web:
        result = await do(action(web.port), APP, request="purge")

    assert result.outcome is Outcome.OK and len(result.output["text"]) == 2000


@pytest.mark.parametrize("status", [401, 403])
async def test_a_client_error_status_is_a_refusal(status: int) -> None:
    """A 4xx raises :class:`Refused`: the server did nothing."""
    async with peer(reply(status, b"who are you?")) as web:
        with pytest.raises(Refused, match=str(status)):
            await do(action(web.port), APP, request="purge")


async def test_an_invalid_answer_leaves_the_outcome_unknown() -> None:
    """After an invalid answer the outcome is unknown."""

    async def nonsense(reader: Any, writer: Any) -> None:
        await read_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with listener(nonsense) as port:
        with pytest.raises((BadAnswer, TimedOut)):
            await do(action(port), APP, request="purge")


async def test_a_request_with_a_lost_answer_is_escalated() -> None:
    """The request was sent once and has no observable effect, so it is never repeated automatically."""
    async with peer(reply(200, b"")) as web, deaf(web.url) as (url, withheld):
        purge = action(int(url.rpartition(":")[2]), timeout="500ms")
        call = await plan(purge, APP, request="purge")
        with pytest.raises(TimedOut):
            await do(purge, APP, call=call, request="purge")
        assert (len(withheld), len(web.requests)) == (1, 1)
        assert (await observe(purge, APP, call, request="purge")).happened is EffectStatus.UNKNOWN
        assert not purge.idempotent


async def test_settings_that_changed_since_the_plan_are_noticed() -> None:
    """If the settings changed after planning, the request is refused: only the approved request is sent."""
    async with peer(reply(200, b"")) as web:
        call = await plan(action(), APP, request="purge")
        with pytest.raises(TargetError, match="'purge' was changed in the settings after planning"):
            await do(action(web.port), APP, call=call, request="purge")
        assert web.requests == []
