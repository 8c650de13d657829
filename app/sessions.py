"""Sessions: `session:<id>` in Redis, gone after SESSION_TTL or at logout. Without Redis there are none."""

import re
import secrets
import time

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.link import RedisLink
from app.metrics import Metrics

SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}")


class Login(BaseModel):
    """Who wants to log in. This is a demo: a name is enough, and no password is asked for or kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    username: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,31}$")


class Session(BaseModel):
    """A session as it is stored. `created` is in seconds since the epoch."""

    username: str
    created: float


class Sessions:
    """One per worker. Every method raises RedisUnavailableError when sessions cannot be reached."""

    def __init__(self, link: RedisLink, ttl: int, metrics: Metrics) -> None:
        self.ttl = ttl
        self._link = link
        self._metrics = metrics

    async def start(self, username: str, previous: str | None) -> str:
        """A new session's id. The browser's previous session ends: an id from before login is never kept."""
        session_id = secrets.token_urlsafe(32)
        value = Session(username=username, created=time.time()).model_dump_json()
        await self._link.call("session_start", lambda client: client.set(_key(session_id), value, ex=self.ttl))
        await self._delete(previous)
        self._metrics.sessions.labels("login").inc()
        return session_id

    async def find(self, session_id: str | None) -> Session | None:
        """None: there is no such session, or no more."""
        if not session_id or not SESSION_ID.fullmatch(session_id):
            return None
        value = await self._link.call("session_find", lambda client: client.get(_key(session_id)))
        try:
            return Session.model_validate_json(value or b"")
        except ValidationError:  # gone, or not ours
            self._metrics.sessions.labels("unknown").inc()
            return None

    async def end(self, session_id: str | None) -> None:
        """Deletes the session; nothing happens if there is none."""
        if await self._delete(session_id):
            self._metrics.sessions.labels("logout").inc()

    async def _delete(self, session_id: str | None) -> bool:
        if not session_id or not SESSION_ID.fullmatch(session_id):
            return False
        return bool(await self._link.call("session_end", lambda client: client.delete(_key(session_id))))


def _key(session_id: str) -> str:
    return f"session:{session_id}"
