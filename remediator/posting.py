"""What notifiers that speak HTTP share: an address from a file, and what a refusal means for the sender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import model_validator

from remediator.clients.endpoint import read_secret
from remediator.clients.hook import Hook, HookRefused, split
from remediator.errors import BadAnswer, ConfigurationError
from remediator.fields import FilePath, Mistake, Strict
from remediator.notifiers import Later, Undeliverable

_AGAIN = frozenset({408, 425, 500, 502, 503, 504})
_REST = 30.0
ALT = "The alert's expression over the last hour"
"""What a chart in a message is, for who cannot see it."""


class Address(Strict):
    """Where to post: ``url``, or ``url_file`` where the address is a secret."""

    url: str = ""
    url_file: FilePath | None = None

    @model_validator(mode="after")
    def _one(self) -> Address:
        if bool(self.url) == (self.url_file is not None):
            raise Mistake("give url, or url_file if the address is a secret")
        return self


class Poster:
    """Posts JSON to one address.

    Args:
        name: what errors call the channel.
        address: the whole address.
    """

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        base, self.path = split(address, name)
        self._hook = Hook(name, base)

    @classmethod
    def of(cls, name: str, settings: Address) -> Poster:
        """For an address in the settings, or in the file that they name.

        Raises:
            ConfigurationError: the file cannot be read, or holds no address.
        """
        return cls(name, settings.url if settings.url_file is None else secret(name, settings.url_file))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._hook.aclose()

    async def post(
        self,
        body: Any,
        path: str | None = None,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        **more: Any,
    ) -> Mapping[str, Any]:
        """Send it; the answer, if it is a JSON object.

        Raises:
            Later: it has to wait.
            Undeliverable: no retry could help.
            ClientError: anything that a retry may mend.
        """
        try:
            answer = await self._hook.call(method, path or self.path, body, headers, **more)
        except HookRefused as error:
            if error.status == 429 or (error.status == 503 and error.retry_after is not None):
                raise Later(str(error), _REST if error.retry_after is None else error.retry_after) from None
            if error.status in _AGAIN:
                raise
            raise Undeliverable(str(error)) from None
        try:
            found = msgspec.json.decode(answer.body) if answer.body.lstrip()[:1] == b"{" else {}
        except msgspec.DecodeError:
            raise BadAnswer(f"{self._name} answered something unexpected") from None
        return found if isinstance(found, dict) else {}


def secret(name: str, path: FilePath) -> str:
    """The content of a secret's file.

    Raises:
        ConfigurationError: it cannot be read, or is empty.
    """
    try:
        return read_secret(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}: {path} cannot be read: {error}") from None


def short(text: str, limit: int) -> str:
    """At most so many characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
