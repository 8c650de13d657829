"""The endpoints, under the name by which clients and their tests import them; :mod:`remediator.clients.endpoints` has them."""

from remediator.clients.endpoints import (
    BasicAuth,
    Endpoint,
    HttpAuth,
    RedisEndpoint,
    TlsSettings,
    checked_url,
    read_secret,
)
from remediator.core.types import Duration, FilePath, Strict

__all__ = [
    "BasicAuth",
    "Duration",
    "Endpoint",
    "FilePath",
    "HttpAuth",
    "RedisEndpoint",
    "Strict",
    "TlsSettings",
    "checked_url",
    "read_secret",
]
