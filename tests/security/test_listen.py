"""The service itself listens with TLS or on a Unix socket."""

from __future__ import annotations

import datetime
import http.client
import socket
import ssl
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remediator.config import Config
from remediator.core.listen import ServerTls
from remediator.errors import ConfigurationError
from remediator.web import listener
from remediator.web.listener import Certificate
from tests.support.servers import require, until
from tests.support.servers.remediator import TOKEN, Remediator
from tests.support.web_service import INVENTORY

pytestmark = pytest.mark.promise(14)


def write_certificate(folder: Path, name: str) -> None:
    """Write a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(private)
    (folder / "tls.key").chmod(0o600)
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))


class Encrypted(Remediator):
    """A remediator with a certificate that may open only 512 files."""

    def command(self) -> list[str]:
        return [require("prlimit"), "--nofile=512:512", *super().command()]

    def ready(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: bytes = b"", token: str = "") -> tuple[int, dict[str, str]]:
        """Send a request. Return the status and the headers of the answer."""
        context = ssl.create_default_context(cafile=str(self.folder / "tls.crt"))
        opened = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=30)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        opened.request(method, path, body or None, headers)
        answer = opened.getresponse()
        answer.read()
        opened.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    """Return a service that uses TLS."""
    server = Encrypted(tmp_path_factory.mktemp("encrypted"))
    write_certificate(server.folder, "first")
    server.inventory["services"] = INVENTORY["services"]
    server.settings["tls"] = {"certificate_file": "tls.crt", "key_file": "tls.key"}
    server.settings["access"] = {"anonymous_role": "viewer"}
    server.start()
    yield server
    server.stop()


def test_a_notification_arrives_with_tls_and_plain_http_gets_nothing(service: Encrypted) -> None:
    """The webhook works by HTTPS, and the same port does not answer HTTP."""
    body = service.notification("firing", alertname="Other")
    assert service.request("POST", "/api/v1/alerts", body, TOKEN)[0] == 200
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as plain:
        plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/" not in plain.recv(100)


def test_pages_with_tls_have_hsts_and_host_cookies(service: Encrypted) -> None:
    """Without public_url, the service knows from its certificate that browsers use HTTPS."""
    status, headers = service.request("GET", "/")
    assert status == 200
    assert headers["strict-transport-security"].startswith("max-age=")
    assert headers["set-cookie"].startswith("__Host-remediator_browser=") and "Secure" in headers["set-cookie"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_of_tls_are_refused(service: Encrypted, version: ssl.TLSVersion) -> None:
    """TLS 1.2 is the oldest accepted version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", service.port), timeout=60) as opened,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(opened)


def test_unfinished_tls_handshakes_do_not_block_the_webhook(service: Encrypted) -> None:
    """With more unfinished handshakes than descriptors, a notification is still acknowledged."""
    body = service.notification("firing", alertname="Other")
    with ExitStack() as stack:
        for number in range(700):
            where = ("127.0.0.1", service.port)
            source = (f"127.0.{number % 7}.{1 + number % 200}", 0)
            stack.enter_context(socket.create_connection(where, timeout=30, source_address=source))
        assert service.request("POST", "/api/v1/alerts", body, TOKEN)[0] == 200


def test_a_renewed_certificate_is_used_without_a_restart(service: Encrypted) -> None:
    """New connections get the newest certificate without a restart."""
    pid = service.pid
    write_certificate(service.folder, "renewed")
    # the client trusts only the new certificate, so ready() means that it is in use
    until(service.ready, "the new certificate is used")
    assert service.pid == pid


def test_a_certificate_with_another_key_is_refused_and_the_last_one_stays(tmp_path: Path) -> None:
    """While only one of the two files is renewed, the old pair stays in use."""
    write_certificate(tmp_path, "first")
    files = ServerTls(certificate_file=tmp_path / "tls.crt", key_file=tmp_path / "tls.key")
    certificate = Certificate(files)
    before = certificate.context
    assert certificate.refresh() is False
    old_key = (tmp_path / "tls.key").read_bytes()
    write_certificate(tmp_path, "second")
    new_key = (tmp_path / "tls.key").read_bytes()
    (tmp_path / "tls.key").write_bytes(old_key)
    with pytest.raises(ConfigurationError, match="belong together"):
        certificate.refresh()
    assert certificate.context is before
    (tmp_path / "tls.key").write_bytes(new_key)
    assert certificate.refresh() is True
    assert certificate.context is not before


