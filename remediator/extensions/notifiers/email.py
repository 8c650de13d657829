"""``email``: SMTP."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr
from html import escape
from typing import Any, Literal

from pydantic import Field

from remediator.clients.tls import client_context
from remediator.core.clock import SystemClock
from remediator.core.types import FilePath, Strict
from remediator.errors import ConfigurationError, TimedOut, Unreachable
from remediator.extensions.notifiers._http import secret, short
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, PermanentFailure

_PATIENCE = 20.0


class EmailSettings(Strict):
    """A mail server, and who gets the mail."""

    to: tuple[str, ...] = Field(min_length=1, description="Addresses.")
    sender: str = Field(min_length=3, description="Address that it comes from.")
    host: str = "localhost"
    port: int = Field(default=25, ge=1, le=65535)
    tls: Literal["none", "starttls", "tls"] = Field(default="none", description="tls: from the first byte.")
    ca_file: FilePath | None = Field(default=None, description="Who vouches for the server; default: the system's.")
    username: str = ""
    password_file: FilePath | None = None
    personal: bool = Field(
        default=False, description="The one address is a person of the people file: the link is theirs alone."
    )


class EmailNotifier(Notifier):
    """Plain text and HTML. Mail about one run is one thread."""

    kind = "email"
    takes_charts = True
    Settings = EmailSettings
    settings: EmailSettings
    per_minute = 30

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if self.settings.personal and len(self.settings.to) != 1:
            raise ConfigurationError("email: a personal link goes to exactly one address")
        if any("\n" in item or "\r" in item or "@" not in item for item in (*self.settings.to, self.settings.sender)):
            raise ConfigurationError("email: to and sender must be addresses")

    @property
    def person(self) -> str | None:
        return self.settings.to[0] if self.settings.personal else None

    async def send(self, message: Message) -> Delivery:
        return await self._mail(message, None)

    async def follow(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """A mail cannot be changed; the end of a run is worth another one."""
        if message.final:
            await self._mail(message, str(receipt["message_id"]))
        return Delivery(receipt)

    async def _mail(self, message: Message, answers: str | None) -> Delivery:
        mail = _compose(self.settings, message, answers)
        try:
            await asyncio.to_thread(_deliver, self.settings, mail)
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused, smtplib.SMTPAuthenticationError) as error:
            raise _meaning(error) from None
        except smtplib.SMTPResponseException as error:
            raise _meaning(error) from None
        except smtplib.SMTPException as error:
            raise Unreachable(f"email: {type(error).__name__}") from None
        except TimeoutError:
            raise TimedOut(f"email: {self.settings.host} did not answer in time") from None
        except OSError as error:
            raise Unreachable(f"email: {self.settings.host}: {error.strerror or type(error).__name__}") from None
        return Delivery({"message_id": str(mail["Message-ID"])})


def _meaning(error: smtplib.SMTPException) -> Exception:
    """4xx may be otherwise later, 5xx will not."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        text = "every recipient was refused"
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        codes, text = [error.smtp_code], f"the server answered {error.smtp_code}"
    return PermanentFailure(f"email: {text}") if all(code >= 500 for code in codes) else Unreachable(f"email: {text}")


def _deliver(settings: EmailSettings, mail: EmailMessage) -> None:
    context = client_context(settings.ca_file)
    if settings.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=_PATIENCE, context=context)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=_PATIENCE)
    with server:
        if settings.tls == "starttls":
            server.starttls(context=context)
        if settings.password_file is not None:
            server.login(settings.username, secret("email", settings.password_file))
        server.send_message(mail)


def _compose(settings: EmailSettings, message: Message, answers: str | None) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    domain = settings.sender.rpartition("@")[2]
    mail["Subject"] = short(message.title, 200)
    mail["From"] = formataddr(("remediator", settings.sender))
    mail["To"] = ", ".join(settings.to)
    mail["Date"] = format_datetime(SystemClock().now())
    mail["Message-ID"] = f"<{message.id.replace('~', '.')}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    if answers:
        mail["In-Reply-To"] = answers
        mail["References"] = answers
    mail.set_content("\n".join(message.text()) + "\n")
    mail.add_alternative("".join(_html(message)), subtype="html")
    if message.chart:
        part = mail.get_payload()[1]  # type: ignore[index]
        part.add_related(message.chart, "image", "png", cid="<chart>")  # type: ignore[union-attr]
    return mail


def _html(message: Message) -> Iterator[str]:
    yield "<!doctype html><html><body style='font-family:sans-serif;max-width:40em'>"
    yield f"<h2>{escape(message.title)}</h2>"
    for section in message.sections:
        yield f"<h3>{escape(section.heading)}</h3>"
        if section.exact:
            yield f"<pre style='white-space:pre-wrap'>{escape(chr(10).join(section.lines))}</pre>"
        else:
            yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in section.lines) + "</ul>"
    if message.chart:
        yield "<p><img src='cid:chart' alt='the expression of the alert over the last hour'></p>"
    yield from (f"<p><a href='{escape(url)}'><b>{name}</b></a></p>" for name, url in message.links)
    yield "</body></html>"
