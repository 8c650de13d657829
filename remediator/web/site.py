"""The common parts of all pages: templates, headers, the caller, and the check of the origin of forms."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from remediator import __version__
from remediator.core.approval import Permission, PermissionDenied, Person
from remediator.core.run import Run
from remediator.errors import InputError, StoreError
from remediator.pipeline.approval_validity import Validity, check_validity
from remediator.reporting.formatting import capital, format_age
from remediator.service import Service
from remediator.storage.repositories.approvals import Approval
from remediator.web.authentication import NOBODY, RequestIdentity, address_of, by_operator_token, cookie_name, identify
from remediator.web.frame import NO_FRAME, drop_draft, keep_draft, load_frame, read_draft
from remediator.web.health import Handler
from remediator.web.shared_work import SharedWork
from remediator.web.sign_in_guard import SignInGuard, TooManyFailures
from remediator.web.url_prefix import prefix_of

Page = Callable[["Site", Request, RequestIdentity], Awaitable[Response]]
FormHandler = Callable[["Site", Request, Person, Mapping[str, str]], Awaitable[Response]]

PAGES = (
    ("/", "Overview", "o"),
    ("/approvals", "Approvals", "a"),
    ("/runs", "Runs", "r"),
    ("/incidents", "Incidents", "i"),
    ("/playbooks", "Playbooks", "p"),
    ("/inventory", "Inventory", "v"),
    ("/audit", "Audit", "u"),
    ("/statistics", "Statistics", "t"),
    ("/health", "Health", "h"),
)
"""Path, name and keyboard shortcut of the pages in the header."""
HERE = Path(__file__).parent
FORM_LIFE = timedelta(hours=2)
STALE_FORM = "This form has expired, or it was not made for this browser. Reload the page and try again."
NOT_IDENTIFIED = "The operator token is missing. Enter your operator token, or sign in."
STORE_DOWN = "The store does not answer"
_LOCAL_LINK = re.compile(r'\b(href|src|action)="/(?!/)')
_BROWSER_COOKIE = "remediator_browser"
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "interest-cohort=()",
}


class PrefixedLinks(Extension):
    """Makes the local links of all templates begin with the variable ``root``, so that no template can forget it."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return the source of a template with ``root`` in its links."""
        return _LOCAL_LINK.sub(r'\1="{{ root }}/', source)


@dataclass(slots=True)
class ValidityChecks:
    """Check whether approval requests are still valid. Requests that arrive at the same time share one check.

    A check asks the target. Without sharing, anyone with a link could put load on the target by reloading the page.
    """

    service: Service
    _checks: SharedWork[Validity] = field(default_factory=lambda: SharedWork("validity of"))

    async def check(self, approval: Approval, run: Run) -> Validity:
        """Return the validity of a pending request."""
        return await self._checks.get(
            approval.id, lambda: check_validity(self.service.context, approval, run, plans=self.service.reaches_targets)
        )


