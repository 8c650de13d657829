"""Sessions: `session:<id>` in Redis, until SHOP_SESSION_TTL or logout. They need Redis."""

import re
import secrets
import time

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.link import RedisLink
from app.metrics import Metrics

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}")


class Login(BaseModel):
    """A login. This is a demo: it needs only a name and no password."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")


class Session(BaseModel):
    """A stored session. `created` is Unix time in seconds."""

    username: str
    created: float


class Sessions:
    """Sessions; one object per worker. Every method raises RedisUnavailableError if Redis is down."""

    def __init__(self, link: RedisLink, ttl: int, metrics: Metrics) -> None:
        self.ttl = ttl
        self._link = link
        self._metrics = metrics

    async def start(self, username: str, previous: str | None) -> str:
        """Start a session and return its ID. End the previous session of the browser, to prevent session fixation."""
        session_id = secrets.token_urlsafe(32)
        value = Session(username=username, created=time.time()).model_dump_json()
        await self._link.call("session_start", lambda client: client.set(_key(session_id), value, ex=self.ttl))
        await self._delete(previous)
        self._metrics.sessions.labels("login").inc()
        return session_id

    async def find(self, session_id: str | None) -> Session | None:
        """Return the session, or None if it does not exist (any more)."""
        if not session_id or not SESSION_ID.fullmatch(session_id):
            return None
        value = await self._link.call("session_find", lambda client: client.get(_key(session_id)))
        try:
            return Session.model_validate_json(value or b"")
        except ValidationError:  # expired, or not written by us
            self._metrics.sessions.labels("unknown").inc()
            return None

    async def end(self, session_id: str | None) -> None:
        """Delete the session, if it exists."""
        if await self._delete(session_id):
            self._metrics.sessions.labels("logout").inc()

    async def _delete(self, session_id: str | None) -> bool:
        if not session_id or not SESSION_ID.fullmatch(session_id):
            return False
        return bool(await self._link.call("session_end", lambda client: client.delete(_key(session_id))))


def _key(session_id: str) -> str:
    return f"session:{session_id}"
