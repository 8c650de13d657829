"""Logins of a kubeconfig by a program: only allowed programs run, without a shell, and a login is cached."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from remediator.clients.host import process
from remediator.clients.kubernetes import exec_login
from remediator.clients.kubernetes.client import Kubernetes, KubernetesRefused
from remediator.clients.kubernetes.exec_login import LoginProgram
from remediator.clients.kubernetes.kubeconfig import access, from_kubeconfig
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.errors import ConfigurationError, Unreachable
from tests.support.fake_servers import Authority, peer, reply
from tests.support.servers.kubernetes import Cluster

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture(autouse=True)
def _nothing_allowed() -> Iterator[None]:
    yield
    exec_login.use(())


def program(folder: Path, body: str, name: str = "login") -> Path:
    """Return a program for logins that records its start and then runs the given body."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho run >> {folder}/runs\n{body}\n")
    path.chmod(0o755)
    exec_login.use([LoginProgram(program=str(path), inherit=("HOME",), timeout=timedelta(seconds=60))])
    return path


def answer(expires: timedelta | None = None, version: str = V1, **status: str) -> str:
    """Return the body of a program that answers with a credential."""
    if expires is not None:
        status["expirationTimestamp"] = (datetime.now(UTC) + expires).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(document)}\nEND"


def kubeconfig(folder: Path, url: str, authority: Path | None = None, **login: Any) -> Path:
    """Return a kubeconfig whose user logs in by a program."""
    cluster = {"server": url} if authority is None else {"server": url, "certificate-authority": str(authority)}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"exec": {"apiVersion": V1, **login}}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "main",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def runs(folder: Path) -> int:
    """Return how often the program ran."""
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def ask(path: Path, times: int = 1) -> None:
    """Ask the server for its version."""
    client = Kubernetes(access(ClusterSettings(kubeconfig=path)))
    try:
        for _ in range(times):
            await client.version()
    finally:
        await client.aclose()


OK = reply(200, b'{"gitVersion": "v1.31.2"}', "connection: close")


async def test_the_token_is_sent_and_kept_until_it_expires(tmp_path: Path) -> None:
    """One run serves many calls and clients. A token that is about to expire is replaced before the next call."""
    path = program(tmp_path, answer(timedelta(hours=1), token="t0ken"))
    async with peer(OK) as server:
        config = kubeconfig(tmp_path, server.url, command=str(path))
        await ask(config, times=2)
        await asyncio.gather(ask(config), ask(config))
        assert all(b"authorization: bearer t0ken" in each.lower() for each in server.requests)
        assert len(server.requests) == 4 and runs(tmp_path) == 1
        program(tmp_path, answer(timedelta(seconds=5), token="old"))
        await ask(config, times=2)
    assert runs(tmp_path) == 3


async def test_a_credential_that_the_server_rejects_is_replaced_at_the_next_call(tmp_path: Path) -> None:
    """After a rejected call, the next call uses a new credential. The rejected call is not repeated."""
    path = program(tmp_path, answer(token="t"))
    async with peer(reply(401, b"{}", "connection: close")) as server:
        client = Kubernetes(access(ClusterSettings(kubeconfig=kubeconfig(tmp_path, server.url, command=str(path)))))
        for _ in range(2):
            with pytest.raises(KubernetesRefused):
                await client.version()
        await client.aclose()
        assert len(server.requests) == 2 and runs(tmp_path) == 2


async def test_a_client_certificate_is_presented(tmp_path: Path) -> None:
    """A server that requires a client certificate gets it. After its expiry, the client uses the next certificate."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost", "127.0.0.1")
    mine, my_key = authority.issue("remediator")
    pair = {"clientCertificateData": mine.read_text(), "clientKeyData": my_key.read_text()}
    path = program(tmp_path, answer(timedelta(hours=1), **pair))
    async with peer(OK, authority.server_context(certificate, key, clients=True)) as server:
        url = f"https://127.0.0.1:{server.port}"
        await ask(kubeconfig(tmp_path, url, authority.ca_file, command=str(path)))
        program(tmp_path, answer(clientCertificateData="nonsense", clientKeyData="nonsense"))
        with pytest.raises(Unreachable, match="cannot use the client certificate"):
            await ask(kubeconfig(tmp_path, url, authority.ca_file, command=str(path)))


async def test_the_program_gets_arguments_variables_and_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program gets its arguments unchanged, and only the inherited variables and those of the kubeconfig."""
    monkeypatch.setenv("HOME", "/home/service")
    monkeypatch.setenv("OTHER_SECRET", "hidden")
    record = f"printf '%s|' \"$@\" > {tmp_path}/argv\nenv > {tmp_path}/env\n"
    path = program(tmp_path, record + answer(token="t"))
    async with peer(OK) as server:
        given = {"args": ["get-token", "$(id); a b"], "env": [{"name": "PROFILE", "value": "ops"}]}
        await ask(kubeconfig(tmp_path, server.url, command="./login", provideClusterInfo=True, **given))
        url = server.url
    assert (tmp_path / "argv").read_text() == "get-token|$(id); a b|"
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert seen["PROFILE"] == "ops" and seen["HOME"] == "/home/service" and "OTHER_SECRET" not in seen
    info = json.loads(seen["KUBERNETES_EXEC_INFO"])
    assert info["apiVersion"] == V1 and info["spec"] == {"interactive": False, "cluster": {"server": url}}
    assert str(path) == str(tmp_path / "login")


