"""What every page shares: templates, headers, who is looking, and the proof that a form came from one of our pages."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from remediator import __version__
from remediator.core.approval import Permission, PermissionDenied, Person
from remediator.core.clock import format_duration
from remediator.errors import InputError, StoreError
from remediator.pipeline.decisions import DecisionPolicy
from remediator.service import Service
from remediator.web._validity_cache import Standings
from remediator.web.authentication import RequestIdentity, identify

Handler = Callable[[Request], Awaitable[Response]]
Page = Callable[[Request, RequestIdentity], Awaitable[Response]]

HERE = Path(__file__).parent
FORM_LIFE = timedelta(hours=2)
_BROWSER = "remediator_browser"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "interest-cohort=()",
}


@dataclass(slots=True)
class Site:
    """The pages of one service."""

    service: Service
    standings: Standings = field(init=False)
    templates: ImmutableSandboxedEnvironment = field(init=False)

    def __post_init__(self) -> None:
        self.standings = Standings(self.service)
        self.templates = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.filters.update(ago=ago, instant=instant, length=length, words=words)
        self.templates.globals.update(version=__version__, environment=self.service.config.environment)

    @property
    def rules(self) -> DecisionPolicy:
        """What the settings say about deciding."""
        settings = self.service.config.approvals
        return DecisionPolicy(settings.link_holders, settings.snooze)

    @property
    def now(self) -> datetime:
        """The service's time."""
        return self.service.context.clock.now()

    @property
    def secure(self) -> bool:
        """Whether people come by https, so that cookies must too."""
        return self.service.config.public_url.startswith("https://")

    def render(
        self, request: Request, visitor: RequestIdentity, template: str, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """A page, with its headers, and with a cookie that ties its forms to this browser."""
        browser = request.cookies.get(_BROWSER, "")
        fresh = not 20 <= len(browser) <= 64
        if fresh:
            browser = secrets.token_urlsafe(24)
        text = self.templates.get_template(template).render(
            visitor=visitor,
            path=request.url.path,
            now=self.now,
            nonce=self._nonce(browser),
            unusable=self.service.reloading.refused,
            **context,
        )
        response = HTMLResponse(text, status, HEADERS)
        if fresh:
            response.set_cookie(_BROWSER, browser, httponly=True, samesite="lax", secure=self.secure, path="/")
        return response

    def _nonce(self, browser: str) -> str:
        made = str(int(self.now.timestamp()))
        return f"{made}.{self.service.keyring.digest('form', browser, made)}"

    def genuine(self, request: Request, nonce: str) -> bool:
        """Whether a form was made by us, lately, for this very browser, and was sent from one of our own pages."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        browser = request.cookies.get(_BROWSER, "")
        made, _, proof = nonce.partition(".")
        if not browser or not made.isascii() or not made.isdigit() or len(made) > 11:
            return False
        if self.now - datetime.fromtimestamp(int(made), UTC) > FORM_LIFE:
            return False
        return secrets.compare_digest(proof, self.service.keyring.digest("form", browser, made))

    def visitor(self, request: Request) -> RequestIdentity:
        """Who is looking."""
        return identify(self.service, request)

    def page(self, handler: Page, power: Permission = Permission.SEE) -> Handler:
        """A page for those who may look; others are asked to sign in."""

        async def get(request: Request) -> Response:
            visitor = self.visitor(request)
            if not visitor.may(power):
                back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/sign-in?next={quote(back, safe='/')}", 303, HEADERS)
            try:
                return await handler(request, visitor)
            except StoreError as error:
                return self.sorry(request, visitor, 503, "The store does not answer", str(error))

        return get

    def form(self, handler: Callable[[Request, Person, Mapping[str, str]], Awaitable[Response]]) -> Handler:
        """A form that changes something: only for people whom we know, only from our own pages."""

        async def post(request: Request) -> Response:
            visitor = self.visitor(request)
            fields = await form_fields(request)
            if not self.genuine(request, fields.get("nonce", "")):
                return self.sorry(request, visitor, 403, "Nothing was changed", STALE_FORM)
            if visitor.person is None:  # signed out meanwhile: said, and back to the page with the form
                page = request.url.path.rpartition("/")[0] if request.url.path.startswith("/runs/") else "/"
                return RedirectResponse(f"/sign-in?next={quote(page)}&ended=1", 303, HEADERS)
            try:
                return await handler(request, visitor.person, fields)
            except PermissionDenied as error:
                return self.sorry(request, visitor, 403, "You may not do that", str(error))
            except InputError as error:
                return self.sorry(request, visitor, 422, "Nothing was changed", str(error))
            except StoreError as error:
                return self.sorry(request, visitor, 503, "The store does not answer", str(error))

        return post

    def sorry(self, request: Request, visitor: RequestIdentity, status: int, title: str, text: str) -> HTMLResponse:
        """A page that says what went wrong."""
        return self.render(request, visitor, "message.html", status, title=title, text=text)


STALE_FORM = "This form is too old, or was not made by this page for this browser. Reload the page and look again."


async def form_fields(request: Request, most: int = 16) -> dict[str, str]:
    """The text fields of a form; files, and whatever is too much, do not exist."""
    async with request.form(max_files=0, max_fields=most, max_part_size=16 * 1024) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def instant(moment: datetime | None) -> str:
    """``2026-01-02 03:04:05Z``."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def length(span: timedelta) -> str:
    """A length of time, to the second."""
    return format_duration(timedelta(seconds=max(0, int(span.total_seconds()))))


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or in how long, with the largest unit or two."""
    span = now - moment
    text = length(abs(span))
    if abs(span) > timedelta(days=2):
        text = f"{abs(span).days} days"
    return f"{text} ago" if span >= timedelta(0) else f"in {text}"


def words(text: str) -> str:
    """``awaiting_approval`` as people say it."""
    return text.replace("_", " ")
