"""Identify the caller of a request: by operator token, trusted proxy or session cookie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission, Person
from remediator.service import Service

SESSION_COOKIE = "remediator_session"
_PURPOSE = "session"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The caller of a request."""

    person: Person | None
    """None if the caller is not identified."""
    anonymous_read_allowed: bool
    by_cookie: bool = False
    """Identified by something that a browser sends without being asked. Forms then have to prove their origin."""

    def may(self, permission: Permission) -> bool:
        """Return whether the caller has this permission."""
        if self.person is not None and self.person.may(permission):
            return True
        return permission == Permission.READ and self.anonymous_read_allowed


def identify(service: Service, request: Request) -> RequestIdentity:
    """Return the caller of a request. With a wrong operator token, the caller is unknown, whatever cookies say."""
    anonymous = service.config.anonymous_read_allowed
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return RequestIdentity(service.people.by_token(authorization[len(_BEARER) :]), anonymous)
    person = _from_proxy(service, request) or _from_session(service, request)
    return RequestIdentity(person, anonymous, by_cookie=True)


def _from_proxy(service: Service, request: Request) -> Person | None:
    proxy = service.config.access.proxy
    if proxy is None or request.client is None or not proxy.trusts(request.client.host):
        return None
    names = request.headers.getlist(proxy.header)
    if len(names) != 1 or not names[0].strip():  # a second header came from the client, past the proxy
        return None
    text = request.headers.get(proxy.groups_header, "") if proxy.groups_header else ""
    groups = frozenset(item.strip() for item in text.split(",") if item.strip())
    return service.people.with_groups(names[0].strip(), "proxy", service.config.access.group_roles, groups)


def _from_session(service: Service, request: Request) -> Person | None:
    now = service.context.clock.now()
    signed = service.keyring.read(_PURPOSE, request.cookies.get(SESSION_COOKIE, ""), now)
    if signed is None or signed.expired(now):
        return None
    who, how = str(signed.content.get("who", "")), str(signed.content.get("how", ""))
    if how == "token":
        return service.people.by_id(who, how)  # a person removed from the people file loses access at once
    groups = frozenset(map(str, signed.content.get("groups", ())))
    return service.people.with_groups(who, how, service.config.access.group_roles, groups)


def sign_in(service: Service, response: Response, person: Person, now: datetime, secure: bool) -> None:
    """Set the session cookie of a person. It expires after ``access.session``."""
    life = service.config.access.session
    content = {"who": person.id, "how": person.how, "groups": sorted(person.groups)}
    value = service.keyring.sign(_PURPOSE, content, now, now + life)
    seconds = int(life.total_seconds())
    response.set_cookie(SESSION_COOKIE, value, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/")


def sign_out(response: Response) -> None:
    """Delete the session cookie."""
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")
