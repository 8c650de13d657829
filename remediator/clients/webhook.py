"""Posting to services that are told things: their addresses are often secrets, so no error ever names one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from remediator.clients.endpoints import Endpoint
from remediator.clients.http import Answer, HttpClient, HttpRefused
from remediator.errors import BadAnswer, ClientError, ConfigurationError, TimedOut, Unreachable

_LONGEST = 256 * 1024


class HookRefused(ClientError):
    """A status that means no.

    Attributes:
        status: the HTTP status.
        retry_after: seconds after which it wants to be asked again, if it said so.
    """

    def __init__(self, message: str, status: int, retry_after: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Hook:
    """One server to post to.

    Args:
        name: what errors call it.
        base: scheme, host and port, without a path.
        seconds: for one whole call.
    """

    def __init__(self, name: str, base: str, seconds: float = 10.0) -> None:
        self._name = name
        self._client = HttpClient(Endpoint(url=base, timeout=timedelta(seconds=seconds)), max_bytes=_LONGEST)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """Send JSON and wait for the answer; ``more`` are further arguments of the HTTP client.

        Raises:
            HookRefused: any status that is not 2xx.
            Unreachable: nothing was sent.
            TimedOut: sent and not answered.
            BadAnswer: not HTTP, or too long.
        """
        try:
            return await self._client.call(method, path, json=body, headers=headers, **more)
        except HttpRefused as error:
            said = error.text[:200] or "no text"
            raise HookRefused(
                f"{self._name} answered {error.status}: {said}", error.status, error.retry_after
            ) from None
        except Unreachable:
            raise Unreachable(f"{self._name} cannot be reached") from None
        except TimedOut:
            raise TimedOut(f"{self._name} did not answer in time") from None
        except ClientError:
            raise BadAnswer(f"{self._name} did not answer in HTTP") from None


def split(url: str, name: str) -> tuple[str, str]:
    """An address as its base and the rest (path and query).

    Raises:
        ConfigurationError: it is none; it is not repeated, since it may be a secret.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigurationError(f"{name}: the address must be http://host/… or https://host/…")
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", path + (f"?{parts.query}" if parts.query else "")
