"""``service.logs``: Read the last log lines of a service and report signs of a cause in the lines of this incident."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from pydantic import Field

from remediator.core.outcome import Outcome
from remediator.core.plan import PlannedCall
from remediator.core.types import Duration
from remediator.extensions.actions.base import INCIDENT_START, Action, Result
from remediator.extensions.log_lines import dated
from remediator.extensions.parameters import Parameters
from remediator.playbooks.facts import Fact
from remediator.playbooks.inventory import Service

_TELLING = re.compile(
    r"error|fail|fatal|panic|traceback|exception|denied|refused|full|out of memory|oom|corrupt|bad file|can't|cannot",
    re.IGNORECASE,
)
_KEPT = 4000
_SIGNS = {
    "missing_module": re.compile(r"(?:ModuleNotFoundError|ImportError): (.+)"),
    "missing_variable": re.compile(r"(?:KeyError: '([A-Z][A-Z0-9_]+)'|([A-Z][A-Z0-9_]+): required by)"),
    "address_in_use": re.compile(r"(.*(?:[Aa]ddress already in use|Connection in use: \().*)"),
    "too_many_files": re.compile(r"(.*[Tt]oo many open files.*)"),
    "wrong_password": re.compile(
        r"(.*(?:WRONGPASS|NOAUTH|invalid username-password pair|Authentication required|invalid password).*)"
    ),
    "connection_error": re.compile(r"((?:\w+\.)*Connection\w*Error\b.*|.*[Cc]onnection refused.*)"),
    "out_of_memory": re.compile(r"(.*(?:MemoryError|[Oo]ut of memory|OOM command not allowed|oom-kill).*)"),
    "disk_full": re.compile(r"(.*No space left on device.*)"),
    "corrupt_data": re.compile(
        r"(.*(?:Bad file format|checksum|Unexpected (?:end of file|EOF reading)|corrupt|Wrong signature trying to load"
        r"|Short read or OOM loading DB|Internal error in RDB|Terminating server after rdb file reading failure"
        r"|Fatal error loading the DB).*)",
        re.IGNORECASE,
    ),
    "cannot_fork": re.compile(r"(.*[Cc]an't .*: fork: .*)"),
    "exception": re.compile(r"^((?:\w+\.)*\w+(?:Error|Exception)(?:: .*)?)$"),
}
"""Patterns of lines that show a cause. The last line of each kind counts."""
_CANNOT_SAVE = re.compile(
    r"(.*(?:Background saving error|Can't save in background|Error saving DB|Write error (?:saving DB|while saving)"
    r"|can't exit|Failed opening the (?:temp )?RDB file|Error writing to the AOF file|MISCONF).*)",
    re.IGNORECASE,
)
_SAVED = re.compile(
    r"Background saving terminated with success|DB saved on disk"
    r"|AOF write error looks solved|Ready to accept connections"
)
"""A line that makes an earlier `_CANNOT_SAVE` line obsolete: Redis saved later, or a new process started."""
_LOADING = re.compile(
    r"(?P<load>^\d+:[A-Z] .*[*#] (?:Server initialized|Loading RDB produced|Reading RDB|.*sync: Loading DB in memory))"
    r"|^\d+:[A-Z] .*[*#] (?:Ready to accept connections|.*sync: Finished with success)"
)
"""Beginning and end of a load, as Redis and Valkey log them. During the load of a big value, nothing is answered."""
_BAD_CONFIGURATION = re.compile(r"FATAL CONFIG FILE ERROR")
_CONFIGURATION_LINES = 4
"""Redis writes the place, the directive and the reason into the lines after the first one."""


class LogsParameters(Parameters):
    """Parameters of ``service.logs``."""

    lines: int = Field(default=100, ge=1, le=2000, description="Number of last lines to read from each stream.")
    margin: Duration = Field(
        default=timedelta(minutes=5),
        description="Signs count from this long before the start of the incident. An alert fires later than its cause.",
    )
    previous: bool = Field(
        default=False, description="Read the logs of the previous instance, where the platform keeps them."
    )


class ServiceLogs(Action):
    """Read the last log lines of a service since its last start. Fails if they show a cause. Read-only.

    A sign counts only from the current instance and the time of this incident. A failed save counts from the current
    instance at any time, until a later save succeeds.
    """

    name = "service.logs"
    Parameters = LogsParameters
    mutates = False
    idempotent = True
    timeout = timedelta(seconds=10)
    facts = (
        Fact("signs", "object", "Signs of a cause: the last line of each kind. Only found kinds are included."),
        *(
            Fact(f"signs.{sign}", "string", "Last line of this kind.")
            for sign in (*_SIGNS, "cannot_save", "bad_configuration", "loading")
        ),
        Fact("traceback", "boolean", "Whether the log contains a Python traceback."),
        Fact("telling", "list", "The last 20 lines with an error."),
        Fact("tail", "string", "End of the log."),
    )

    async def plan(self, service: Service, parameters: LogsParameters) -> PlannedCall:
        return PlannedCall(text=f"read the last {parameters.lines} log lines of {service.name}")

    async def execute(self, service: Service, parameters: LogsParameters, call: PlannedCall) -> Result:
        platform = self.clients.platform_of(service)
        text = await platform.logs(service, parameters.lines, previous=parameters.previous)
        since, found = INCIDENT_START.get(), dated(text, self.clients.clock.now())
        lines = [line.text for line in found]
        limit = None if since is None else since - parameters.margin
        current = [line.text for line in found if limit is None or line.at is None or line.at >= limit]
        telling = [line for line in lines if _TELLING.search(line)]
        signs = told_by(current) | _lasting(lines)
        cause = next(iter(signs.items()), None)
        summary = telling[-1][:300] if telling else f"{len(lines)} lines without an error"
        if cause is not None:
            summary = f"{cause[0].replace('_', ' ')}: {cause[1]}"[:300]
        facts = {
            "signs": signs,
            "traceback": any("Traceback (most recent" in line for line in current),
            "telling": telling[-20:],
            "tail": "\n".join(lines)[-_KEPT:],
        }
        return Result(Outcome.FAILED if signs else Outcome.OK, summary, facts)


def told_by(lines: Sequence[str]) -> dict[str, str]:
    """Return the signs of a cause in the lines: kind, and the last line (or a part of it).

    The clearest sign comes first.
    """
    found: dict[str, str] = {}
    for sign, pattern in _SIGNS.items():
        matches = (pattern.search(line) for line in reversed(lines))
        match = next((match for match in matches if match), None)
        if match is not None:
            found[sign] = next(group for group in match.groups() if group)[:300].strip()
    configuration = _bad_configuration(lines)
    if configuration:
        found["bad_configuration"] = configuration
    return found | _lasting(lines)


def _lasting(lines: Sequence[str]) -> dict[str, str]:
    """Return the signs that stay true until a later line ends them."""
    found = {"cannot_save": _failed_save(lines), "loading": _load(lines)}
    return {sign: line for sign, line in found.items() if line}


def _bad_configuration(lines: Sequence[str]) -> str:
    """Return line, directive and reason of a configuration that Redis rejected at its last start; empty if none."""
    for number in range(len(lines) - 1, -1, -1):
        if "Ready to accept connections" in lines[number]:
            return ""
        if _BAD_CONFIGURATION.search(lines[number]):
            told = (line.strip(" >") for line in lines[number + 1 : number + _CONFIGURATION_LINES])
            return ": ".join(line.removeprefix("Reading the configuration file, ") for line in told if line)[:300]
    return ""


def _failed_save(lines: Sequence[str]) -> str:
    """Return the last line about a save of Redis that failed; empty if a later line ends it."""
    for line in reversed(lines):
        if _SAVED.search(line):
            return ""
        if match := _CANNOT_SAVE.search(line):
            return match[1][:300].strip()
    return ""


def _load(lines: Sequence[str]) -> str:
    """Return the last line about an unfinished load of data by Redis; empty if there is no such line."""
    for line in reversed(lines):
        if match := _LOADING.search(line):
            return line[:300].strip() if match["load"] else ""
    return ""
