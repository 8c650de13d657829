"""Kubeconfig files and service accounts."""

from __future__ import annotations

import ssl
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import HttpClient
from remediator.clients.kubernetes.kubeconfig import Access, access, from_kubeconfig, from_service_account
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.errors import ConfigurationError, TargetError, TimedOut, Unreachable
from tests.support.fake_servers import Authority, peer, reply


def write(folder: Path, its_cluster: Any = None, its_user: Any = None, /, **context: Any) -> Path:
    """Write a kubeconfig with one cluster, user and context."""
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **(its_cluster or {})}}],
        "users": [{"name": "u", "user": its_user or {}}],
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", **context}}],
        "current-context": "main",
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def test_the_current_context_is_used(tmp_path: Path) -> None:
    """The client uses server, namespace and token of the current context, or of a named one."""
    found = from_kubeconfig(write(tmp_path, None, {"token": "t"}, namespace="apps"))
    assert (found.endpoint.url, found.namespace) == ("https://127.0.0.1:6443", "apps")
    assert found.credentials() == {"Authorization": "Bearer t"}
    assert from_kubeconfig(write(tmp_path)).namespace == "default"
    assert from_kubeconfig(write(tmp_path)).credentials() == {}
    with pytest.raises(ConfigurationError, match="no context 'other'"):
        from_kubeconfig(write(tmp_path), "other")


def test_a_token_file_is_read_for_every_call(tmp_path: Path) -> None:
    """The token file is found beside the kubeconfig and read for every call, so a rotated token works."""
    found = from_kubeconfig(write(tmp_path, None, {"tokenFile": "token"}))
    for token in ("one", "two"):
        (tmp_path / "token").write_text(token + "\n")
        assert found.credentials() == {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("inline", [True, False])
async def test_certificates_are_taken_from_files_or_from_the_config(tmp_path: Path, inline: bool) -> None:
    """Client certificate and CA come from files or from the kubeconfig. The server name to verify is configurable."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("kubernetes.default.svc")
    mine, my_key = authority.issue("remediator")

    def entry(name: str, path: Path) -> dict[str, str]:
        return {f"{name}-data": b64encode(path.read_bytes()).decode()} if inline else {name: path.name}

    async with peer(reply(200, b"ok"), authority.server_context(certificate, key, clients=True)) as server:
        cluster = {
            "server": f"https://127.0.0.1:{server.port}",
            "tls-server-name": "kubernetes.default.svc",
            **entry("certificate-authority", authority.ca_file),
        }
        user = {**entry("client-certificate", mine), **entry("client-key", my_key)}
        assert await ask(from_kubeconfig(write(tmp_path, cluster, user))) == b"ok"
        with pytest.raises((Unreachable, TimedOut)):
            await ask(from_kubeconfig(write(tmp_path, cluster)))
        del cluster["tls-server-name"]
        with pytest.raises(Unreachable, match="certificate"):
            await ask(from_kubeconfig(write(tmp_path, cluster, user)))
        cluster["insecure-skip-tls-verify"] = True  # type: ignore[assignment]
        assert await ask(from_kubeconfig(write(tmp_path, cluster, user))) == b"ok"


async def ask(way: Access) -> bytes:
    client = HttpClient(way.endpoint, context=way.context, credentials=way.credentials)
    try:
        return (await client.get("/version")).body
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({}, {"exec": {"command": "aws"}}, "exec: apiVersion must be"),
        ({}, {"auth-provider": {"name": "gcp"}}, "auth-provider is not supported"),
        ({}, {"username": "a", "password": "b"}, "username is not supported"),
        ({}, {"as": "root"}, "as is impersonation"),
        ({"proxy-url": "http://p"}, {}, "proxy-url"),
        ({"server": ""}, {}, "must be http"),
        ({"certificate-authority": "missing"}, {}, "certificate-authority"),
        ({"certificate-authority-data": "%%%"}, {}, "certificate-authority"),
        ({"certificate-authority-data": b64encode(b"x").decode()}, {}, "cannot use"),
        ({}, {"client-certificate-data": "eA==", "client-key-data": "eA=="}, "cannot use"),
    ],
)
def test_logins_that_are_not_supported_are_named(cluster: Any, user: Any, message: str, tmp_path: Path) -> None:
    """An unsupported login is an error: it is neither run nor ignored."""
    with pytest.raises(ConfigurationError, match=message):
        from_kubeconfig(write(tmp_path, cluster, user))


@pytest.mark.parametrize("content", [None, b"", b"[]", b"a: [", b"\xff", b"contexts: []"])
def test_a_file_that_is_no_kubeconfig_is_named(content: bytes | None, tmp_path: Path) -> None:
    """The error about an invalid kubeconfig has its path."""
    path = tmp_path / "config"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="config"):
        from_kubeconfig(path)


@pytest.mark.parametrize("kind", ["cluster", "user"])
def test_a_context_without_a_cluster_or_user_is_named(kind: str, tmp_path: Path) -> None:
    """A context whose cluster or user is missing is an error."""
    with pytest.raises(ConfigurationError, match=f"no {kind} 'x'"):
        from_kubeconfig(write(tmp_path, **{kind: "x"}))


def test_the_service_account_of_the_pod_is_used(tmp_path: Path) -> None:
    """In a pod, the address comes from the environment and the rest from its folder. Elsewhere this is an error."""
    authority = Authority(tmp_path)
    authority.ca_file.rename(tmp_path / "ca.crt")
    (tmp_path / "namespace").write_text("apps")
    (tmp_path / "token").write_text("t")
    here = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    found = from_service_account(tmp_path, here)
    assert (found.endpoint.url, found.namespace) == ("https://10.0.0.1:443", "apps")
    assert found.credentials() == {"Authorization": "Bearer t"}
    assert found.context.verify_mode is ssl.CERT_REQUIRED
    assert from_service_account(tmp_path, {**here, "KUBERNETES_SERVICE_HOST": "fd00::1"}).endpoint == Endpoint(
        url="https://[fd00::1]:443", timeout=found.endpoint.timeout
    )
    with pytest.raises(ConfigurationError, match="not a pod"):
        from_service_account(tmp_path, {})
    (tmp_path / "namespace").unlink()
    with pytest.raises(ConfigurationError, match="service account"):
        from_service_account(tmp_path, here)


def test_settings_choose_a_kubeconfig_or_the_service_account(tmp_path: Path) -> None:
    """The settings choose a kubeconfig or the service account of the pod, and may set another namespace."""
    path = write(tmp_path, namespace="apps")
    assert access(ClusterSettings(kubeconfig=path)).namespace == "apps"
    assert access(ClusterSettings(kubeconfig=path), "other").namespace == "other"
    with pytest.raises(ValidationError, match="context needs kubeconfig"):
        ClusterSettings(context="x")
    with pytest.raises(TargetError, match="cannot access the cluster: no kubeconfig is set, and this is not a pod"):
        access(ClusterSettings())