@pytest.mark.parametrize(
    ("login", "message"),
    [
        ({"command": "aws"}, "do not allow the program 'aws'.*kubernetes_logins"),
        ({"command": "/bin/sh"}, "do not allow the program '/bin/sh'"),
        ({"command": "../login"}, "do not allow the program"),
        ({"command": ""}, "do not allow the program ''"),
        ({"command": "login", "apiVersion": "client.authentication.k8s.io/v1alpha1"}, "apiVersion must be"),
        ({"command": "login", "interactiveMode": "Always"}, "needs a terminal"),
        ({"command": "login", "env": [{"value": "x"}]}, "list of name and value"),
    ],
)
def test_a_login_that_is_not_allowed_is_refused(login: Any, message: str, tmp_path: Path) -> None:
    """A program that is not allowed is refused when the kubeconfig is read, and never runs."""
    program(tmp_path, answer(token="t"))
    with pytest.raises(ConfigurationError, match=f"config: user: exec: .*{message}"):
        from_kubeconfig(kubeconfig(tmp_path, "https://127.0.0.1:1", **login))
    assert runs(tmp_path) == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 'session has expired' >&2; exit 3", "login exited with status 3: session has expired"),
        ("echo not-json", "not an ExecCredential"),
        (answer(version="client.authentication.k8s.io/v1beta1", token="t"), f"not an ExecCredential of {V1}"),
        (answer(), "neither token nor clientCertificateData"),
        (answer(clientCertificateData="c"), "only one of"),
        (answer(token="a\nb"), "cannot be sent in a header"),
        (answer(token="t", expirationTimestamp="2026-01-01T00:00:00"), "no time zone"),
        ("sleep 60", "did not end within"),
    ],
)
async def test_a_program_that_fails_means_that_nothing_was_sent(body: str, message: str, tmp_path: Path) -> None:
    """The error has the last line of standard error, but nothing of standard output, which may hold a secret."""
    path = program(tmp_path, body)
    exec_login.use([LoginProgram(program=str(path), timeout=timedelta(seconds=5))])
    async with peer(OK) as server:
        with pytest.raises(Unreachable, match=message) as failed:
            await ask(kubeconfig(tmp_path, server.url, command="login"))
        assert server.requests == []
    assert "not-json" not in str(failed.value)


async def test_the_output_is_not_shown(tmp_path: Path) -> None:
    """The console never shows the output of a login program, which may contain a token. Warnings are harmless."""
    path = program(tmp_path, "echo warning >&2\n" + answer(token="t0ken"))
    seen: list[bytes] = []
    process.output_follower.set(seen.append)
    async with peer(OK) as server:
        await ask(kubeconfig(tmp_path, server.url, command=str(path)))
    assert seen == []


@pytest.mark.parametrize("wrong", ["login", "bin/login", "/opt/../bin/login", ""])
def test_a_program_needs_an_absolute_path(wrong: str) -> None:
    """A relative path is refused: the search could find a program in a folder that other users can write."""
    with pytest.raises(ValueError, match="absolute path"):
        LoginProgram(program=wrong)


@pytest.mark.kubernetes
async def test_a_real_cluster_accepts_the_login(cluster: Cluster, tmp_path: Path) -> None:
    """The program answers with the token of a service account, and the cluster allows what its Role grants."""
    token = cluster.account("exec", {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]})
    program(tmp_path, answer(timedelta(hours=1), token=token))
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"exec": {"apiVersion": V1, "command": "login"}}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    client = Kubernetes(access(ClusterSettings(kubeconfig=path), cluster.namespace))
    try:
        assert await client.pods({"app": "none"}) == ()
        with pytest.raises(KubernetesRefused, match="Forbidden"):
            await client.workload("deployments", "none")
    finally:
        await client.aclose()
    assert runs(tmp_path) == 1


def test_a_certificate_of_the_cluster_is_passed_on(tmp_path: Path) -> None:
    """The program gets the CA certificate of the cluster as data, so it needs no file."""
    authority = Authority(tmp_path)
    record = f"printf '%s' \"$KUBERNETES_EXEC_INFO\" > {tmp_path}/info\n"
    program(tmp_path, record + answer(token="t"))
    found = from_kubeconfig(
        kubeconfig(tmp_path, "https://127.0.0.1:1", authority.ca_file, command="login", provideClusterInfo=True)
    )
    assert found.log_in is not None
    asyncio.run(found.log_in())
    cluster = json.loads((tmp_path / "info").read_text())["spec"]["cluster"]
    assert cluster["certificate-authority-data"] == b64encode(authority.ca_file.read_bytes()).decode()
    assert found.credentials() == {"Authorization": "Bearer t"}
