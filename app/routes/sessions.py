"""`/login`, `/logout`, `/me`: sessions with a cookie. Without Redis, all answer 503."""

from typing import Annotated

from fastapi import APIRouter, Cookie, HTTPException, Request, Response

from app.services import Admitted, Parts
from app.sessions import Login, Session

COOKIE = "session_id"
router = APIRouter(tags=["sessions"], dependencies=[Admitted])
SessionId = Annotated[str | None, Cookie(alias=COOKIE)]


@router.post("/login")
async def login(who: Login, parts: Parts, request: Request, response: Response, previous: SessionId = None) -> Login:
    session_id = await parts.sessions.start(who.username, previous)
    request.state.user = who.username
    response.set_cookie(
        COOKIE,
        session_id,
        max_age=parts.sessions.ttl,
        path="/",
        secure=parts.settings.cookie_secure,
        httponly=True,
        samesite="lax",
    )
    return who


@router.post("/logout", status_code=204)
async def logout(parts: Parts, response: Response, session_id: SessionId = None) -> None:
    """End the session, then delete the cookie: after a 503, the client can try again."""
    await parts.sessions.end(session_id)
    response.delete_cookie(COOKIE, path="/", secure=parts.settings.cookie_secure, httponly=True, samesite="lax")


@router.get("/me")
async def me(parts: Parts, request: Request, session_id: SessionId = None) -> Session:
    session = await parts.sessions.find(session_id)
    if session is None:
        raise HTTPException(401, "not logged in: use POST /login")
    request.state.user = session.username
    return session