def test_a_key_with_a_password_or_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    """The error names both files, and the start does not ask for a password."""
    key = ec.generate_private_key(ec.SECP256R1())
    write_certificate(tmp_path, "first")
    locked = serialization.BestAvailableEncryption(b"password")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (tmp_path / "locked.key").write_bytes(pem)
    for name in ("locked.key", "none.key"):
        with pytest.raises(ConfigurationError, match=name):
            Certificate(ServerTls(certificate_file=tmp_path / "tls.crt", key_file=tmp_path / name))


class OnSocket(Remediator):
    """A remediator that listens on a Unix socket."""

    def ready(self) -> bool:
        try:
            return self.request("/readyz").startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def request(self, path: str) -> bytes:
        """Send a request. Return the start of the answer."""
        with socket.socket(socket.AF_UNIX) as opened:
            opened.settimeout(60)
            opened.connect(str(self.folder / "r.sock"))
            opened.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return opened.recv(4096)


def test_a_unix_socket_serves_and_only_user_and_group_may_connect(tmp_path: Path) -> None:
    """The socket has mode 0660 and replaces a file left from a crash. Callers must sign in."""
    server = OnSocket(tmp_path)
    path = tmp_path / "r.sock"
    server.inventory["services"] = INVENTORY["services"]
    server.settings["listen"] = f"unix:{path}"
    server.start()
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert server.request("/runs").startswith(b"HTTP/1.1 303")
        server.kill()
        assert path.exists()
        server.start()
        assert server.ready()
    finally:
        server.stop()
    assert not path.exists()


def test_a_socket_in_use_and_a_file_are_not_replaced(tmp_path: Path) -> None:
    """A socket of another service and a file of that name are not replaced."""
    path = tmp_path / "r.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigurationError, match="cannot bind"):
            listener.open_sockets(listener.ListenAddress(path=path))
    path.unlink()
    path.write_text("kept")
    with pytest.raises(ConfigurationError, match="cannot bind"):
        listener.open_sockets(listener.ListenAddress(path=path))
    assert path.read_text() == "kept"


@pytest.mark.parametrize("listen", ["8095", "127.0.0.1:http", "127.0.0.1:70000", "unix:relative.sock"])
def test_an_invalid_address_is_an_error_of_the_settings(tmp_path: Path, listen: str) -> None:
    """An invalid address is reported when the settings are read."""
    with pytest.raises(ValueError, match="invalid address"):
        Config.model_validate(settings(tmp_path, listen=listen))


def test_http_links_do_not_fit_tls(tmp_path: Path) -> None:
    """With a certificate, links in messages must be HTTPS."""
    tls = {"certificate_file": "tls.crt", "key_file": "tls.key"}
    with pytest.raises(ValueError, match="must begin with https"):
        Config.model_validate(settings(tmp_path, tls=tls, public_url="http://remediator.example.com"))


@pytest.mark.parametrize(
    "networks",
    [
        ["0.0.0.0/0"],
        ["::/0"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["128.0.0.0/1"],
        ["::/1", "8000::/1"],
        ["2000::/3"],
        [f"{number}.0.0.0/8" for number in range(1, 224)],
        ["10.0.0.7", "unix", "0.0.0.0/2"],
    ],
)
def test_a_proxy_at_almost_every_address_is_refused(tmp_path: Path, networks: list[str]) -> None:
    """Trusted proxies at almost all addresses are refused, however split, because every caller could sign in."""
    with pytest.raises(ValueError, match="trust almost every address"):
        Config.model_validate(settings(tmp_path, access={"proxy": {"addresses": networks}}))


def test_a_proxy_in_all_private_networks_is_accepted(tmp_path: Path) -> None:
    """All private networks are accepted with a warning of lint, because a cluster may have no narrower one."""
    networks = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00:1234::/32"]
    made = Config.model_validate(settings(tmp_path, access={"proxy": {"addresses": networks}}))
    assert made.access.proxy is not None
    assert made.access.proxy.trusts("::ffff:10.1.2.3") and not made.access.proxy.trusts("203.0.113.9")


def settings(folder: Path, **more: object) -> dict[str, object]:
    """Return the smallest valid settings, with these keys."""
    base = {"apiVersion": "remediator/v1", "kind": "Config", "state": folder, "playbooks": [], "inventory": "i.yaml"}
    return base | more
