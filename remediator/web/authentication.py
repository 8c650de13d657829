"""Identify the caller of a request: by operator token, trusted proxy or session cookie."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission, Person
from remediator.core.identity import hash_token
from remediator.service import Service
from remediator.storage import Tx
from remediator.storage.repositories import sessions

SESSION_COOKIE = "remediator_session"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The caller of a request."""

    person: Person | None
    """The identified person; None if the caller is not identified."""
    anonymous_read_allowed: bool
    by_cookie: bool = False
    """Identified by credentials that a browser sends automatically. Forms must then prove their origin."""

    def may(self, permission: Permission) -> bool:
        """Return whether the caller has this permission."""
        if self.person is not None and self.person.may(permission):
            return True
        return permission == Permission.READ and self.anonymous_read_allowed


NOBODY = RequestIdentity(None, anonymous_read_allowed=False)
"""The caller of a request while the store does not answer, so that no session can be checked."""


def cookie_name(service: Service, name: str) -> str:
    """Return the name of a cookie. With https, browsers accept ``__Host-`` from this exact host and over TLS only."""
    return f"__Host-{name}" if service.config.https else name


def address_of(service: Service, request: Request) -> str:
    """Return the address of the client, for limits and records. It is no identity."""
    if request.client is None:
        return "unknown"
    proxy = service.access.settings.proxy
    if proxy is None or not proxy.address_header:
        return request.client.host
    return proxy.client_address(request.client.host, request.headers.getlist(proxy.address_header))


async def identify(service: Service, request: Request) -> RequestIdentity:
    """Return the caller of a request. With a wrong operator token, the caller is unknown and may not even read.

    Cookies do not change this: a program must notice that its token is wrong.

    Raises:
        StoreError: the store does not answer, so that a session cannot be checked.
    """
    anonymous = service.config.anonymous_read_allowed
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        person = by_operator_token(service, authorization[len(_BEARER) :])
        return RequestIdentity(person, anonymous and person is not None)
    person = _from_proxy(service, request) or await _from_session(service, request)
    return RequestIdentity(person, anonymous, by_cookie=True)


def by_operator_token(service: Service, token: str) -> Person | None:
    """Return the person who proves the identity with an operator token now; None if no person has this token."""
    person = service.access.people.by_token(token)
    return None if person is None else replace(person, authenticated_at=service.context.clock.now())


def _from_proxy(service: Service, request: Request) -> Person | None:
    proxy = service.access.settings.proxy
    if proxy is None or request.client is None or not proxy.trusts(request.client.host):
        return None
    names = request.headers.getlist(proxy.header) if proxy.header else []
    if len(names) != 1 or not names[0].strip():  # the client sent a second header, which the proxy did not replace
        return None
    text = request.headers.get(proxy.groups_header, "") if proxy.groups_header else ""
    groups = frozenset(item.strip() for item in text.split(",") if item.strip())
    return service.access.person(names[0].strip(), "proxy", groups)


async def _from_session(service: Service, request: Request) -> Person | None:
    """Return the person of a session, with the present rights and not the rights at the sign-in.

    The checks, in this order:

    1. The session is in the store and within its limits.
    2. The operator token that started it is still the person's.
    3. The person is still known.
    """
    cookie = request.cookies.get(cookie_name(service, SESSION_COOKIE), "")
    if not cookie:
        return None
    store, now = service.context.store, service.context.clock.now()
    session = await store.view(lambda connection: sessions.get(connection, cookie))
    if session is None or not session.is_active(now, service.access.settings.session_idle):
        return None
    entry = service.access.people.people.get(session.person)
    if session.credential is not None and (entry is None or session.credential not in entry.tokens):
        return None
    person = service.access.person(session.person, session.how, session.claimed)
    # A page that updates itself is no use of the session by a person; browsers mark those requests as "empty".
    by_page = request.headers.get("sec-fetch-dest") == "empty"
    if person is not None and not by_page and now - session.seen_at >= sessions.TOUCH_INTERVAL:
        await store.write(lambda tx: sessions.touch(tx, session))
    return None if person is None else replace(person, authenticated_at=session.created_at)


async def sign_in(
    service: Service,
    request: Request,
    response: Response,
    person: Person,
    token: str = "",
    *,
    remembered: bool = False,
) -> None:
    """Start a session and set its cookie. A session of the same browser ends.

    Args:
        service: the service.
        request: the request that proved the identity.
        response: gets the cookie.
        person: who signed in.
        token: the operator token that proved it, if one did.
        remembered: the session has no idle limit, only its absolute one.

    Raises:
        StoreError: the session was not stored.
    """
    life = service.access.settings.session
    name = cookie_name(service, SESSION_COOKIE)
    before = request.cookies.get(name, "")
    address = address_of(service, request)

    def write(tx: Tx) -> str:
        if before:
            sessions.end(tx, before, person.id)
        credential = hash_token(token) if token else None
        return sessions.start(tx, person, credential, address, life, remembered=remembered)

    value = str(await service.context.store.write(write))
    secure = name.startswith("__Host-")
    seconds = int(life.total_seconds())
    response.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/")


async def sign_out(service: Service, request: Request, response: Response, person: Person | None) -> None:
    """End the session of a browser and delete its cookie.

    Raises:
        StoreError: the session was not ended.
    """
    name = cookie_name(service, SESSION_COOKIE)
    cookie = request.cookies.get(name, "")
    if cookie:
        actor = person.id if person is not None else "unknown"
        await service.context.store.write(lambda tx: sessions.end(tx, cookie, actor))
    response.delete_cookie(name, path="/", httponly=True, samesite="lax", secure=name.startswith("__Host-"))
