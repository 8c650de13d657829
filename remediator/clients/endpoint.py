"""The endpoints, under the name by which clients and their tests import them; :mod:`remediator.endpoints` has them."""

from remediator.core.types import Duration, FilePath, Strict
from remediator.endpoints import BasicAuth, Endpoint, HttpAuth, RedisEndpoint, TlsSettings, checked_url, read_secret

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
