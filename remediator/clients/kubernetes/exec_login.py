"""Logins of a kubeconfig by a program (``users[].user.exec``), as cloud providers use them.

Only programs that the settings allow are run, without a shell. They answer with an ExecCredential: a token, a client
certificate, or both, which are kept in memory until they expire. ``KUBERNETES_EXEC_INFO`` and the versions follow
``client.authentication.k8s.io``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field, field_validator

from remediator.clients.host import process
from remediator.clients.host.allowed_commands import VariableName
from remediator.core import untrusted_json
from remediator.core.types import PositiveDuration, Strict
from remediator.errors import BadAnswer, ConfigurationError, TimedOut, Unreachable

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_MARGIN = timedelta(seconds=15)
"""A credential is not used for this long before its end, so that it does not expire during a request."""
_SHOWN = 200


class LoginProgram(Strict):
    """A program that kubeconfig files may run to log in."""

    program: str = Field(description="Absolute path of the program, for example /usr/local/bin/aws.")
    inherit: tuple[VariableName, ...] = Field(
        default=(),
        description="Environment variables of the service that it gets, for example HOME. Besides these it gets PATH, "
        "LC_ALL, KUBERNETES_EXEC_INFO and the env of the kubeconfig.",
    )
    timeout: PositiveDuration = Field(
        default=timedelta(seconds=10), description="Timeout of one login; then the program and its children are killed."
    )

    @field_validator("program")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value.startswith("/") or os.path.normpath(value) != value:
            raise ValueError("must be an absolute path without '..', for example /usr/local/bin/aws")
        return value


class _Status(msgspec.Struct, rename="camel"):
    expiration_timestamp: datetime | None = None
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: _Status | None = None


class Credential(msgspec.Struct, frozen=True):
    """The credential from the answer of a program."""

    token: str | None
    certificate: bytes | None
    """Client certificate and its key (PEM)."""
    key: bytes | None
    expires_at: datetime | None


class ExecLogin:
    """Runs one program, with the arguments of one user of a kubeconfig, whenever a credential is needed.

    Args:
        allowed: the program, as the settings allow it.
        arguments: its arguments.
        environment: the variables that the kubeconfig sets.
        version: the apiVersion that the kubeconfig names.
        cluster: what the program is given about the cluster; None without ``provideClusterInfo``.
    """

    def __init__(
        self,
        allowed: LoginProgram,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        version: str,
        cluster: Mapping[str, Any] | None,
    ) -> None:
        self._allowed, self._version = allowed, version
        self._argv = (allowed.program, *arguments)
        spec: dict[str, Any] = {"interactive": False, **({} if cluster is None else {"cluster": dict(cluster)})}
        info = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        self._environment = {**environment, "KUBERNETES_EXEC_INFO": info}
        self._kept: Credential | None = None
        self._running = asyncio.Lock()

    async def credential(self) -> Credential:
        """Return a valid credential; run the program if there is no such credential. Tasks share one run.

        Raises:
            Unreachable: the program failed or did not end; nothing was sent to the cluster.
        """
        async with self._running:
            kept = self._kept
            if kept is None or (kept.expires_at is not None and datetime.now(UTC) >= kept.expires_at - _MARGIN):
                self._kept = None
                self._kept = kept = await self._log_in()
            return kept

    def forget(self) -> None:
        """Log in again at the next call: the API server did not accept the credential."""
        self._kept = None

    async def _log_in(self) -> Credential:
        program, inherited = self._allowed.program, {}
        for name in self._allowed.inherit:
            if name in os.environ:
                inherited[name] = os.environ[name]
        try:
            ended = await process.run(
                self._argv,
                seconds=self._allowed.timeout.total_seconds(),
                environment={**inherited, **self._environment},
                private=True,
            )
        except TimedOut as error:
            raise Unreachable(f"cannot log in to the cluster: {error}") from None
        if ended.status != 0:
            last = ended.errors.strip().rpartition("\n")[2][:_SHOWN]
            text = f"{program} exited with status {ended.status}" + (f": {last}" if last else "")
            raise Unreachable(f"cannot log in to the cluster: {text}")
        try:
            return _credential(ended.output, self._version)
        except BadAnswer as error:
            raise Unreachable(f"cannot log in to the cluster: {program}: {error}") from None


_allowed: Sequence[LoginProgram] = ()
_logins: dict[tuple[Any, ...], ExecLogin] = {}


def use(programs: Sequence[LoginProgram]) -> None:
    """Allow these programs to all kubeconfig files that are read from now on."""
    global _allowed  # the composition root sets it before it creates the first client
    _allowed = tuple(programs)
    _logins.clear()


def login_of(user: Mapping[str, Any], cluster: Mapping[str, Any] | None, folder: Path) -> ExecLogin:
    """Return the login that the ``exec`` part of a user describes. Equal parts share one login and its credential.

    Args:
        user: the part.
        cluster: the cluster that it is for, with its inline data.
        folder: folder of the kubeconfig; a relative path of the program starts there.

    Raises:
        ConfigurationError: the part is invalid, or the settings do not allow its program.
    """
    version = user.get("apiVersion")
    if version not in _VERSIONS:
        raise ConfigurationError(f"exec: apiVersion must be {_VERSIONS[0]}, not {version!r}")
    if user.get("interactiveMode") == "Always":
        raise ConfigurationError("exec: interactiveMode Always needs a terminal; use a login without questions")
    arguments = tuple(str(each) for each in user.get("args") or ())
    try:
        environment = {str(each["name"]): str(each["value"]) for each in user.get("env") or ()}
    except (KeyError, TypeError):
        raise ConfigurationError("exec: env must be a list of name and value") from None
    allowed = _find(str(user.get("command") or ""), folder)
    about = cluster if user.get("provideClusterInfo") else None
    key = (allowed.program, arguments, tuple(environment.items()), version, json.dumps(about, sort_keys=True))
    if key not in _logins:
        _logins[key] = ExecLogin(allowed, arguments, environment, version, about)
    return _logins[key]


def _find(command: str, folder: Path) -> LoginProgram:
    """Return the allowed program of a command. A name without a path is the allowed program with this name."""
    for each in _allowed:
        if "/" not in command and Path(each.program).name == command:
            return each
        if "/" in command and each.program == os.path.normpath(folder / command):
            return each
    known = ", ".join(each.program for each in _allowed) or "none"
    raise ConfigurationError(
        f"exec: the settings do not allow the program {command!r}; allowed: {known}. Add it to kubernetes_logins, for "
        "example {program: /usr/local/bin/aws}"
    )


def _credential(output: str, version: str) -> Credential:
    """Return the credential of an answer. Errors name no part of the answer, which may be a secret."""
    try:
        answer = untrusted_json.decode(output, _ExecCredential)
    except msgspec.DecodeError:
        raise BadAnswer("its output is not an ExecCredential") from None
    if answer.kind != "ExecCredential" or answer.api_version != version:
        raise BadAnswer(f"its output is not an ExecCredential of {version}")
    status = answer.status or _Status()
    if status.token is None and status.client_certificate_data is None:
        raise BadAnswer("its ExecCredential has neither token nor clientCertificateData")
    if (status.client_certificate_data is None) != (status.client_key_data is None):
        raise BadAnswer("its ExecCredential has only one of clientCertificateData and clientKeyData")
    if status.token is not None and (not status.token.isprintable() or not status.token.isascii()):
        raise BadAnswer("the token of its ExecCredential cannot be sent in a header")
    expires = status.expiration_timestamp
    if expires is not None and expires.tzinfo is None:
        raise BadAnswer("expirationTimestamp of its ExecCredential has no time zone")
    certificate, key = status.client_certificate_data, status.client_key_data
    return Credential(
        token=status.token,
        certificate=None if certificate is None else certificate.encode(),
        key=None if key is None else key.encode(),
        expires_at=expires,
    )
