"""Programs of supervisord."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

from remediator.authoring.onboarding.sources.base import (
    Found,
    FoundService,
    Source,
    Surroundings,
    aliases,
    service_name,
)
from remediator.clients.endpoints import Endpoint
from remediator.clients.host.supervisor import Supervisor
from remediator.errors import ClientError, InputError
from remediator.reporting.formatting import plural

_SOCKETS = (
    "/run/supervisor.sock",
    "/var/run/supervisor.sock",
    "/run/supervisor/supervisor.sock",
)
_FILES = ("/etc/supervisor/supervisord.conf", "/etc/supervisord.conf")


class SupervisorSource(Source):
    """Reads the programs of the given supervisord, or of the supervisord at a usual socket."""

    name = "supervisord"

    async def find(self, surroundings: Surroundings) -> Found:
        urls = [surroundings.supervisor] if surroundings.supervisor else list(dict.fromkeys(_urls(surroundings.folder)))
        problem = "no socket found; give its address, for example with --supervisor unix:///run/supervisor.sock"
        for url in urls:
            async with aclosing(Supervisor(_endpoint(url))) as client:
                try:
                    programs = await client.processes()
                except ClientError as error:
                    problem = str(error)
                    continue
            services = tuple(
                FoundService(
                    service_name(each.name),
                    {"kind": "supervisor", "url": url, "program": each.full_name},
                    aliases((each.name, each.group, each.full_name)),
                )
                for each in programs
            )
            return Found(f"{url}: {plural(len(services), 'program')}", services)
        return Found(problem)


def _endpoint(url: str) -> Endpoint:
    try:
        return Endpoint(url=url, timeout=timedelta(seconds=2))
    except ValueError:
        example = (
            f"unix://{Path(url).resolve()}" if "://" not in url and Path(url).exists() else f"unix://{_SOCKETS[0]}"
        )
        raise InputError(f"--supervisor: invalid URL {url!r}; expected for example {example}") from None


def _urls(folder: Path) -> Iterator[str]:
    for file in (folder / "supervisord.conf", *map(Path, _FILES)):
        settings = configparser.RawConfigParser(strict=False, inline_comment_prefixes=(";",))
        try:
            settings.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        socket = settings.get("unix_http_server", "file", fallback="")
        if socket.startswith("/"):
            yield f"unix://{socket}"
    yield from (f"unix://{socket}" for socket in _SOCKETS if Path(socket).exists())
