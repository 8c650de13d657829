"""TLS: the certificates of the servers in the settings are valid and do not end soon."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from remediator.authoring.doctor.base import DoctorCheck, Examination, Result, failed, ok, skipped, warning
from remediator.clients.endpoints import Endpoint
from remediator.clients.tls import client_context

_SOON = timedelta(days=14)
_SECONDS = 10.0


class Tls(DoctorCheck):
    """Connects to every https server and reads the end of its certificate."""

    name = "tls"

    async def run(self, about: Examination) -> AsyncIterator[Result]:
        config = about.config
        endpoints = [each for each in (*config.alertmanagers, config.prometheus) if each is not None]
        secure = [each for each in endpoints if each.url.startswith("https://")]
        for endpoint in secure:
            yield await _certificate(endpoint, about.now)
        if not secure:
            yield skipped("certificates", "the settings name no https server")
        if config.public_url.startswith("http://") and urlsplit(config.public_url).hostname not in (
            "localhost",
            "127.0.0.1",
            "::1",
        ):
            text = "links are http: decisions and tokens cross the network in clear text"
            yield warning("public_url", text, "put a proxy with TLS in front, and set public_url to https://…")


async def _certificate(endpoint: Endpoint, now: datetime) -> Result:
    parts = urlsplit(endpoint.url)
    try:
        context = client_context(endpoint.tls.ca_file)
        if endpoint.tls.cert_file is not None:
            context.load_cert_chain(endpoint.tls.cert_file, endpoint.tls.key_file)
        name = endpoint.tls.server_name or parts.hostname
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=context, server_hostname=name
            )
    except (OSError, ssl.SSLError, TimeoutError) as error:
        text = str(error) or f"no connection in {_SECONDS:g} s"
        return failed(endpoint.url, text, "check the certificate and tls.ca_file")
    certificate = writer.get_extra_info("peercert")
    writer.close()
    end = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    if end - now < _SOON:
        return warning(endpoint.url, f"its certificate ends at {end:%Y-%m-%d %H:%M}Z", "renew the certificate")
    return ok(endpoint.url, f"its certificate is valid until {end:%Y-%m-%d}")
