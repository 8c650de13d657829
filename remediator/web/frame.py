"""The frame of every page: active stops, the number of waiting requests, and saved input of forms."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from remediator.core.approval import Permission
from remediator.extensions.guards._stop_file import StopFile, read_stop_file
from remediator.service import Service
from remediator.storage.repositories import approvals, stops
from remediator.storage.repositories.stops import Stop
from remediator.web.authentication import RequestIdentity, cookie_name

_DRAFT_COOKIE = "remediator_draft"
_PURPOSE = "draft"
_DRAFT_LIFE = timedelta(minutes=30)
_SECRET_FIELDS = ("token", "nonce", "verb", "password")
_MAX_COOKIE = 3500


@dataclass(frozen=True, slots=True)
class Frame:
    """The state that the header shows, from one snapshot of the store."""

    stops: Sequence[Stop] = ()
    stop_file: StopFile | None = None
    """The file that stops everything, if it exists."""
    waiting: int = 0
    """Number of pending approval requests."""
    may_stop: bool = False
    may_release: bool = False

    @property
    def stopped(self) -> bool:
        """Whether a stop is active."""
        return bool(self.stops) or self.stop_file is not None


NO_FRAME = Frame()
"""For callers who may not read, and while the store does not answer."""


async def load_frame(service: Service, identity: RequestIdentity) -> Frame:
    """Return the frame for a caller.

    Raises:
        StoreError: the store does not answer.
    """
    if not identity.may(Permission.READ):
        return NO_FRAME
    now = service.context.clock.now()
    active, waiting = await service.context.store.view(
        lambda connection: (stops.list_active(connection, now), approvals.count_pending(connection, now))
    )
    return Frame(
        active,
        read_stop_file(service.config.state),
        waiting,
        identity.may(Permission.CREATE_STOP),
        identity.may(Permission.RELEASE_STOP),
    )


def keep_draft(service: Service, response: Response, action: str, fields: Mapping[str, str]) -> None:
    """Keep the input of a form in a signed cookie, so that it survives a sign-in or an error.

    Args:
        service: the service.
        response: gets the cookie.
        action: the path of the form.
        fields: the fields of the form, without secrets.
    """
    typed = {name: value[:500] for name, value in fields.items() if value and name not in _SECRET_FIELDS}
    content = {"action": action, "fields": json.dumps(typed)}
    value = service.keyring.sign(
        _PURPOSE, content, service.context.clock.now(), service.context.clock.now() + _DRAFT_LIFE
    )
    if typed and len(value) <= _MAX_COOKIE:
        seconds = int(_DRAFT_LIFE.total_seconds())
        name = cookie_name(service, _DRAFT_COOKIE)
        response.set_cookie(name, value, seconds, httponly=True, samesite="lax", secure=service.config.https, path="/")


def read_draft(service: Service, request: Request) -> tuple[str, Mapping[str, str]]:
    """Return the path of the form whose content was kept, and its fields; possibly empty."""
    cookie = request.cookies.get(cookie_name(service, _DRAFT_COOKIE), "")
    signed = service.keyring.read(_PURPOSE, cookie, service.context.clock.now()) if cookie else None
    if signed is None or signed.expired(service.context.clock.now()):
        return "", {}
    return str(signed.content["action"]), json.loads(str(signed.content["fields"]))


def drop_draft(service: Service, response: Response) -> None:
    """Delete the saved input, because the form was accepted."""
    response.delete_cookie(cookie_name(service, _DRAFT_COOKIE), path="/", secure=service.config.https, httponly=True)
