"""Small TCP servers that misbehave in ways that real servers rarely do, and temporary certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """The port of a peer and the raw requests that it received."""

    port: int
    requests: list[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def listener(serve: Serve, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a TCP server and yield its port. At the end, open connections are closed and awaited."""
    tasks: set[asyncio.Task[None]] = set()

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(attend, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def peer(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Run a server that reads one HTTP request per connection and then follows the script."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        await script(requests[-1], writer)

    async with listener(serve, context) as port:
        yield Peer(port, requests)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return one whole HTTP request: its head, and the length of body that the head announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), b"0"
    )
    return head + await reader.readexactly(int(length))


def reply(status: int, body: bytes, *headers: str) -> Script:
    """Return the script of a peer that answers."""

    async def script(_: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return script


def engine_with_proxy(status: int) -> Script:
    """Return the script of a Docker API that returns its version and answers every other call with a status."""

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        ping = b"/_ping" in request.split(b"\r\n")[0]
        await reply(200 if ping else status, b"{}", "api-version: 1.41", "connection: close")(request, writer)

    return script


async def silence(_: bytes, writer: asyncio.StreamWriter) -> None:
    """The script of a peer that reads the request and then hangs until the client disconnects."""
    await writer.wait_closed()


async def hang_up(_: bytes, writer: asyncio.StreamWriter) -> None:
    """The script of a peer that reads the request and then drops the connection."""
    writer.transport.abort()


@dataclass
class Authority:
    """A certificate authority for a test, and the folder of its files."""

    folder: Path

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._certificate = self._sign(name, self._key.public_key(), authority=True)
        self.ca_file = self._write("ca.crt", self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, *addresses: str, days: float = 1) -> tuple[Path, Path]:
        """Return the files of a certificate, valid for this number of days, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(name), *(x509.IPAddress(ip_address(address)) for address in addresses)]
        certificate = self._sign(subject, key.public_key(), names=names, days=days)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self._write(f"{name}.crt", certificate.public_bytes(Encoding.PEM)), self._write(f"{name}.key", secret)

    def server_context(self, certificate: Path, key: Path, *, clients: bool = False) -> ssl.SSLContext:
        """Return the TLS context of a server. With ``clients`` it requires a certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca_file))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # short certificates
        context.load_cert_chain(certificate, key)
        context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
        return context

    def _sign(self, subject, public_key, names=(), authority=False, days=1) -> x509.Certificate:  # type: ignore[no-untyped-def]
        now = datetime.now(UTC)
        issuer = subject if authority else self._certificate.subject
        builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=30)).not_valid_after(now + timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path