@dataclass(slots=True)
class Site:
    """The pages of one service."""

    service: Service
    validity: ValidityChecks = field(init=False)
    guard: SignInGuard = field(init=False)

    def __post_init__(self) -> None:
        self.validity = ValidityChecks(self.service)
        self.guard = SignInGuard(
            self.service.context.store,
            self.service.metrics,
            self.service.context.actor,
            lambda request: address_of(self.service, request),
        )

    @property
    def now(self) -> datetime:
        """The time of the service's clock."""
        return self.service.context.clock.now()

    @property
    def secure(self) -> bool:
        """See :attr:`remediator.config.Config.https`."""
        return self.service.config.https

    def render(
        self, request: Request, identity: RequestIdentity, template: str, status: int = 200, **context: Any
    ) -> HTMLResponse:
        """Return a page with its headers, and with the cookie that ties its forms to this browser."""
        cookie = cookie_name(self.service, _BROWSER_COOKIE)
        browser = request.cookies.get(cookie, "")
        new_browser = not 20 <= len(browser) <= 64
        if new_browser:
            browser = secrets.token_urlsafe(24)
        made = str(int(self.now.timestamp()))
        kept_for, kept = read_draft(self.service, request)
        text = _TEMPLATES.get_template(template).render(
            environment=self.service.config.environment,
            root=prefix_of(self.service.config.public_url),
            identity=identity,
            path=request.url.path,
            now=self.now,
            nonce=f"{made}.{self.service.keyring.digest('form', browser, made)}",
            load_errors=self.service.reload.rejected,
            frame=getattr(request.state, "frame", NO_FRAME),
            kept_for=kept_for,
            kept=kept,
            problems=self.service.health.problems(),
            **context,
        )
        response = HTMLResponse(text, status, HEADERS)
        if new_browser:
            response.set_cookie(cookie, browser, httponly=True, samesite="lax", secure=self.secure, path="/")
        return response

    def form_is_genuine(self, request: Request, nonce: str) -> bool:
        """Return whether a form comes from one of our own pages, made for this browser within :data:`FORM_LIFE`."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        browser = request.cookies.get(cookie_name(self.service, _BROWSER_COOKIE), "")
        made, _, proof = nonce.partition(".")
        if not browser or not made.isascii() or not made.isdigit() or len(made) > 11:
            return False
        if self.now - datetime.fromtimestamp(int(made), UTC) > FORM_LIFE:
            return False
        return secrets.compare_digest(proof, self.service.keyring.digest("form", browser, made))

    async def caller(self, request: Request) -> RequestIdentity:
        """Return the caller of a request.

        Raises:
            StoreError: the store does not answer, so that a session cannot be checked.
            TooManyFailures: too many operator tokens of this address were wrong.
        """
        with_token = "authorization" in request.headers
        if with_token:
            await self.guard.require_allowed(request, "token")
        identity = await identify(self.service, request)
        if with_token and identity.person is None:
            await self.guard.failed(request, "token", "the Authorization header has no valid operator token")
        elif with_token and identity.person is not None:
            self.guard.succeeded(request, identity.person)
        return identity

    async def check_token(self, request: Request, token: str, account: str = "") -> Person | None:
        """Return the person of an operator token that was typed into a form; None if it is unknown.

        Raises:
            TooManyFailures: too many attempts of this address or account have failed.
        """
        await self.guard.require_allowed(request, "token", account)
        person = by_operator_token(self.service, token)
        if person is None:
            await self.guard.failed(request, "token", "the operator token is unknown", account)
        else:
            self.guard.succeeded(request, person)
        return person

    async def load_frame(self, request: Request, identity: RequestIdentity) -> None:
        """Read the data of the header, for :meth:`render`.

        Raises:
            StoreError: the store does not answer.
        """
        request.state.frame = await load_frame(self.service, identity)

    def page(self, handler: Page, permission: Permission = Permission.READ) -> Handler:
        """Wrap a page: callers without the permission are redirected to sign in."""

        async def get(site: Site, request: Request, identity: RequestIdentity) -> Response:
            if not identity.may(permission):
                back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/sign-in?next={quote(back, safe='/')}", 303, HEADERS)
            await self.load_frame(request, identity)
            return await handler(self, request, identity)

        return self.open_page(get)

    def open_page(self, handler: Page) -> Handler:
        """Wrap a public page. If the store does not answer, or after too many attempts, return an error page."""

        async def get(request: Request) -> Response:
            identity = NOBODY
            try:
                identity = await self.caller(request)
                return await handler(self, request, identity)
            except StoreError as error:
                return self.error_page(request, identity, 503, STORE_DOWN, str(error))
            except TooManyFailures as error:
                return self.error_page(request, identity, 429, "Too many attempts", str(error))

        return get

    def form(self, handler: FormHandler) -> Handler:
        """Wrap a form that changes something: only from our own pages, only for identified people."""

        async def post(site: Site, request: Request, identity: RequestIdentity) -> Response:
            fields = await form_fields(request)
            if not self.form_is_genuine(request, fields.get("nonce", "")):
                return self.error_page(request, identity, 403, "Nothing was changed", STALE_FORM)
            if identity.person is None:  # the session ended after the page was opened: sign in, then back to the page
                response: Response = RedirectResponse(
                    f"/sign-in?next={quote(page_of(request, fields))}&ended=1", 303, HEADERS
                )
                keep_draft(self.service, response, request.url.path, fields)
                return response
            try:
                await self.load_frame(request, identity)
                response = await handler(self, request, identity.person, fields)
            except PermissionDenied as error:
                await self.guard.denied(request, identity.person, error)
                response = self.error_page(request, identity, 403, "Not allowed", str(error), page_of(request, fields))
            except InputError as error:
                title = "Nothing was changed"
                response = self.error_page(request, identity, 422, title, str(error), page_of(request, fields))
            except StoreError as error:
                response = self.error_page(request, identity, 503, STORE_DOWN, str(error), page_of(request, fields))
            if response.status_code < 400:
                drop_draft(self.service, response)
            else:
                keep_draft(self.service, response, request.url.path, fields)
            return response

        return self.open_page(post)

    def error_page(
        self, request: Request, identity: RequestIdentity, status: int, title: str, text: str, back: str = ""
    ) -> HTMLResponse:
        """Return a page that states an error, with links to the next actions.

        Args:
            request: the request.
            identity: the caller.
            status: the status code.
            title: the error.
            text: the reason.
            back: path of the page with the form, which still has the input.
        """
        return self.render(request, identity, "error.html", status, title=title, text=text, back=back)


def wrong_token(token: str) -> str:
    """Return why an operator token is not accepted, and the next action."""
    if not token.startswith("rmo_"):
        return "This is not an operator token: it must start with rmo_. Check that you copied the whole token."
    return "This operator token is unknown. Check that you copied all of it, and that it was not replaced."


async def form_fields(request: Request) -> dict[str, str]:
    """Return the text fields of a form. Files are not accepted."""
    async with request.form(max_files=0, max_fields=16, max_part_size=16 * 1024) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


async def read_body(request: Request, limit: int) -> bytes | None:
    """Return the body of a request; None if it is longer than this many bytes."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > limit:
            return None
    return raw


