"""Signing in: with an operator token, or with OpenID Connect; and out again."""

from __future__ import annotations

import secrets
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.errors import RemediatorError
from remediator.web.authentication import sign_in, sign_out
from remediator.web.oidc import OidcClient
from remediator.web.site import HEADERS, STALE_FORM, Handler, Site, form_fields

_ATTEMPT = "remediator_sign_in"
_PURPOSE = "oidc attempt"
_PATIENCE = timedelta(minutes=10)
_ENDED = "Nothing was changed: you are not signed in any more. Sign in, and say it again."


def _inside(path: str) -> str:
    """Only paths of our own: nobody is sent elsewhere from here."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and "\\" not in path and path.isprintable()
    return path if safe and len(path) < 3000 else "/"


def show(site: Site) -> Handler:
    """``GET /sign-in``."""

    async def get(request: Request) -> Response:
        ended = _ENDED if request.query_params.get("ended") else ""
        return _form(site, request, _inside(request.query_params.get("next", "/")), refused=ended)

    return get


def _form(site: Site, request: Request, back: str, status: int = 200, refused: str = "") -> Response:
    oidc = site.service.config.access.oidc
    visitor = site.visitor(request)
    return site.render(request, visitor, "sign_in.html", status, back=back, oidc=oidc, refused=refused)


def by_token(site: Site) -> Handler:
    """``POST /sign-in``: with an operator token."""

    async def post(request: Request) -> Response:
        fields = await form_fields(request)
        back = _inside(fields.get("next", "/"))
        if not site.genuine(request, fields.get("nonce", "")):
            return _form(site, request, back, 403, STALE_FORM)
        person = site.service.people.by_token(fields.get("token", ""))
        if person is None:
            return _form(site, request, back, 403, "This token is not known here.")
        response = RedirectResponse(back, 303, HEADERS)
        sign_in(site.service, response, person, site.now, site.secure)
        return response

    return post


def out(site: Site) -> Handler:
    """``POST /sign-out``."""

    async def post(request: Request) -> Response:
        fields = await form_fields(request)
        response = RedirectResponse("/sign-in", 303, HEADERS)
        if site.genuine(request, fields.get("nonce", "")):
            sign_out(response)
        return response

    return post


def begin(site: Site, client: OidcClient) -> Handler:
    """``GET /sign-in/oidc``: to the provider, with a state, a nonce and a PKCE challenge made for this attempt.

    A link and no form, since the pages' policy keeps forms from leading elsewhere; beginning changes nothing.
    """

    async def get(request: Request) -> Response:
        back = _inside(request.query_params.get("next", "/"))
        attempt = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        try:
            address = await client.authorize(attempt["state"], attempt["nonce"], attempt["verifier"])
        except RemediatorError as error:
            return _form(site, request, back, 502, str(error))
        response = RedirectResponse(address, 303, HEADERS)
        value = site.service.keyring.sign(_PURPOSE, {**attempt, "next": back}, site.now, site.now + _PATIENCE)
        response.set_cookie(_ATTEMPT, value, 600, httponly=True, samesite="lax", secure=site.secure, path="/sign-in")
        return response

    return get


def finish(site: Site, client: OidcClient) -> Handler:
    """``GET /sign-in/oidc/back``: back from the provider."""

    async def get(request: Request) -> Response:
        signed = site.service.keyring.read(_PURPOSE, request.cookies.get(_ATTEMPT, ""), site.now)
        asked = request.query_params
        if signed is None or signed.expired(site.now):
            return _form(site, request, "/", 400, "Signing in took too long, or began in another browser. Try again.")
        if not secrets.compare_digest(str(signed.content["state"]).encode(), asked.get("state", "").encode()):
            return _form(site, request, "/", 400, "This answer is not for the question that this browser asked.")
        if "code" not in asked:
            return _form(site, request, "/", 403, "The provider did not let you in.")
        try:
            identity = await client.redeem(
                asked["code"], str(signed.content["verifier"]), str(signed.content["nonce"]), site.now
            )
        except RemediatorError as error:
            return _form(site, request, "/", 403, str(error))
        groups = site.service.config.access.group_roles
        person = site.service.people.with_groups(identity.id, "oidc", groups, identity.groups)
        response = RedirectResponse(_inside(str(signed.content["next"])), 303, HEADERS)
        sign_in(site.service, response, person, site.now, site.secure)
        response.delete_cookie(_ATTEMPT, path="/sign-in")
        return response

    return get
