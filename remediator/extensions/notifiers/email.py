"""``email``: SMTP. A result is a reply in the thread of its request."""

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
from remediator.core.listen import is_loopback
from remediator.core.text import shorten
from remediator.core.types import FilePath, SecretFile, Strict
from remediator.errors import ConfigurationError, TimedOut, Unreachable
from remediator.extensions.notifiers._http import CHART_ALT_TEXT, read_secret_file
from remediator.extensions.notifiers.base import Delivery, Message, Notifier, PermanentFailure

_TIMEOUT = 20.0


class EmailSettings(Strict):
    """The mail server and the recipients."""

    to: tuple[str, ...] = Field(min_length=1, description="Recipient addresses.")
    sender: str = Field(min_length=3, description="Sender address.")
    host: str = Field(default="localhost", description="Mail server.")
    port: int = Field(default=25, ge=1, le=65535, description="Port of the mail server.")
    tls: Literal["none", "starttls", "tls"] = Field(
        default="none", description="none, starttls, or tls (TLS from the start)."
    )
    ca_file: FilePath | None = Field(
        default=None, description="File with the CA certificates. Default: the certificates of the system."
    )
    username: str = Field(default="", description="User name for the login.")
    password_file: SecretFile | None = Field(default=None, description="File with the password. Without it: no login.")
    personal: bool = Field(
        default=False,
        description="The only recipient is a person in the people file, and the link is valid for this person only.",
    )


class EmailNotifier(Notifier):
    """Sends plain text with an HTML alternative."""

    kind = "email"
    embeds_charts = True
    Settings = EmailSettings
    settings: EmailSettings
    per_minute = 30

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        if (
            self.settings.password_file is not None
            and self.settings.tls == "none"
            and not is_loopback(self.settings.host)
        ):
            raise ConfigurationError(
                f"email: the password would go to {self.settings.host} in clear; set tls: starttls or tls: tls"
            )
        if self.settings.personal and len(self.settings.to) != 1:
            raise ConfigurationError("email: personal requires exactly one address in to")
        if any("\n" in item or "\r" in item or "@" not in item for item in (*self.settings.to, self.settings.sender)):
            raise ConfigurationError("email: to and sender must be addresses, for example sre@example.com")

    @property
    def person(self) -> str | None:
        return self.settings.to[0] if self.settings.personal else None

    async def send(self, message: Message) -> Delivery:
        return await self._mail(message, str(message.thread.get("message_id") or "") or None)

    async def update(self, message: Message, receipt: Mapping[str, Any]) -> Delivery:
        """Send a short reply with news that people must notice: a mail cannot be changed."""
        if message.announce:
            await self._mail(message.brief(), str(receipt["message_id"]))
        return Delivery(receipt)

    async def _mail(self, message: Message, reply_to: str | None) -> Delivery:
        mail = EmailMessage(policy=SMTP)
        domain = self.settings.sender.rpartition("@")[2]
        mail["Subject"] = shorten(message.title, 200)
        mail["From"] = formataddr(("remediator", self.settings.sender))
        mail["To"] = ", ".join(self.settings.to)
        mail["Date"] = format_datetime(SystemClock().now())
        mail["Message-ID"] = f"<{message.id.replace('~', '.')}@{domain}>"
        mail["Auto-Submitted"] = "auto-generated"
        if reply_to:
            mail["In-Reply-To"] = reply_to
            mail["References"] = reply_to
        mail.set_content("\n".join(message.text()) + "\n")
        mail.add_alternative("".join(_html(message)), subtype="html")
        if message.chart:
            part = mail.get_payload()[1]  # type: ignore[index]
            part.add_related(message.chart, "image", "png", cid="<chart>")  # type: ignore[union-attr]
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
    """Convert an SMTP error: 4xx is temporary, 5xx is permanent."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        codes = [code for code, _ in error.recipients.values()]
        text = "the server refused all recipients"
    else:
        assert isinstance(error, smtplib.SMTPResponseException)
        codes, text = [error.smtp_code], f"the server answered {error.smtp_code}"
    return PermanentFailure(f"email: {text}") if all(code >= 500 for code in codes) else Unreachable(f"email: {text}")


def _deliver(settings: EmailSettings, mail: EmailMessage) -> None:
    context = client_context(settings.ca_file)
    if settings.tls == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(settings.host, settings.port, timeout=_TIMEOUT, context=context)
    else:
        server = smtplib.SMTP(settings.host, settings.port, timeout=_TIMEOUT)
    with server:
        if settings.tls == "starttls":
            server.starttls(context=context)
        if settings.password_file is not None:
            server.login(settings.username, read_secret_file("email", settings.password_file))
        server.send_message(mail)


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
        yield f"<p><img src='cid:chart' alt='{escape(CHART_ALT_TEXT)}'></p>"
    yield from (f"<p><a href='{escape(url)}'><b>{name}</b></a></p>" for name, url in message.links)
    yield "</body></html>"
