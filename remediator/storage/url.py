"""The PostgreSQL URL in the settings, also in libpq's form with several hosts."""

from __future__ import annotations

import re

import sqlalchemy
import sqlalchemy.exc

from remediator.errors import ConfigurationError
from remediator.storage import postgres_connection, sqlite_settings

_SEVERAL_HOSTS = re.compile(r"(?P<before>\w+://(?:[^@/?]*@)?)(?P<hosts>[^/?]*,[^/?]*)(?P<after>.*)", re.DOTALL)
_FORM = "postgresql://user:password@host:port/database"


def parse_postgresql_url(text: str) -> sqlalchemy.URL:
    """Return the URL for SQLAlchemy with psycopg.

    With several hosts (``host:port,host:port``), psycopg connects to the host that accepts writes, for example after a
    failover.

    Raises:
        ConfigurationError: the text is not a PostgreSQL URL. The message does not repeat the text, because it may
            contain a password.
    """
    scheme, found, _ = text.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise ConfigurationError(f"'store' is neither 'sqlite' nor a URL of the form {_FORM}")
    several = _SEVERAL_HOSTS.fullmatch(text)
    try:
        if several is None:
            url = sqlalchemy.make_url(text)
        else:
            hosts, ports = zip(*(_host_and_port(each) for each in several["hosts"].split(",")), strict=True)
            url = sqlalchemy.make_url(several["before"] + several["after"])
            places = {"host": ",".join(hosts), "port": ",".join(ports)}
            url = url.set(query={"target_session_attrs": "read-write", **places, **url.query})
    except (ValueError, sqlalchemy.exc.ArgumentError):
        raise ConfigurationError(
            f"'store' cannot be read as {_FORM}; in the password, write @ as %40, : as %3A and / as %2F"
        ) from None
    # Without it, psycopg returns bytes from a database with the encoding SQL_ASCII, and SQLAlchemy fails on them.
    url = url.set(query={"client_encoding": "utf8", **url.query})
    return url.set(drivername="postgresql+psycopg")


def _host_and_port(text: str) -> tuple[str, str]:
    host, _, port = text.rpartition(":") if re.search(r":\d*$", text) else (text, "", "")
    return host.strip("[]"), port or "5432"


def open_engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Return an engine in autocommit mode for commands that use the database beside the service.

    It has no pool: a connection is closed at the end of its block.
    """
    if url.get_backend_name() == "postgresql":
        return postgres_connection.create_engine(url, poolclass=sqlalchemy.NullPool)
    return sqlalchemy.create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": sqlite_settings.BUSY_TIMEOUT},
        poolclass=sqlalchemy.NullPool,
    )
