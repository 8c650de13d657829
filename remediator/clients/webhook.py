"""Send requests to webhooks. A webhook's URL is often a secret, so no error message contains it."""

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
    """The server answered with a status other than 2xx.

    Attributes:
        status: the HTTP status.
        retry_after: seconds of the ``Retry-After`` header, if there is one.
    """

    def __init__(self, message: str, status: int, retry_after: float | None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Hook:
    """A client of one server.

    Args:
        name: name of the server in error messages.
        base: scheme, host and port, without a path.
        seconds: timeout of one whole call.
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
        """Send JSON and return the answer. ``more`` are further arguments of `HttpClient.call`.

        Raises:
            HookRefused: the status is not 2xx.
            Unreachable: nothing was sent.
            TimedOut: the request was sent and not answered.
            BadAnswer: the answer is not HTTP, or too long.
        """
        try:
            return await self._client.call(method, path, json=body, headers=headers, **more)
        except HttpRefused as error:
            message = f"{self._name} answered {error.status}: {error.text[:200] or 'empty body'}"
            raise HookRefused(message, error.status, error.retry_after) from None
        except Unreachable:
            raise Unreachable(f"{self._name} is unreachable") from None
        except TimedOut:
            raise TimedOut(f"{self._name} did not answer in time") from None
        except ClientError:
            raise BadAnswer(f"the answer of {self._name} is not HTTP") from None


def split(url: str, name: str) -> tuple[str, str]:
    """Split a URL into its base and the rest (path and query).

    Raises:
        ConfigurationError: it is not a valid URL. The message does not contain it, since it may be a secret.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ConfigurationError(f"{name}: the URL must be http://host/… or https://host/…")
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", path + (f"?{parts.query}" if parts.query else "")
