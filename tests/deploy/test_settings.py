"""Settings of the local stack in the environment: an error is one sentence that names the variable."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from demo.stack.settings import Ports, StackError, from_environment
from tests.support.servers import free_port


def test_ports_and_folder_can_be_changed(tmp_path: Path) -> None:
    """Each port and the folder have their own variable."""
    settings = from_environment({"STATE": str(tmp_path), "REDIS_PORT": "26379", "NGINX_PORT": "8080"})

    assert settings.state == tmp_path
    assert settings.ports == Ports(redis=26379, nginx=8080)


@pytest.mark.parametrize("text", ["many", "0", "65536", "-1", "", "²"])
def test_an_invalid_port_is_named(text: str) -> None:
    """The error about a wrong port is one sentence with the name of the variable."""
    with pytest.raises(StackError, match=f"^REDIS_PORT='{text}' is not a port"):
        Ports.from_environment({"REDIS_PORT": text})


def test_two_variables_with_one_port_are_named() -> None:
    """The error about a shared port names both variables."""
    with pytest.raises(StackError, match=r"^REDIS_PORT and APP_PORT are both 18000"):
        Ports.from_environment({"REDIS_PORT": "18000"})


def test_a_taken_port_is_named() -> None:
    """The error about a port in use names the variable that changes it."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert f"PROMETHEUS_PORT={port}" in Ports(prometheus=port).busy()


@pytest.mark.parametrize("folder", ["/tmp/a;b", '/tmp/a"b', "/tmp/100%", "/tmp/a#b", "/tmp/$HOME"])
def test_a_folder_that_some_program_would_misread_is_refused(folder: str) -> None:
    """A folder name that a program of the stack would misread is an error."""
    with pytest.raises(StackError, match=r"^STATE is "):
        from_environment({"STATE": folder})


def test_a_folder_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """A folder is refused if the path of a socket in it exceeds the 107 bytes of the kernel."""
    with pytest.raises(StackError, match="too long for a socket"):
        from_environment({"STATE": str(tmp_path / ("x" * 100))})


def test_a_running_stack_is_found_at_its_own_ports(short_folder: Path) -> None:
    """``make down`` and ``make demo`` use the ports of ``make up``, and refuse other values."""
    (short_folder / "ports.json").write_text(json.dumps({**vars(Ports()), "redis": 26379}))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(short_folder / "supervisor.sock"))
        server.listen()

        assert from_environment({"STATE": str(short_folder)}).ports.redis == 26379
        with pytest.raises(StackError, match="runs with REDIS_PORT=26379: stop it first with 'make down'"):
            from_environment({"STATE": str(short_folder), "REDIS_PORT": "26380"})

    assert from_environment({"STATE": str(short_folder)}).ports.redis == Ports().redis
