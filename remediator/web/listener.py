"""Open the sockets of the service, and accept HTTP connections on them, with TLS if a certificate is configured."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp

from remediator.core.listen import ListenAddress, ServerTls
from remediator.core.local_files import open_regular
from remediator.errors import ConfigurationError
from remediator.web.connections import ConnectionLimits, LimitedProtocol, limited_protocol

log: Any = structlog.get_logger("remediator.web.listener")

_BACKLOG = 2048
_FIRST_SOCKET = 3  # the descriptor of the first socket that systemd passes
_SOCKET_MODE = 0o660
"""Mode of a Unix socket: the user and the group of the service, so that a proxy in this group can connect."""
_HANDSHAKE_SECONDS = 10
_TLS_POLL = 5.0
"""Seconds between two checks of the files of the certificate."""


class Certificate:
    """The certificate and its key. :meth:`refresh` reads them again when a file has changed.

    Raises:
        ConfigurationError: a file cannot be read, or the key does not belong to the certificate.
    """

    def __init__(self, files: ServerTls) -> None:
        self._files = files
        self._seen = self._signature()
        self.context = self._load()
        """For new connections."""

    def refresh(self) -> bool:
        """Read the files again if they have changed. Return whether the new certificate is used now.

        Raises:
            ConfigurationError: the new files cannot be used; the certificate in use stays. The program that renews
                it may have written only one of the two files yet, so the next call tries again.
        """
        seen = self._signature()
        if seen == self._seen:
            return False
        self.context = self._load()
        self._seen = seen
        return True

    async def run_refresh_loop(self) -> None:
        """Refresh every few seconds. Errors are logged once for each change of the files."""
        failed: object = None
        while True:
            await asyncio.sleep(_TLS_POLL)
            try:
                if await asyncio.to_thread(self.refresh):
                    log.info("certificate reloaded", file=str(self._files.certificate_file))
            except ConfigurationError as error:
                if failed != (failed := self._signature()):
                    log.error("certificate not reloaded, the last one stays in use", message=str(error))

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_signature(path) for path in (self._files.certificate_file, self._files.key_file))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        certificate, key = self._files.certificate_file, self._files.key_file
        try:
            for file in (certificate, key):
                open_regular(file).close()  # OpenSSL would wait for a named pipe
            context.load_cert_chain(certificate, key, password=lambda: b"")  # never ask for a password on the terminal
        except (OSError, ValueError) as error:  # SSLError is an OSError
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"tls: cannot use the certificate {str(certificate)!r} with the key {str(key)!r}: {reason}; "
                "both must be PEM files that belong together, and the key must have no password"
            ) from None
        return context


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class _TlsConnection(SSLProtocol):
    """TLS in front of the HTTP protocol. The connection takes its place before the handshake.

    ``loop.create_server(ssl=…)`` calls the protocol only after the handshake. Connections that never finish it would
    then have no limit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, http: LimitedProtocol, context: ssl.SSLContext) -> None:
        # the type stub requires a waiter, which only client connections use; asyncio's own server passes None
        super().__init__(
            loop,
            http,
            context,
            None,  # type: ignore[arg-type]
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        )
        self._http = http

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, then begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._http.take_place(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Free the place, also if the handshake did not finish."""
        self._http.limits.remove(self._http)
        super().connection_lost(exc)


def open_sockets(address: ListenAddress) -> Sequence[socket.socket]:
    """Bind the sockets of an address; a host name can have several. They do not accept connections yet.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    if address.inherited:
        return _inherited_sockets()
    try:
        if address.path is not None:
            return [_unix_socket(address.path)]
        return _tcp_sockets(address.host, address.port)
    except OSError as error:
        raise ConfigurationError(
            f"listen: cannot bind {address}: {error.strerror}; check that no other process uses it"
        ) from None


def _inherited_sockets() -> list[socket.socket]:
    """Return the sockets that systemd opened for this process (``sd_listen_fds``)."""
    count = os.environ.pop("LISTEN_FDS", "")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not count.isdigit() or not int(count):
        raise ConfigurationError(
            "listen: systemd gave no sockets to this process; enable the .socket unit, or listen on an address"
        )
    descriptors = range(_FIRST_SOCKET, _FIRST_SOCKET + int(count))
    try:
        opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    except OSError as error:
        raise ConfigurationError(f"listen: the descriptor from systemd is not a socket: {error.strerror}") from None
    for each in opened:
        each.set_inheritable(False)
        each.setblocking(False)
    return opened


def _tcp_sockets(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            opened.append(sock := socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
            sock.bind(where)
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def _unix_socket(path: Path) -> socket.socket:
    """Bind a Unix socket. A socket file that no process listens on is left from a crash and is replaced."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode) and not _answers(path):
                path.unlink()
        before = os.umask(0o777 & ~_SOCKET_MODE)  # set the mode before listening, so that other users can never connect
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
    except OSError:
        sock.close()
        raise
    return sock


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def server_config(app: ASGIApp, limits: ConnectionLimits, certificate: Certificate | None = None) -> uvicorn.Config:
    """Return the configuration of the HTTP server. Its sockets come from :func:`open_sockets`."""
    return uvicorn.Config(
        app,
        http=_protocol(limits, certificate),  # type: ignore[arg-type]
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,  # the address of the connection counts; see access.proxy
        backlog=_BACKLOG,
    )


def _protocol(limits: ConnectionLimits, certificate: Certificate | None) -> Callable[..., asyncio.Protocol]:
    http = limited_protocol(limits)
    if certificate is None:
        return http

    def with_tls(**arguments: Any) -> asyncio.Protocol:
        # uvicorn calls this for each connection, so the next connection uses a new certificate
        return _TlsConnection(asyncio.get_running_loop(), http(**arguments), certificate.context)  # type: ignore[return-value]

    return with_tls