def local_path(path: str) -> str:
    """Return the path if it leads to a page of this site, else ``/``, so that no form redirects to another site."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and "\\" not in path and path.isprintable()
    return path if safe and len(path) < 3000 else "/"


def page_of(request: Request, fields: Mapping[str, str]) -> str:
    """Return the path of the page of a form: from the form, otherwise from its own path."""
    if fields.get("next"):
        return local_path(fields["next"])
    return request.url.path.rpartition("/")[0] if request.url.path.startswith("/runs/") else "/"


def instant(moment: datetime | None) -> str:
    """Format a time, for example ``2026-01-02 03:04:05Z``."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def moment(at: datetime | None, style: str = "full") -> Markup:
    """Return a time as an element that the page's script shows in the reader's time zone; empty for None.

    Args:
        at: the time.
        style: ``full``, or ``time`` for the time of day only.
    """
    if at is None:
        return Markup()
    text = f"{at:%H:%M} UTC" if style == "time" else instant(at)
    return Markup('<time datetime="{}" data-style="{}" title="{}">{}</time>').format(
        at.isoformat(), style, instant(at), text
    )


def relative(at: datetime, now: datetime) -> Markup:
    """Return a time relative to now as an element that the page's script keeps current: ``in 5m`` or ``5m ago``."""
    return Markup('<span class="relative" data-relative="{}">{}</span>').format(at.isoformat(), ago(at, now))


def ago(moment: datetime, now: datetime) -> str:
    """Format a time relative to now, for example ``5m ago`` or ``in 3 days``."""
    span = now - moment
    text = format_age(abs(span))
    if abs(span) > timedelta(days=2):
        text = f"{abs(span).days} days"
    return f"{text} ago" if span >= timedelta(0) else f"in {text}"


def words(text: str) -> str:
    """Replace underscores by spaces: ``awaiting_approval`` becomes ``awaiting approval``."""
    return text.replace("_", " ")


def sentence(text: str) -> str:
    """Start a message with a capital letter and end it with a full stop."""
    return f"{capital(text)}{'' if text.endswith(('.', '!', '?')) else '.'}"


_TEMPLATES = ImmutableSandboxedEnvironment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[PrefixedLinks],
)
_TEMPLATES.globals.update(version=__version__, pages=PAGES)
_TEMPLATES.filters.update(
    ago=ago,
    instant=instant,
    length=format_age,
    words=words,
    sentence=sentence,
    moment=moment,
    relative=relative,
    capital=capital,
)
