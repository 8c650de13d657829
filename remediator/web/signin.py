"""Sign in with an operator token or with OpenID Connect, and sign out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from remediator.core.approval import same_person
from remediator.errors import RemediatorError, StoreError
from remediator.web.authentication import NOBODY, cookie_name, sign_in, sign_out
from remediator.web.oidc import OidcClient
from remediator.web.sign_in_guard import TooManyFailures
from remediator.web.site import (
    HEADERS,
    NOT_IDENTIFIED,
    STALE_FORM,
    STORE_DOWN,
    Site,
    form_fields,
    local_path,
    wrong_token,
)

_ATTEMPT_COOKIE = "remediator_sign_in"
_PURPOSE = "oidc attempt"
_ATTEMPT_LIFE = timedelta(minutes=10)
_SESSION_ENDED = "Nothing was changed: your session has ended. Sign in and try again."


async def show(site: Site, request: Request) -> Response:
    """Answer ``GET /sign-in``."""
    error = _SESSION_ENDED if request.query_params.get("ended") else ""
    return await _form(site, request, local_path(request.query_params.get("next", "/")), error=error)


async def _form(
    site: Site,
    request: Request,
    back: str,
    status: int = 200,
    error: str = "",
    fields: Mapping[str, str] | None = None,
) -> Response:
    """Return the form, with the input except the token."""
    typed = fields or {}
    oidc = site.service.config.access.oidc
    try:
        identity = await site.caller(request)
    except (StoreError, TooManyFailures):
        identity = NOBODY
    return site.render(
        request,
        identity,
        "sign_in.html",
        status,
        back=back,
        oidc=oidc,
        error=error,
        username=typed.get("username", ""),
        remember=typed.get("remember") == "yes",
        session=site.service.access.settings.session,
        session_idle=site.service.access.settings.session_idle,
    )


async def by_token(site: Site, request: Request) -> Response:
    """Answer ``POST /sign-in``: sign in with an operator token."""
    fields = await form_fields(request)
    back = local_path(fields.get("next", "/"))
    if not site.form_is_genuine(request, fields.get("nonce", "")):
        return await _form(site, request, back, 403, STALE_FORM, fields)
    token, username = fields.get("token", "").strip(), fields.get("username", "").strip()
    if not token:
        return await _form(site, request, back, 422, NOT_IDENTIFIED, fields)
    try:
        person = await site.check_token(request, token, username)
    except TooManyFailures as error:
        return await _form(site, request, back, 429, str(error), fields)
    if person is None:
        return await _form(site, request, back, 403, wrong_token(token), fields)
    if username and not same_person(person.id, username):
        text = f"This operator token does not belong to {username[:64]!r}. Correct your ID, or leave it empty."
        return await _form(site, request, back, 403, text, fields)
    response = RedirectResponse(back, 303, HEADERS)
    try:
        remembered = fields.get("remember") == "yes"
        await sign_in(site.service, request, response, person, token, remembered=remembered)
    except StoreError as error:
        return await _form(site, request, back, 503, str(error), fields)
    return response


async def sign_out_form(site: Site, request: Request) -> Response:
    """Answer ``POST /sign-out``."""
    fields = await form_fields(request)
    response = RedirectResponse("/sign-in", 303, HEADERS)
    try:
        if site.form_is_genuine(request, fields.get("nonce", "")):
            identity = await site.caller(request)
            await sign_out(site.service, request, response, identity.person)
    except StoreError as error:  # the session is still valid, so do not pretend that it is over
        return site.error_page(request, NOBODY, 503, STORE_DOWN, str(error))
    return response


async def begin_oidc(site: Site, client: OidcClient, request: Request) -> Response:
    """Answer ``GET /sign-in/oidc``: redirect to the provider, with state, nonce and PKCE challenge.

    It is a link, not a form, since the content security policy keeps forms on this site. It changes nothing.
    """
    back = local_path(request.query_params.get("next", "/"))
    remember = "yes" if request.query_params.get("remember") == "yes" else ""
    attempt = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
    try:
        address = await client.authorize(attempt["state"], attempt["nonce"], attempt["verifier"])
    except RemediatorError as error:
        return await _form(site, request, back, 502, str(error))
    response = RedirectResponse(address, 303, HEADERS)
    value = site.service.keyring.sign(
        _PURPOSE, {**attempt, "next": back, "remember": remember}, site.now, site.now + _ATTEMPT_LIFE
    )
    seconds = int(_ATTEMPT_LIFE.total_seconds())
    name = cookie_name(site.service, _ATTEMPT_COOKIE)
    response.set_cookie(name, value, seconds, httponly=True, samesite="lax", secure=site.secure, path="/")
    return response


async def finish_oidc(site: Site, client: OidcClient, request: Request) -> Response:
    """Answer ``GET /sign-in/oidc/back``, to which the provider redirects the browser."""
    cookie, query = cookie_name(site.service, _ATTEMPT_COOKIE), request.query_params
    signed = site.service.keyring.read(_PURPOSE, request.cookies.get(cookie, ""), site.now)
    if signed is None or signed.expired(site.now):
        return await _form(site, request, "/", 400, "Sign-in took too long or began in another browser. Try again.")
    try:
        await site.guard.require_allowed(request, "oidc")
    except TooManyFailures as error:  # do not call the provider either
        return await _form(site, request, "/", 429, str(error))
    if not secrets.compare_digest(str(signed.content["state"]).encode(), query.get("state", "").encode()):
        await site.guard.failed(request, "oidc", "the answer of the provider belongs to another sign-in")
        return await _form(site, request, "/", 400, "The provider's answer belongs to another sign-in. Try again.")
    if "code" not in query:
        await site.guard.failed(request, "oidc", "the identity provider denied the sign-in")
        return await _form(site, request, "/", 403, "The identity provider denied the sign-in.")
    try:
        identity = await client.redeem(
            query["code"],
            str(signed.content["verifier"]),
            str(signed.content["nonce"]),
            site.now,
            answered_by=query.get("iss"),
        )
    except RemediatorError as error:
        await site.guard.failed(request, "oidc", str(error))
        return await _form(site, request, "/", 403, str(error))
    groups = site.service.access.settings.group_roles
    person = site.service.access.people.with_groups(identity.id, "oidc", groups, identity.groups)
    response = RedirectResponse(local_path(str(signed.content["next"])), 303, HEADERS)
    try:
        remembered = signed.content.get("remember") == "yes"
        await sign_in(site.service, request, response, person, remembered=remembered)
        site.guard.succeeded(request, person)
    except StoreError as error:
        return await _form(site, request, "/", 503, str(error))
    response.delete_cookie(cookie, path="/", httponly=True, samesite="lax", secure=site.secure)
    return response
