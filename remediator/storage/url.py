"""Where PostgreSQL is, as people write it: a URL, in libpq's form for several hosts too."""

from __future__ import annotations

import re

import sqlalchemy
import sqlalchemy.exc

from remediator.errors import ConfigurationError

_SEVERAL = re.compile(r"(?P<before>\w+://(?:[^@/?]*@)?)(?P<hosts>[^/?]*,[^/?]*)(?P<after>.*)", re.DOTALL)
_FORM = "postgresql://user:password@host:port/database"


def parse_postgresql_url(text: str) -> sqlalchemy.URL:
    """The URL, for SQLAlchemy with psycopg.

    Of several hosts (``host:port,host:port``), the one that can be written is meant, as after a failover.

    Raises:
        ConfigurationError: it is none. The message has nothing of it, for it may hold a password.
    """
    kind, found, _ = text.partition("://")
    if not found or kind not in ("postgresql", "postgres"):
        raise ConfigurationError(f"'store' is neither 'sqlite' nor a URL of the form {_FORM}")
    several = _SEVERAL.fullmatch(text)
    try:
        if several is None:
            url = sqlalchemy.make_url(text)
        else:
            hosts, ports = zip(*(_host(each) for each in several["hosts"].split(",")), strict=True)
            url = sqlalchemy.make_url(several["before"] + several["after"])
            places = {"host": ",".join(hosts), "port": ",".join(ports)}
            url = url.set(query={"target_session_attrs": "read-write", **places, **url.query})
    except (ValueError, sqlalchemy.exc.ArgumentError):
        raise ConfigurationError(
            f"'store' cannot be read as {_FORM}; in the password, write @ as %40, : as %3A and / as %2F"
        ) from None
    return url.set(drivername="postgresql+psycopg")


def _host(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":") if re.search(r":\d*$", text) else (text, "", "")
    return host.strip("[]"), port or "5432"
