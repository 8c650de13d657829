"""Who is asking: an operator token, a proxy that we trust, somebody who has signed in, or nobody whom we know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission, Person
from remediator.service import Service

SESSION = "remediator_session"
_PURPOSE = "session"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """Whoever made a request."""

    person: Person | None
    stranger_may_look: bool
    by_cookie: bool = False
    """Known by a cookie, which a browser sends along unasked: forms have to prove that they are ours."""

    def may(self, power: Permission) -> bool:
        """Whether this is allowed."""
        if self.person is not None and self.person.can(power):
            return True
        return power == Permission.SEE and self.stranger_may_look


def identify(service: Service, request: Request) -> RequestIdentity:
    """Who a request comes from; somebody with a wrong token is nobody."""
    look = service.config.strangers_may_look
    said = request.headers.get("authorization", "")
    if said[: len(_BEARER)].lower() == _BEARER:
        return RequestIdentity(service.people.by_token(said[len(_BEARER) :]), look)
    vouched = _by_proxy(service, request)
    if vouched is not None:
        return RequestIdentity(vouched, look, by_cookie=True)
    return RequestIdentity(_by_session(service, request), look, by_cookie=True)


def _by_proxy(service: Service, request: Request) -> Person | None:
    proxy = service.config.access.proxy
    if proxy is None or request.client is None or not proxy.trusts(request.client.host):
        return None
    names = request.headers.getlist(proxy.header)
    if len(names) != 1 or not names[0].strip():  # two would mean that somebody else's word came through
        return None
    text = request.headers.get(proxy.groups_header, "") if proxy.groups_header else ""
    groups = frozenset(item.strip() for item in text.split(",") if item.strip())
    return service.people.with_groups(names[0].strip(), "proxy", service.config.access.group_roles, groups)


def _by_session(service: Service, request: Request) -> Person | None:
    now = service.context.clock.now()
    signed = service.keyring.read(_PURPOSE, request.cookies.get(SESSION, ""), now)
    if signed is None or signed.expired(now):
        return None
    who, how = str(signed.content.get("who", "")), str(signed.content.get("how", ""))
    if how == "token":
        return service.people.by_id(who, how)  # taken out of the file, somebody is out at once
    groups = frozenset(map(str, signed.content.get("groups", ())))
    return service.people.with_groups(who, how, service.config.access.group_roles, groups)


def sign_in(service: Service, response: Response, person: Person, now: datetime, secure: bool) -> None:
    """Remember this person in this browser, for as long as the settings say."""
    life = service.config.access.session
    content = {"who": person.id, "how": person.how, "groups": sorted(person.groups)}
    value = service.keyring.sign(_PURPOSE, content, now, now + life)
    seconds = int(life.total_seconds())
    response.set_cookie(SESSION, value, max_age=seconds, httponly=True, samesite="lax", secure=secure, path="/")


def sign_out(response: Response) -> None:
    """Forget the person in this browser."""
    response.delete_cookie(SESSION, path="/", httponly=True, samesite="lax")
