"""Where the local stack lives and listens; every port and the folder can be changed by environment variables."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """The stack cannot run; the message is a sentence that says what to do."""


@dataclass(frozen=True)
class Ports:
    """Each is also a variable: ``REDIS_PORT=26379 make up``."""

    redis: int = 16379
    redis_exporter: int = 19121
    node_exporter: int = 19100
    app: int = 18000
    nginx: int = 18080
    prometheus: int = 19090
    alertmanager: int = 19093
    remediator: int = 18095

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Ports:
        """The defaults, with what the environment says instead."""
        chosen = {}
        for field in fields(cls):
            text = environment.get(f"{field.name.upper()}_PORT")
            if text is None:
                continue
            if not text.isdigit() or not 1 <= int(text) <= 65535:
                raise StackError(f"{field.name.upper()}_PORT={text!r} is not a port; use a number from 1 to 65535")
            chosen[field.name] = int(text)
        return cls(**chosen)

    def busy(self) -> list[str]:
        """The variables whose port is taken by somebody else."""
        return [
            f"{field.name.upper()}_PORT={port}" for field in fields(self) if _taken(port := getattr(self, field.name))
        ]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@dataclass(frozen=True)
class Settings:
    """One local stack."""

    state: Path
    ports: Ports

    @property
    def supervisord_conf(self) -> Path:
        """supervisord's configuration; the stack exists once it does."""
        return self.state / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """In a folder of its own, since a socket's path may be no longer than 107 bytes."""
        return self.state / "supervisor.sock"

    @property
    def remediator_yaml(self) -> Path:
        """The remediator's settings file."""
        return self.state / "remediator" / "remediator.yaml"


def from_environment() -> Settings:
    """What the environment says: ``STATE`` and the ports."""
    state = Path(os.environ.get("STATE") or ROOT / "state").resolve()
    if len(str(state / "supervisor.sock")) > 100:
        raise StackError(f"STATE={state} is too long for a socket beneath it; choose a shorter folder")
    return Settings(state, Ports.from_environment(os.environ))
