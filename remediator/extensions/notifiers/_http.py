"""What notifiers that speak HTTP share: an address from a file, and what a refusal means for the sender."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from pydantic import model_validator

from remediator.clients.endpoints import read_secret
from remediator.clients.webhook import Hook, HookRefused, split
from remediator.core.types import FieldError, FilePath, Strict
from remediator.errors import BadAnswer, ConfigurationError
from remediator.extensions.notifiers.base import PermanentFailure, RetryAfter, Section

_AGAIN = frozenset({408, 425, 500, 502, 503, 504})
_REST = 30.0
CUT = "… there is more: the page shows all of it"
"""What stands at the end of a section that was too long for a channel."""
ALT = "The alert's expression over the last hour"
"""What a chart in a message is, for who cannot see it."""


class Address(Strict):
    """Where to post: ``url``, or ``url_file`` where the address is a secret."""

    url: str = ""
    url_file: FilePath | None = None

    @model_validator(mode="after")
    def _one(self) -> Address:
        if bool(self.url) == (self.url_file is not None):
            raise FieldError("give url, or url_file if the address is a secret")
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
                raise RetryAfter(str(error), _REST if error.retry_after is None else error.retry_after) from None
            if error.status in _AGAIN:
                raise
            raise PermanentFailure(str(error)) from None
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


def utf16(text: str) -> int:
    """How long some services count a text to be: what is outside the basic plane, such as emoji, counts twice."""
    return len(text) + sum(letter > "\uffff" for letter in text)


def fit(
    sections: Sequence[Section], room: int, most: int = 1 << 20, size: Callable[[str], int] = len, each: int = 1
) -> list[Section]:
    """Sections cut to what a channel takes. None is left out: long ones give way to short ones, what will be done
    gives way last, and what was cut says so.

    Args:
        room: for all of them, in what ``size`` counts.
        most: for one of them.
        size: how the channel counts a text.
        each: what a line or a heading costs beside its text.
    """
    wanted = [sum(size(line) + each for line in section.lines) for section in sections]
    left = max(0, room - sum(size(section.heading) + each for section in sections))
    shares = _shares(wanted, left, [3 if section.exact else 1 for section in sections])
    return [
        replace(section, lines=tuple(_cut(section.lines, min(share, most), size, each)))
        for section, share in zip(sections, shares, strict=True)
    ]


def _shares(wanted: Sequence[int], left: int, weights: Sequence[int]) -> list[int]:
    """Whoever wants less than a fair share gets what it wants; the others share what that leaves."""
    shares, hungry = list(wanted), set(range(len(wanted)))
    while hungry:
        unit = left / sum(weights[place] for place in hungry)
        content = {place for place in hungry if wanted[place] <= unit * weights[place]}
        if not content:
            for place in hungry:
                shares[place] = int(unit * weights[place])
            break
        left -= sum(wanted[place] for place in content)
        hungry -= content
    return shares


def _cut(lines: Sequence[str], room: int, size: Callable[[str], int], each: int) -> Iterator[str]:
    if sum(size(line) + each for line in lines) <= room:
        yield from lines
        return
    room -= size(CUT) + each
    for line in lines:
        part = _begin(line, room - each, size)
        if part:
            yield part
        room -= size(part) + each
        if part != line:
            break
    yield CUT


def _begin(line: str, room: int, size: Callable[[str], int]) -> str:
    """As much of the beginning as there is room for."""
    if size(line) <= room:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(line[:middle] + "…") <= room else (low, middle - 1)
    return line[:low] + "…" if low else ""


def short(text: str, limit: int) -> str:
    """At most so many characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
