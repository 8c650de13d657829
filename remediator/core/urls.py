"""URLs of servers in the settings."""

from __future__ import annotations

from urllib.parse import urlsplit


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
