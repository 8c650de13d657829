"""Requests to ``remediator-remote`` on another host, through the system's OpenSSH client.

The wrapper greets first, and nothing is sent before the greeting. A connection that never began, or that was refused,
therefore proves that nothing happened: ``Unreachable`` or ``Refused``. After the request was sent, a broken connection
leaves the outcome of a change open: ``TimedOut``. Then :meth:`RemoteHost.settle` returns the record of the host about
the attempt.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

from remediator.clients.host import process
from remediator.clients.host.disk import tool
from remediator.clients.ssh.configuration import TARGET, configuration_file
from remediator.clients.ssh.settings import Host
from remediator.clients.ssh.wrapper import MAX_REQUEST, PROTOCOL, WORD
from remediator.core import untrusted_json
from remediator.core.attempt_calls import current_attempt
from remediator.errors import BadAnswer, ClientError, Refused, RemediatorError, TargetError, TimedOut, Unreachable

MAX_CALLS = 64
"""Maximum number of calls to all hosts at once."""
_START_SECONDS = 5.0
"""Time that the wrapper may take to start, after the connection was made."""
_SLACK_SECONDS = process.GRACE.total_seconds() + 3.0
"""Maximum delay of the answer of a wrapper that gave up."""
_SETTLE_SECONDS = 4.0
"""Time to wait for the end of a call that still runs, within the time for an observation."""
_LONGEST_ANSWER = 32 * 1024 * 1024
_ERRORS: Mapping[str, type[RemediatorError]] = {
    error.__name__: error for error in (Unreachable, TimedOut, Refused, BadAnswer, TargetError)
}


class CallState(StrEnum):
    """The record of a host about one call of an attempt."""

    FINISHED = "finished"
    RUNNING = "running"
    UNKNOWN = "unknown"
    """It was begun, and its process ended without an outcome."""


@dataclass(frozen=True, slots=True)
class PastCall:
    """A call that the host began."""

    state: CallState
    outcome: Mapping[str, Any]
    """Its result as ``ok``, or its ``error`` and ``text``; empty unless it is finished."""


@dataclass(slots=True)
class _Room:
    """The calls of one event loop that may run at once."""

    overall: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CALLS))
    hosts: dict[tuple[str, int, int], asyncio.Semaphore] = field(default_factory=dict)


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Room] = WeakKeyDictionary()


class RemoteHost:
    """A host with ``remediator-remote``."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def read(self, verb: str, *, seconds: float = 10.0, **arguments: Any) -> Any:
        """Return the result of a request that changes nothing.

        Args:
            verb: name of the request.
            seconds: time that the host may take.
            arguments: entries of the allow-list and values.

        Raises:
            Unreachable: the host cannot be reached, or the connection broke.
            Refused: the host or its allow-list refuses it, or its key is not the known one.
            ClientError: the error that the wrapper reports.
        """
        return await self._call({"verb": verb, "seconds": seconds, **arguments}, seconds, changes=False)

    async def change(self, verb: str, *, seconds: float, **arguments: Any) -> Any:
        """Make a change, once. The host writes a marker with the ID of the current attempt before it begins.

        Raises:
            TargetError: there is no current attempt; see :mod:`remediator.core.attempt_calls`.
            TimedOut: the connection broke after the request was sent, or the change took too long: the outcome is
                unknown.
            ClientError: as :meth:`read`; nothing was changed.
        """
        made = current_attempt()
        request = {
            "verb": verb,
            "seconds": seconds,
            "attempt": made.attempt,
            "number": made.next_number(),
            **arguments,
        }
        return await self._call(request, seconds, changes=True)

    async def settle(self) -> tuple[PastCall, ...]:
        """Return the calls of the current attempt that the host began. From now on, it begins no other one.

        So an empty result proves that the attempt changed nothing and will change nothing. It waits for a call that
        still runs, but not for long.

        Raises:
            ClientError: as :meth:`read`.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            found = await self._call({"verb": "settle", "attempt": current_attempt().attempt}, 10.0, changes=False)
            try:
                calls = tuple(PastCall(CallState(each["state"]), dict(each.get("outcome", {}))) for each in found)
            except (KeyError, ValueError, TypeError, AttributeError):
                raise BadAnswer(f"{self.host}: the markers of the attempt cannot be understood") from None
            if time.monotonic() > deadline or all(call.state is not CallState.RUNNING for call in calls):
                return calls
            await asyncio.sleep(0.2)

    async def _call(self, request: Mapping[str, Any], seconds: float, *, changes: bool) -> Any:
        content = json.dumps(request).encode() + b"\n"
        if len(content) > MAX_REQUEST:
            raise TargetError(f"the request to {self.host} is longer than {MAX_REQUEST} bytes; nothing was done")
        async with self._greeted() as child:
            try:
                async with asyncio.timeout(seconds + _SLACK_SECONDS):
                    line = await self._asked(child, content)
            except TimeoutError:
                raise TimedOut(f"{self.host} did not answer within {seconds + _SLACK_SECONDS:g} s") from None
        if not line.endswith(b"\n"):
            broken = f"the connection to {self.host} broke after the request was sent"
            raise TimedOut(f"{broken}; the outcome is unknown") if changes else Unreachable(broken)
        try:
            answer = untrusted_json.decode(line)
            if "ok" in answer:
                return answer["ok"]
            error, text = _ERRORS[answer["error"]], str(answer["text"])
        except (ValueError, KeyError, TypeError):
            raise BadAnswer(f"{self.host}: the answer of {WORD} cannot be understood: {line[:200]!r}") from None
        raise error(f"{self.host}: {text}")

    @staticmethod
    async def _asked(child: asyncio.subprocess.Process, content: bytes) -> bytes:
        assert child.stdin is not None and child.stdout is not None, "it was started with pipes"
        try:
            child.stdin.write(content)
            await child.stdin.drain()
        except OSError:  # ssh has ended; it is unknown how much of the request the wrapper has read
            return b""
        try:
            return await child.stdout.readline()
        except ValueError:
            raise BadAnswer(f"the answer is longer than {_LONGEST_ANSWER} bytes") from None

    @asynccontextmanager
    async def _greeted(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Connect, and yield the ssh process after the wrapper has greeted. Nothing was sent until then."""
        if self.host.missing:
            raise TargetError(
                f"the host {self.host} has no {' and no '.join(self.host.missing)} in the inventory; add it"
            )
        program = tool("ssh")
        if program is None:
            raise Unreachable("the OpenSSH client is not installed here; install it, for example openssh-client")
        argv = (program, "-F", str(configuration_file(self.host)), "-T", "--", TARGET, WORD)
        limit = self.host.connect_timeout.total_seconds() + _START_SECONDS
        room = _rooms.setdefault(asyncio.get_running_loop(), _Room())
        key = (self.host.address, self.host.port, self.host.max_calls)
        of_host = room.hosts.setdefault(key, asyncio.Semaphore(self.host.max_calls))
        async with of_host, room.overall, process.started(argv, limit=_LONGEST_ANSWER) as child:
            assert child.stdout is not None, "it was started with pipes"
            try:
                async with asyncio.timeout(limit):
                    line = await child.stdout.readline()
                    refusal = None if line else await _last_words(child)
            except TimeoutError:
                raise Unreachable(f"{self.host}: no connection within {limit:g} s; nothing was sent") from None
            if refusal is not None:
                raise self._refused(refusal)
            self._check_greeting(line)
            yield child

    def _check_greeting(self, line: bytes) -> None:
        try:
            greeting = untrusted_json.decode(line)
            protocol = greeting[WORD]
        except (ValueError, KeyError, TypeError):
            raise Refused(
                f"{self.host}: {line[:80]!r} is not the greeting of {WORD}; make it the forced command of the key"
            ) from None
        if "error" in greeting:
            raise Refused(f"{self.host}: {greeting.get('text')}")
        if protocol != PROTOCOL:
            raise Refused(
                f"{self.host}: {WORD} has protocol {protocol} instead of {PROTOCOL}; install this version's wrapper"
            )

    def _refused(self, text: str) -> ClientError:
        """Return the error for the message of ssh. Nothing was sent, so nothing happened."""
        said = " ".join(text.split())[-400:]
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
            return Refused(
                f"the key of the host {self.host} is not the one in {self.host.known_hosts}: the host was installed "
                "again, or another host answers; nothing was sent. Find the reason, then correct known_hosts"
            )
        if "host key is known for" in text or "Host key verification failed" in text:
            return Refused(
                f"{self.host.known_hosts} has no key that proves that {self.host} is the right host; nothing was sent. "
                f"Add its key, which you compare on the host itself: {said}"
            )
        if "Permission denied" in text or "UNPROTECTED PRIVATE KEY FILE" in text:
            return Refused(f"{self.host} does not accept the key {self.host.identity_file}: {said}")
        jump = self.host.proxy_jump  # ssh does not forward its own messages about this host
        through = f" through {jump.address}, whose key must be in known_hosts, too" if jump is not None else ""
        return Unreachable(
            f"{self.host} cannot be reached by SSH{through}; nothing was sent: {said or 'no reason given'}"
        )


async def _last_words(child: asyncio.subprocess.Process) -> str:
    """Return what ssh wrote about its end. A shared connection may keep the stream open."""
    assert child.stderr is not None, "it was started with pipes"
    content, deadline = b"", time.monotonic() + 1.0
    while (left := deadline - time.monotonic()) > 0:
        try:
            piece = await asyncio.wait_for(child.stderr.read(process.MAX_OUTPUT), left)
        except TimeoutError:
            break
        if not piece:
            break
        content += piece
    return content.decode(errors="replace")
