"""Where a command reads and writes: the database of this host, or the API of a server (``--server``).

A command is written once, on the data of the API. Locally the same data comes from the same functions that the API
calls, so the output does not depend on the place. With ``--server`` the host needs no settings file and no access to
the database, only an operator token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import click
from sqlalchemy import Connection

from remediator import __version__
from remediator.cli import _direct_store
from remediator.cli._decisions import TOKEN_VARIABLE, authenticate, token_option
from remediator.cli._options import config_option
from remediator.config import Config, read_secret
from remediator.core import untrusted_json
from remediator.core.approval import Person
from remediator.core.listen import is_loopback
from remediator.core.sizes import MEBIBYTE
from remediator.errors import InputError, RemediatorError
from remediator.playbooks.loader import load_config
from remediator.runtime.store_access import read_only_connection
from remediator.storage import Tx

SERVER_VARIABLE = "REMEDIATOR_SERVER"
_TIMEOUT = 60.0
"""Seconds for one request: a dry run plans on the targets."""
_MAX_ANSWER = 64 * MEBIBYTE
F = TypeVar("F", bound=Callable[..., Any])


class ServerError(RemediatorError):
    """The server cannot be reached, or does not execute the request."""


server_option = click.option(
    "--server",
    envvar=SERVER_VARIABLE,
    metavar="URL",
    help="Use the API of this server, such as https://remediator.example, with your operator token (default: the "
    f"variable {SERVER_VARIABLE}, or the database of this host).",
)


def source_options(command: F) -> F:
    """Add ``--server``, ``--token-file`` and ``--config``; the command gets them as one ``source``."""

    @wraps(command)
    def with_source(*args: Any, config_path: Path, token_file: Path | None, server: str | None, **more: Any) -> Any:
        return command(*args, source=Source(config_path, token_file, server or ""), **more)

    decorated: Any = with_source
    for option in (server_option, token_option, config_option):
        decorated = option(decorated)
    result: F = decorated
    return result


@dataclass(frozen=True)
class Source:
    """The database of this host, or a server."""

    config_path: Path
    token_file: Path | None
    server: str
    """URL of the server; empty for the database of this host."""

    @cached_property
    def config(self) -> Config:
        """Return the settings of this host. Only for local commands."""
        return load_config(self.config_path, Config)

    def get(self, path: str, local: Callable[[Connection], Any], **query: Any) -> Any:
        """Return the answer of ``GET /api/v1/<path>``, or the result of ``local`` for the database of this host.

        Raises:
            InputError: there is no such resource, or a filter is wrong.
            ServerError: the server cannot be reached, or refuses.
            StoreUnavailable: the database does not exist or cannot be read.
        """
        if self.server:
            return self._request("GET", path, query)
        with read_only_connection(self.config) as connection:
            return local(connection)

    def text(self, path: str, local: Callable[[], str], **query: Any) -> str:
        """Return the text of ``GET /api/v1/<path>``, or the result of ``local``."""
        if self.server:
            return str(self._request("GET", path, query, text=True))
        return local()

    def post(
        self,
        path: str,
        local: Callable[[Tx, Person], Any],
        body: Mapping[str, Any],
        person: Callable[[], Person] | None = None,
    ) -> Any:
        """Return the answer of ``POST /api/v1/<path>``, or the result of ``local`` in a transaction of the database.

        Args:
            path: below ``/api/v1/``.
            local: gets the transaction and the person.
            body: for the server.
            person: returns who acts locally; None: the person whose token was given.
        """
        if self.server:
            return self._request("POST", path, body=body)
        who = authenticate(self.config, self.token_file) if person is None else person()
        return _direct_store.write(self.config, lambda tx: local(tx, who))

    def call(self, path: str, local: Callable[[], Any], body: Mapping[str, Any]) -> Any:
        """Return the answer of ``POST /api/v1/<path>``, or the result of ``local``, for a read-only operation."""
        return self._request("POST", path, body=body) if self.server else local()

    def body(self, body: Mapping[str, Any], actor: str | None) -> Mapping[str, Any]:
        """Return a body for the server. The server records the person of the token, so ``--actor`` is refused.

        Raises:
            InputError: ``--actor`` and ``--server`` are given.
        """
        if actor and self.server:
            raise InputError("--actor: not with --server, which records the person of the token")
        return body

    @property
    def has_token(self) -> bool:
        """Return whether an operator token was given."""
        return self.token_file is not None or bool(os.environ.get(TOKEN_VARIABLE))

    def _request(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, body: Any = None, *, text: bool = False
    ) -> Any:
        import httpx  # noqa: PLC0415 - only for --server: it costs a tenth of a second

        url = f"{_checked(self.server)}/api/v1/{path}"
        token = read_secret(self.token_file) if self.token_file is not None else os.environ.get(TOKEN_VARIABLE, "")
        if not token:
            raise InputError(f"no operator token for {self.server}: set {TOKEN_VARIABLE} or give --token-file")
        given = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {"Authorization": f"Bearer {token}", "User-Agent": f"remediator/{__version__}"}
        try:
            answer = httpx.request(
                method, url, params=given, json=body, headers=headers, timeout=_TIMEOUT, follow_redirects=False
            )
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ServerError(f"{self.server} cannot be reached: {why}; check --server and the network") from None
        if len(answer.content) > _MAX_ANSWER:
            raise ServerError(f"{self.server}: the answer is longer than {_MAX_ANSWER} bytes; use --limit")
        if answer.status_code == 200:
            try:
                return answer.text if text else untrusted_json.decode(answer.text)
            except ValueError:
                why = "the answer is not JSON; is this the address of remediator?"
                raise ServerError(f"{self.server}: {why}") from None
        try:
            message = str(untrusted_json.decode(answer.text)["error"])
        except (ValueError, KeyError, TypeError):
            why = f"{self.server} answered {answer.status_code}; is this the address of remediator?"
            raise ServerError(why) from None
        if answer.status_code in (400, 404, 409):
            raise InputError(message)
        raise ServerError(f"{self.server}: {message}")


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="@")


def _checked(server: str) -> str:
    """Return the URL of a server without a slash at its end. A token is sent without TLS only to this host.

    Raises:
        InputError: it is not such a URL.
    """
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
        raise InputError(f"--server: {server!r} is not a URL; give one like https://remediator.example")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise InputError(
            f"--server: {server!r} is not encrypted, so others on the network could read your token; use https"
        )
    return server.rstrip("/")
