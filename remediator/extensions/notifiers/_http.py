"""Helpers for notifiers that use HTTP: addresses from files, error classes, and fitting sections to a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, HookRefused, split
from remediator.core import untrusted_json
from remediator.core.sizes import MEBIBYTE
from remediator.core.types import FilePath
from remediator.core.urls import UrlOrFile
from remediator.errors import BadAnswer, ConfigurationError
from remediator.extensions.notifiers.base import Notifier, PermanentFailure, RetryAfter, Section

_RETRY_STATUSES = frozenset({408, 425, 500, 502, 503, 504})
_DEFAULT_RETRY_AFTER = 30.0
TRUNCATED = "… shortened; see the page for the full text"
"""The last line of a section that was too long for a channel."""
BUTTON_NAMES = {
    "approve": "Approve",
    "reject": "Reject",
    "snooze": "Not now",
    "pause": "Stop all actions",
    "acknowledge": "I take it",
    "silence": "Silence 1 h",
    "undo": "Undo",
}
"""The texts of the buttons of a chat, by verb."""
CHART_ALT_TEXT = "The alert's expression over the last hour"


class Poster:
    """Sends JSON to one URL.

    Args:
        name: name of the channel in errors.
        address: full URL.
    """

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        base, self.path = split(address, name)
        self._hook = Hook(name, base)

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
        """Send a body and return the answer, or an empty mapping if the answer is not a JSON object.

        Raises:
            RetryAfter: the server limits the rate.
            PermanentFailure: a retry cannot succeed.
            ClientError: any other failure; a retry may succeed.
        """
        try:
            answer = await self._hook.call(method, path or self.path, body, headers, **more)
        except HookRefused as error:
            if error.status == 429 or (error.status == 503 and error.retry_after is not None):
                wait = _DEFAULT_RETRY_AFTER if error.retry_after is None else error.retry_after
                raise RetryAfter(str(error), wait) from None
            if error.status in _RETRY_STATUSES:
                raise
            raise PermanentFailure(str(error)) from None
        try:
            found = untrusted_json.decode(answer.body) if answer.body.lstrip()[:1] == b"{" else {}
        except msgspec.DecodeError:
            raise BadAnswer(f"{self._name}: the answer is not valid JSON") from None
        return found if isinstance(found, dict) else {}


class HttpNotifier(Notifier):
    """A notifier that posts to one address: the URL of its settings if these are a :class:`UrlOrFile`, otherwise
    ``api``.

    Raises:
        ConfigurationError: the settings are not valid, or the file with the URL cannot be read or has no URL.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self._poster = Poster(self.kind, self.url)

    async def aclose(self) -> None:
        await self._poster.aclose()

    @property
    def url(self) -> str:
        """The URL to post to."""
        given = self.settings
        if not isinstance(given, UrlOrFile):
            return str(given.api)
        return given.url if given.url_file is None else read_secret_file(self.kind, given.url_file)


def read_secret_file(name: str, path: FilePath) -> str:
    """Return the content of a secret file.

    Raises:
        ConfigurationError: the file cannot be read or is empty.
    """
    try:
        return read_secret(path)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{name}: cannot read {str(path)!r}: {error}") from None


def utf16_length(text: str) -> int:
    """Return the length in UTF-16 code units, as some services count it: an emoji counts as two."""
    return len(text) + sum(letter > "\uffff" for letter in text)


def fit(
    sections: Sequence[Section],
    limit: int,
    section_limit: int = MEBIBYTE,
    length: Callable[[str], int] = len,
    overhead: int = 1,
) -> list[Section]:
    """Shorten sections to the limit of a channel.

    No section is dropped. Long sections are shortened first, and exact sections (the planned calls) get three times the
    share of other sections. A shortened section ends with :data:`TRUNCATED`.

    Args:
        limit: limit for all sections together, as counted by ``length``.
        section_limit: limit for the lines of one section.
        length: how the channel counts text.
        overhead: characters of a line or a heading in addition to its text.
    """
    wanted = [sum(length(line) + overhead for line in section.lines) for section in sections]
    left = max(0, limit - sum(length(section.heading) + overhead for section in sections))
    shares = _shares(wanted, left, [3 if section.exact else 1 for section in sections])
    return [
        replace(section, lines=tuple(_cut(section.lines, min(share, section_limit), length, overhead)))
        for section, share in zip(sections, shares, strict=True)
    ]


def _shares(wanted: Sequence[int], left: int, weights: Sequence[int]) -> list[int]:
    """Divide ``left`` by weight. A section that needs less than its share leaves the rest to other sections."""
    shares, open_places = list(wanted), set(range(len(wanted)))
    while open_places:
        unit = left / sum(weights[place] for place in open_places)
        satisfied = {place for place in open_places if wanted[place] <= unit * weights[place]}
        if not satisfied:
            for place in open_places:
                shares[place] = int(unit * weights[place])
            break
        left -= sum(wanted[place] for place in satisfied)
        open_places -= satisfied
    return shares


def _cut(lines: Sequence[str], limit: int, length: Callable[[str], int], overhead: int) -> Iterator[str]:
    if sum(length(line) + overhead for line in lines) <= limit:
        yield from lines
        return
    limit -= length(TRUNCATED) + overhead
    for line in lines:
        part = _prefix(line, limit - overhead, length)
        if part:
            yield part
        limit -= length(part) + overhead
        if part != line:
            break
    yield TRUNCATED


def _prefix(line: str, limit: int, length: Callable[[str], int]) -> str:
    """Return the longest beginning of a line that fits, with an ellipsis."""
    if length(line) <= limit:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(line[:middle] + "…") <= limit else (low, middle - 1)
    return line[:low] + "…" if low else ""
