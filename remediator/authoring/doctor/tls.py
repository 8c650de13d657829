"""TLS: the certificates of the service and of the servers in the settings are valid and do not end soon."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from cryptography import x509

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.clients import egress
from remediator.clients.endpoints import Endpoint
from remediator.clients.tls import client_context
from remediator.core.listen import is_loopback

_SOON = timedelta(days=14)
_SECONDS = 10.0
_SKIPPED = "insecure_skip_verify accepts any certificate"


class Tls(DoctorCheck):
    """Reads the certificate of the service, and connects to every https server of the settings."""

    name = "tls"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        config = about.config
        if config.tls is not None:
            file, key = config.tls.certificate_file, config.tls.key_file
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(file, key, password="")
                certificates = x509.load_pem_x509_certificates(file.read_bytes())
            except (OSError, ValueError) as error:
                yield failed(str(file), f"certificate or key cannot be used: {error}", "correct tls in the settings")
            else:
                yield _validity(str(file), min(each.not_valid_after_utc for each in certificates), about.now)
        endpoints = [(each.url, each) for each in (*config.alertmanagers, config.prometheus) if each is not None]
        if config.access.oidc is not None:
            endpoints.append((f"oidc {config.access.oidc.issuer}", Endpoint(url=config.access.oidc.issuer)))
        if config.public_url:
            endpoints.append((f"public_url {config.public_url}", Endpoint(url=config.public_url)))
        secure = [(subject, endpoint) for subject, endpoint in endpoints if endpoint.url.startswith("https://")]
        for subject, endpoint in secure:
            yield await _server(subject, endpoint, about.now)
        if not secure and config.tls is None:
            yield skipped("certificates", "the settings name no https server")
        if config.public_url.startswith("http://") and not is_loopback(urlsplit(config.public_url).hostname or ""):
            text = "links are http: decisions and tokens cross the network in clear text"
            yield warning("public_url", text, "put a proxy with TLS in front, and set public_url to https://…")


async def _server(subject: str, endpoint: Endpoint, now: datetime) -> Result:
    parts = urlsplit(endpoint.url)
    if egress.proxy_for(endpoint.url) is not None:
        return skipped(subject, "is reached by the outgoing proxy, so its certificate was not examined")
    try:
        context = client_context(endpoint.tls.ca_file)
        if endpoint.tls.cert_file is not None:
            context.load_cert_chain(endpoint.tls.cert_file, endpoint.tls.key_file)
        name = endpoint.tls.server_name or parts.hostname
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=context, server_hostname=name
            )
    except ssl.SSLError as error:
        if endpoint.tls.insecure_skip_verify:
            return warning(subject, f"{_SKIPPED}: {error}", "correct the certificate, then remove insecure_skip_verify")
        return failed(subject, str(error), "check the certificate and tls.ca_file")
    except (OSError, TimeoutError) as error:
        text = str(error) or f"no connection in {_SECONDS:g} s"
        if subject.startswith("public_url"):  # perhaps this host cannot reach the address, but other hosts can
            return warning(subject, f"cannot be reached from here: {text}", "open it in a browser, as users do")
        return failed(subject, text, "check that the server runs, and its URL in the settings")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    if endpoint.tls.insecure_skip_verify:
        return warning(subject, f"{_SKIPPED}; this one is valid", "remove insecure_skip_verify")
    return _validity(subject, datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC), now)


def _validity(subject: str, end: datetime, now: datetime) -> Result:
    if end <= now:
        return failed(subject, f"its certificate ended at {end:%Y-%m-%d %H:%M}Z", "renew the certificate")
    if end - now < _SOON:
        return warning(subject, f"its certificate ends at {end:%Y-%m-%d %H:%M}Z", "renew the certificate")
    return ok(subject, f"its certificate is valid until {end:%Y-%m-%d}")
