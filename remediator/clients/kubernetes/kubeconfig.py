"""Access to a Kubernetes cluster: a kubeconfig file, or the service account of the pod that this process runs in."""

from __future__ import annotations

import binascii
import os
import ssl
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from remediator.clients.endpoints import Endpoint, TlsSettings, read_secret
from remediator.clients.kubernetes import exec_login
from remediator.clients.kubernetes.exec_login import ExecLogin
from remediator.clients.kubernetes.settings import ClusterSettings
from remediator.clients.tls import client_context
from remediator.core.local_files import open_regular, read_text
from remediator.errors import ConfigurationError, TargetError, Unreachable

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_REFUSED_USER = {
    "auth-provider": "is not supported by Kubernetes any more; use the token of a service account",
    "username": "is not supported by Kubernetes any more; use the token of a service account",
    "as": "is impersonation, which is not supported; use the account itself",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Access to an API server: address, default namespace, TLS context and credentials."""

    endpoint: Endpoint
    namespace: str
    context: ssl.SSLContext
    credentials: Callable[[], Mapping[str, str]]
    log_in: Callable[[], Awaitable[None]] | None = None
    """Called before each request: gets a new credential if the current credential has expired. Raises `Unreachable`."""
    rejected: Callable[[], None] | None = None
    """Called when the API server did not accept the credential."""


def access(settings: ClusterSettings, namespace: str | None = None) -> Access:
    """Return the access that the settings describe; default namespace: the namespace of the context or of the pod.

    Raises:
        TargetError: a file is missing or invalid, or needs a kind of sign-in that is not supported.
    """
    try:
        if settings.kubeconfig is not None:
            found = from_kubeconfig(settings.kubeconfig, settings.context, timeout=settings.timeout)
        else:
            found = from_service_account(timeout=settings.timeout)
    except ConfigurationError as error:
        raise TargetError(f"cannot access the cluster: {error}") from None
    return found if namespace is None else replace(found, namespace=namespace)


def from_service_account(
    folder: Path = SERVICE_ACCOUNT,
    environment: Mapping[str, str] = os.environ,
    *,
    timeout: timedelta = timedelta(seconds=10),
) -> Access:
    """Return the access of this pod's service account. Its token is rotated, so it is read for every call."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigurationError("no kubeconfig is set, and this is not a pod: KUBERNETES_SERVICE_HOST is not set")
    try:
        namespace = read_secret(folder / "namespace")
        context = client_context(folder / "ca.crt")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot use the pod's service account: {error}") from None
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(Endpoint(url=url, timeout=timeout), namespace, context, partial(_token_of, folder / "token"))


def from_kubeconfig(path: Path, context: str | None = None, *, timeout: timedelta = timedelta(seconds=10)) -> Access:
    """Return the access of a context in a kubeconfig file. Paths in it are relative to the file."""
    try:
        config = yaml.safe_load(read_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path} is not a kubeconfig")
    return _File(path, config).access(context or config.get("current-context"), timeout)


@dataclass(frozen=True, slots=True)
class _File:
    """A kubeconfig file and its content."""

    path: Path
    config: Mapping[str, Any]

    def access(self, context: str | None, timeout: timedelta) -> Access:
        chosen = self._named("context", context)
        cluster, user = self._named("cluster", chosen.get("cluster")), self._named("user", chosen.get("user"))
        if cluster.get("proxy-url"):
            self._fail("proxy-url is not supported")
        for key, reason in _REFUSED_USER.items():
            if user.get(key):
                self._fail(f"user {chosen['user']}: {key} {reason}")
        tls = TlsSettings(server_name=cluster.get("tls-server-name"))
        try:
            endpoint = Endpoint(url=cluster.get("server", ""), tls=tls, timeout=timeout)
        except ValueError as error:
            self._fail(f"cluster {chosen['cluster']}: {error}")
        namespace = chosen.get("namespace") or "default"
        authority = self._data(cluster, "certificate-authority")
        certificate, private = self._data(user, "client-certificate"), self._data(user, "client-key")
        try:
            tls_context = client_context(text=authority.decode() if authority else None)
            if certificate is not None and private is not None:
                _load_pair(tls_context, certificate, private)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            self._fail(f"cannot use a certificate or key: {error}")
        if cluster.get("insecure-skip-tls-verify"):
            tls_context.check_hostname = False
            tls_context.verify_mode = ssl.CERT_NONE
        if user.get("exec"):
            return self._by_program(Access(endpoint, namespace, tls_context, dict), cluster, user)
        if user.get("tokenFile"):
            return Access(endpoint, namespace, tls_context, partial(_token_of, self.path.parent / user["tokenFile"]))
        headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        return Access(endpoint, namespace, tls_context, lambda: headers)

    def _by_program(self, found: Access, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> Access:
        authority = self._data(cluster, "certificate-authority")
        about: dict[str, Any] = {"server": cluster["server"]}
        if cluster.get("tls-server-name"):
            about["tls-server-name"] = cluster["tls-server-name"]
        if cluster.get("insecure-skip-tls-verify"):
            about["insecure-skip-tls-verify"] = True
        if authority is not None:
            about["certificate-authority-data"] = b64encode(authority).decode()
        for extension in cluster.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                about["config"] = extension.get("extension")
        try:
            login = exec_login.login_of(user["exec"], about, self.path.parent)
        except (ConfigurationError, AttributeError, TypeError) as error:
            self._fail(f"user: {error}")
        state = _ByProgram(login, found.context)
        return replace(found, credentials=state.headers, log_in=state.log_in, rejected=login.forget)

    def _named(self, kind: str, name: Any) -> Mapping[str, Any]:
        for entry in self.config.get(f"{kind}s") or ():
            if name and entry.get("name") == name:
                return entry.get(kind) or {}
        self._fail(f"there is no {kind} {name!r}" if name else f"no {kind} is selected")

    def _fail(self, reason: str) -> NoReturn:
        raise ConfigurationError(f"{self.path}: {reason}")

    def _data(self, section: Mapping[str, Any], key: str) -> bytes | None:
        """Return the content of ``key-data``, or of the file in ``key``."""
        try:
            if section.get(f"{key}-data"):
                return b64decode(section[f"{key}-data"], validate=True)
            if not section.get(key):
                return None
            with open_regular(self.path.parent / section[key]) as file:
                return file.read()
        except (OSError, binascii.Error, TypeError) as error:
            self._fail(f"{key}: {error}")


@dataclass(slots=True)
class _ByProgram:
    """The credential of a login by a program, and the TLS context that presents its certificate."""

    login: ExecLogin
    context: ssl.SSLContext
    token: str | None = None
    certificate: bytes | None = None

    async def log_in(self) -> None:
        """Take over the current credential.

        Raises:
            Unreachable: the program failed, or its certificate cannot be used.
        """
        current = await self.login.credential()
        self.token = current.token
        if current.certificate is not None and current.key is not None and current.certificate != self.certificate:
            try:
                _load_pair(self.context, current.certificate, current.key)
            except (ssl.SSLError, ValueError) as error:
                raise Unreachable(f"cannot use the client certificate of the login program: {error}") from None
            self.certificate = current.certificate

    def headers(self) -> Mapping[str, str]:
        """Return the authentication headers."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def _token_of(path: Path) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {read_secret(path)}"}


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a client certificate. Python reads it only from files, so temporary files with mode 0600 are used."""
    with tempfile.TemporaryDirectory() as folder:
        names = (Path(folder, "certificate"), Path(folder, "key"))
        for path, content in zip(names, (certificate, key), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(content)
        context.load_cert_chain(*names, password="")  # without a password, Python would ask on the terminal
