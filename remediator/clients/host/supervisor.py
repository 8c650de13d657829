"""Client of supervisord's XML-RPC interface, over a unix socket or TCP."""

from __future__ import annotations

import re
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any
from xml.parsers.expat import ExpatError

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient, HttpRefused
from remediator.core.sizes import MEBIBYTE
from remediator.errors import BadAnswer, Refused, TargetError

_NOT_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_MAX_LOG = MEBIBYTE
_LONGEST_CHARACTER = 4
_SHORTEST_LOG = 64


class ProcessState(IntEnum):
    """States of a process, with supervisord's numbers."""

    STOPPED = 0
    STARTING = 10
    RUNNING = 20
    BACKOFF = 30
    STOPPING = 40
    EXITED = 100
    FATAL = 200
    UNKNOWN = 1000


class Fault(IntEnum):
    """Fault codes of supervisord."""

    SHUTDOWN_STATE = 6
    BAD_NAME = 10
    BAD_SIGNAL = 11
    NO_FILE = 20
    NOT_EXECUTABLE = 21
    FAILED = 30
    ABNORMAL_TERMINATION = 40
    SPAWN_ERROR = 50
    ALREADY_STARTED = 60
    NOT_RUNNING = 70
    OTHER = -1


class SupervisorRefused(Refused):
    """supervisord answered with a fault; ``fault`` is its code."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ProcessPin:
    """Identifies one start of a process. Another start has another pid or start time."""

    pid: int
    started: datetime | None


@dataclass(frozen=True, slots=True)
class Process:
    """A process of supervisord. ``pid`` is 0 if it is not running."""

    group: str
    name: str
    state: ProcessState
    pid: int
    started: datetime | None
    stopped: datetime | None
    now: datetime
    exit_status: int
    spawn_error: str
    description: str
    stdout_log: str

    @property
    def full_name(self) -> str:
        """``group:name``, or only the name if both are equal, as in supervisorctl."""
        return self.name if self.name == self.group else f"{self.group}:{self.name}"

    @property
    def pin(self) -> ProcessPin:
        """Pin for a later call, which is rejected if the process was restarted in between."""
        return ProcessPin(self.pid, self.started)


class Supervisor:
    """A client of one supervisord.

    Every method raises what `HttpClient.call` raises, `SupervisorRefused` for a fault, and `BadAnswer` if the answer is
    not XML-RPC. Methods that change something take ``expected``: if the process was restarted since, they raise
    `TargetError` and change nothing. supervisord cannot compare, so a restart in the millisecond between check and call
    is missed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._http = HttpClient(endpoint, max_bytes=8 * MEBIBYTE)
        self._url = endpoint.url

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def state(self) -> str:
        """Return the state of supervisord itself: RUNNING, RESTARTING, SHUTDOWN or FATAL."""
        answer = await self._call("supervisor.getState")
        return str(_fields(answer)["statename"])

    async def processes(self) -> tuple[Process, ...]:
        """Return all configured processes, running or not."""
        answer = await self._call("supervisor.getAllProcessInfo")
        if not isinstance(answer, list):
            raise BadAnswer(f"{self._url}: getAllProcessInfo did not return a list")
        return tuple(_process(each) for each in answer)

    async def process(self, name: str) -> Process:
        """Return one process, by ``name`` or ``group:name``."""
        return _process(await self._call("supervisor.getProcessInfo", name))

    async def start(self, name: str, *, seconds: float | None = None) -> None:
        """Start a process, and return after it has run for its ``startsecs``.

        Args:
            seconds: timeout of the call; default: the endpoint's.
        """
        await self._change("supervisor.startProcess", name, True, seconds=seconds)

    async def stop(self, name: str, *, expected: ProcessPin | None = None, seconds: float | None = None) -> None:
        """Stop a process, and return after it has ended. supervisord kills it after its ``stopwaitsecs``."""
        await self._check(name, expected)
        await self._change("supervisor.stopProcess", name, True, seconds=seconds)

    async def signal(self, name: str, signal: str, *, expected: ProcessPin | None = None) -> None:
        """Send a signal by name, for example ``TTIN`` or ``HUP``."""
        await self._check(name, expected)
        await self._change("supervisor.signalProcess", name, signal)

    async def stdout(self, name: str, max_bytes: int = 16_384) -> str:
        """Return the end of the standard output. Control characters become spaces."""
        return await self._log("supervisor.readProcessStdoutLog", name, max_bytes)

    async def stderr(self, name: str, max_bytes: int = 16_384) -> str:
        """Return the end of the standard error. Rejected (NO_FILE) if it is redirected to the standard output."""
        return await self._log("supervisor.readProcessStderrLog", name, max_bytes)

    async def own_log(self) -> str:
        """Return the end of supervisord's own log: starts and ends of all processes. Rejected if it has no file."""
        return await self._log("supervisor.readLog", None, 16_384)

    async def _log(self, method: str, name: str | None, max_bytes: int) -> str:
        """Return the end of a log, of a process or without a name.

        If the end starts inside a character, or contains bytes that are not text, supervisord answers 500. Redis prints
        such bytes when its data are damaged. This function therefore retries with a shorter end of the log.
        """
        size = min(max_bytes, _MAX_LOG)
        sizes = [size - shorter for shorter in range(_LONGEST_CHARACTER)]
        while (size := size // 2) >= _SHORTEST_LOG:
            sizes.append(size)
        for tried in sizes:
            try:
                return str(await self._call(method, *(() if name is None else (name,)), -tried, 0))
            except HttpRefused as error:
                if error.status != 500 or tried == sizes[-1]:
                    raise
        raise AssertionError("the last iteration returns or raises")

    async def _check(self, name: str, expected: ProcessPin | None) -> None:
        if expected is None:
            return
        found = (await self.process(name)).pin
        if found != expected:
            raise TargetError(
                f"{name} was restarted after planning (pid {found.pid}, expected {expected.pid}); nothing was changed"
            )

    async def _change(self, method: str, *arguments: str | bool, seconds: float | None = None) -> None:
        if await self._call(method, *arguments, reads=False, seconds=seconds) is not True:
            raise BadAnswer(f"{self._url}: {method} did not return true")

    async def _call(self, method: str, *arguments: Any, reads: bool = True, seconds: float | None = None) -> Any:
        answer = await self._http.call(
            "POST",
            "/RPC2",
            content=xmlrpc.client.dumps(arguments, method).encode(),
            headers={"Content-Type": "text/xml"},
            reads=reads,
            seconds=seconds,
        )
        call = f"{self._url}: {method}"
        # a document type declaration allows entity expansion and external entities
        if b"<!DOCTYPE" in answer.body or b"<!ENTITY" in answer.body:
            raise BadAnswer(f"{call}: the answer contains a document type declaration")
        try:
            (value,), _ = xmlrpc.client.loads(_NOT_XML.sub(b" ", answer.body))
        except xmlrpc.client.Fault as fault:
            code = Fault(fault.faultCode) if fault.faultCode in Fault._value2member_map_ else Fault.OTHER
            raise SupervisorRefused(f"{call}: {fault.faultString}", code) from None
        except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise BadAnswer(f"{call}: the answer is not XML-RPC: {error}") from None
        return value


def _fields(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise BadAnswer("unexpected answer of supervisord: not a struct")
    return answer


def _process(answer: Any) -> Process:
    fields = _fields(answer)
    try:
        return Process(
            group=str(fields["group"]),
            name=str(fields["name"]),
            state=ProcessState(fields["state"]),
            pid=int(fields["pid"]),
            started=_instant(fields["start"]),
            stopped=_instant(fields["stop"]),
            now=datetime.fromtimestamp(fields["now"], UTC),
            exit_status=int(fields["exitstatus"]),
            spawn_error=str(fields["spawnerr"]),
            description=str(fields["description"]),
            stdout_log=str(fields["stdout_logfile"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadAnswer(f"unexpected answer of supervisord: process without a valid {error}") from None


def _instant(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
