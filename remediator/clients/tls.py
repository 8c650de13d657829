"""Whom to trust over TLS: the system's authorities, or the one that somebody named."""

from __future__ import annotations

import ssl
from pathlib import Path

NOT_STRICT = ssl.VerifyFlags.VERIFY_X509_STRICT
"""What is not asked of an authority that somebody named. Since Python 3.13 certificates have to have every extension
of RFC 5280 (https://docs.python.org/3/whatsnew/3.13.html#ssl), which a company's or a cluster's own often have not.
Signatures, names and dates are checked all the same."""


def trusting(file: Path | None = None, text: str | None = None) -> ssl.SSLContext:
    """A client's context that trusts this authority, or the system's where none is named.

    Args:
        file: PEM certificates.
        text: the same, as text.

    Raises:
        OSError: the file cannot be read.
        ssl.SSLError: there is no certificate in it.
    """
    context = ssl.create_default_context(cafile=None if file is None else str(file), cadata=text)
    if file is not None or text is not None:
        context.verify_flags &= ~NOT_STRICT
    return context
