"""supervisord's XML-RPC interface, over its unix socket or over TCP."""

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
from remediator.clients.http import MEBIBYTE, HttpClient, HttpRefused
from remediator.errors import BadAnswer, Refused, TargetError

_NOT_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_MAX_LOG = MEBIBYTE
_LONGEST_CHARACTER = 4


class ProcessState(IntEnum):
    """supervisord's own states and numbers."""

    STOPPED = 0
    STARTING = 10
    RUNNING = 20
    BACKOFF = 30
    STOPPING = 40
    EXITED = 100
    FATAL = 200
    UNKNOWN = 1000


class Fault(IntEnum):
    """The refusals that a caller may want to tell apart."""

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
    """supervisord answered with a fault; ``fault`` says which."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ProcessPin:
    """Which incarnation of a process was looked at; another start has another pid or another start time."""

    pid: int
    started: datetime | None


@dataclass(frozen=True, slots=True)
class Process:
    """One process as supervisord sees it. ``pid`` is 0 when it does not run."""

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
    stderr_log: str

    @property
    def full_name(self) -> str:
        """``group:name``, or the name alone where both are the same, as supervisorctl prints it."""
        return self.name if self.name == self.group else f"{self.group}:{self.name}"

    @property
    def pin(self) -> ProcessPin:
        """What to hand to a later call so that it refuses when the process is another one by then."""
        return ProcessPin(self.pid, self.started)


class Supervisor:
    """One supervisord.

    Every method raises what `HttpClient.call` raises, `SupervisorRefused` for a fault, and `BadAnswer` for
    anything that is not XML-RPC. Those that change something take ``expected``: they look first, and raise
    `TargetError` when the process is not the one that was planned against. supervisord cannot compare by itself, so
    a restart in the millisecond between the two calls would still be missed.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._http = HttpClient(endpoint, max_bytes=8 * MEBIBYTE)
        self._url = endpoint.url

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def state(self) -> str:
        """supervisord's own state: RUNNING, RESTARTING, SHUTDOWN or FATAL."""
        answer = await self._call("supervisor.getState")
        return str(_fields(answer)["statename"])

    async def processes(self) -> tuple[Process, ...]:
        """Every process that it knows, running or not."""
        answer = await self._call("supervisor.getAllProcessInfo")
        if not isinstance(answer, list):
            raise BadAnswer(f"{self._url}: getAllProcessInfo did not answer a list")
        return tuple(_process(each) for each in answer)

    async def process(self, name: str) -> Process:
        """One process, by ``name`` or ``group:name``."""
        return _process(await self._call("supervisor.getProcessInfo", name))

    async def start(self, name: str, *, wait: bool = True, seconds: float | None = None) -> None:
        """Start it; with ``wait``, answer only when it stayed up for its ``startsecs``.

        Args:
            seconds: how long to wait for the answer (default: the endpoint's timeout).
        """
        await self._change("supervisor.startProcess", name, wait, seconds=seconds)

    async def stop(
        self, name: str, *, wait: bool = True, expected: ProcessPin | None = None, seconds: float | None = None
    ) -> None:
        """Stop it; supervisord kills it after its ``stopwaitsecs``. With ``wait``, answer only when it is gone."""
        await self._check(name, expected)
        await self._change("supervisor.stopProcess", name, wait, seconds=seconds)

    async def signal(self, name: str, signal: str, *, expected: ProcessPin | None = None) -> None:
        """Send a signal by name, such as ``TTIN`` or ``HUP``."""
        await self._check(name, expected)
        await self._change("supervisor.signalProcess", name, signal)

    async def stdout(self, name: str, max_bytes: int = 16_384) -> str:
        """The end of what it wrote to its standard output; control characters become spaces."""
        return await self._log("supervisor.readProcessStdoutLog", name, max_bytes)

    async def stderr(self, name: str, max_bytes: int = 16_384) -> str:
        """The end of what it wrote to its standard error; refused (NO_FILE) where that goes to standard output."""
        return await self._log("supervisor.readProcessStderrLog", name, max_bytes)

    async def _log(self, method: str, name: str, max_bytes: int) -> str:
        """supervisord answers 500 when the piece begins inside a character, so up to three other places are tried."""
        size = min(max_bytes, _MAX_LOG)
        for shorter in range(_LONGEST_CHARACTER):
            try:
                return str(await self._call(method, name, -(size - shorter), 0))
            except HttpRefused as error:
                if error.status != 500 or shorter == _LONGEST_CHARACTER - 1:
                    raise
        raise AssertionError("the last round returns or raises")

    async def _check(self, name: str, expected: ProcessPin | None) -> None:
        if expected is None:
            return
        found = (await self.process(name)).pin
        if found != expected:
            raise TargetError(f"{name} is pid {found.pid} now and not pid {expected.pid} as planned; nothing was done")

    async def _change(self, method: str, *arguments: str | bool, seconds: float | None = None) -> None:
        if await self._call(method, *arguments, reads=False, seconds=seconds) is not True:
            raise BadAnswer(f"{self._url}: {method} did not answer true")

    async def _call(self, method: str, *arguments: Any, reads: bool = True, seconds: float | None = None) -> Any:
        answer = await self._http.call(
            "POST",
            "/RPC2",
            content=xmlrpc.client.dumps(arguments, method).encode(),
            headers={"Content-Type": "text/xml"},
            reads=reads,
            seconds=seconds,
        )
        return _loads(answer.body, f"{self._url}: {method}")


def _loads(body: bytes, call: str) -> Any:
    """The answer's value. Documents with a DTD are refused: that is where XML can grow or reach out."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise BadAnswer(f"{call} answered XML with a document type")
    try:
        (value,), _ = xmlrpc.client.loads(_NOT_XML.sub(b" ", body))
    except xmlrpc.client.Fault as fault:
        raise SupervisorRefused(f"{call}: {fault.faultString}", _fault(fault.faultCode)) from None
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadAnswer(f"{call} did not answer XML-RPC: {error}") from None
    return value


def _fault(code: int) -> Fault:
    return Fault(code) if code in Fault._value2member_map_ else Fault.OTHER


def _fields(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise BadAnswer("supervisord did not answer a struct")
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
            stderr_log=str(fields["stderr_logfile"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadAnswer(f"supervisord described a process without a usable {error}") from None


def _instant(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
