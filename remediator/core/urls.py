"""URLs of servers in the settings."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from remediator.core.types import FieldError, SecretFile, Strict


def checked_url(url: str) -> str:
    """Return the URL without a slash at the end.

    Raises:
        ValueError: it is not http, https or unix, has no host, or contains credentials, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise ValueError("a socket must be unix:///path/of/socket")
        return url
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be http://host…, https://host… or unix:///path/of/socket")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain credentials; use basic with a password_file")
    if parts.query or parts.fragment:
        raise ValueError("must not contain ? or #; end it with the route prefix")
    _ = parts.port  # raises ValueError if the port is not valid
    return url.rstrip("/")


def http_url(url: str, example: str = "") -> str:
    """Return the URL unchanged.

    Raises:
        ValueError: it is not an HTTP URL; with an example, if there is one.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://" + (f", for example {example}" if example else ""))
    return url


def _web_url(url: str) -> str:
    return checked_url(http_url(url))


Url = Annotated[str, AfterValidator(checked_url)]
"""The URL of a server, without a slash at the end; see :func:`checked_url`."""

WebUrl = Annotated[str, AfterValidator(_web_url)]
"""The same for HTTP only."""


class UrlOrFile(Strict):
    """A model with a URL that may be a secret: exactly one of ``url`` and ``url_file`` is set."""

    url: str = Field(default="", description="Target URL.")
    url_file: SecretFile | None = Field(default=None, description="File with the target URL, if the URL is a secret.")

    @model_validator(mode="after")
    def _one_url(self) -> UrlOrFile:
        if bool(self.url) == (self.url_file is not None):
            raise FieldError("set exactly one of url and url_file")
        return self
