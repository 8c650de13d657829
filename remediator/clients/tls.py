"""Trusted certificate authorities for TLS: the authorities of the system, or the configured authority."""

from __future__ import annotations

import ssl
from pathlib import Path

from remediator.core.local_files import open_regular

NOT_STRICT = ssl.VerifyFlags.VERIFY_X509_STRICT
"""A flag that is cleared for configured authorities. Since Python 3.13, certificates must have every extension of RFC
5280 (https://docs.python.org/3/whatsnew/3.13.html#ssl). Those of companies and clusters often do not. Signatures,
names and dates are still verified."""


def client_context(file: Path | None = None, text: str | None = None) -> ssl.SSLContext:
    """Return a client context that trusts this authority, or the authorities of the system by default.

    Args:
        file: PEM certificates.
        text: the same, as text.

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: it contains no certificate.
    """
    if file is not None:
        open_regular(file).close()  # OpenSSL would wait for a named pipe
    context = ssl.create_default_context(cafile=None if file is None else str(file), cadata=text)
    if file is not None or text is not None:
        context.verify_flags &= ~NOT_STRICT
    return context
