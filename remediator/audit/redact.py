"""Keeping secrets out of entries, before they are hashed.

Two nets. The first is the type: a :class:`Secret` (or pydantic's) anywhere in an entry's data never becomes text.
The second is for text that others wrote (a log line, an error, an URL): known secret values and well-known shapes of
credentials are cut out of every string.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

import re2

TEXT_LIMIT = 4096
"""Longest string in an entry, in characters; the rest is replaced by its length and digest."""
SHORTEST_KNOWN = 4
"""Known secrets shorter than this are not searched for: they would cut holes into ordinary words."""

REDACTED = "[redacted]"


class Secret:
    """A value that does not print, compare by accident, or get recorded; ``reveal`` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]


# The name of a field, a header or a setting whose value is a credential.
_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key|signing[_-]?key"
    r"|credentials?|requirepass|masterauth|masteruser|authorization|cookie|routing[_-]?key)"
)
_SHAPES = (
    # PEM first: it spans lines, and its inside would match nothing else
    (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", REDACTED),
    # user:password in an URL, up to the last @ before a space
    (r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s:@/]*):[^\s]+@", rf"\1\2:{REDACTED}@"),
    (r"(?i)\b(bearer|basic|digest|negotiate|splunk|apikey)\s+[A-Za-z0-9._~+/=-]{6,}", rf"\1 {REDACTED}"),
    (rf"(?i)\b([\w.-]*{_NAME})([\"']?\s*[:=]\s*)(\"[^\"]*\"?|'[^']*'?|[^\s,;&\"'\[][^\s,;&\"']*)", rf"\1\2{REDACTED}"),
    (r"(?i)\b(requirepass|masterauth)\s+[^\s\[]\S*", rf"\1 {REDACTED}"),
    (r"(?i)(--?[\w-]*(?:password|passwd|secret|token|key)[ =])[^\s\[]\S*", rf"\1{REDACTED}"),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", REDACTED),
    (r"\bxox[a-z]-[A-Za-z0-9-]{8,}|\bxapp-[A-Za-z0-9-]{8,}", REDACTED),
    (r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+", rf"\1{REDACTED}"),
    (r"\b(?:gh[a-z]_|github_pat_|glpat-|hvs\.|dop_v1_|sk-|sk_live_)[A-Za-z0-9_-]{16,}", REDACTED),
    (r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?", REDACTED),
)
# Cheap and too broad on purpose: no string that a shape changes is without one of these.
_HINTS = (
    r"(?i)://[^\s:@/]*:[^\s]+@|bearer\s|basic\s|digest\s|negotiate\s|splunk\s|apikey|private key|akia|asia|xox[a-z]-"
    rf"|xapp-|hooks\.slack|gh[a-z]_|github_pat_|glpat-|hvs\.|dop_v1_|sk-|sk_live_|eyj|{_NAME}|-key"
)


class Redactor:
    """The second net, and the marks that both leave.

    Args:
        known: secret values from the settings; each is cut out wherever it shows up.
        key: when given, a mark carries 32 bits of a keyed digest, so that a reader can tell whether two places held
            the same secret. Never a bare digest: a short password would be found from that by trying.
    """

    def __init__(self, known: Iterable[str] = (), key: bytes | None = None) -> None:
        self._key = key
        values = sorted({value for value in known if len(value) >= SHORTEST_KNOWN}, key=len, reverse=True)
        self._known = re2.compile("|".join(re2.escape(value) for value in values)) if values else None
        self._hints = re2.compile(_HINTS)
        self._shapes = [(re2.compile(pattern), replacement) for pattern, replacement in _SHAPES]
        self._names = re2.compile(rf"(?i)(?:^|[._-]|[a-z]){_NAME}$|^{_NAME}$")

    def text(self, text: str) -> str:
        """The string without secrets, without lone surrogates, and not longer than the limit."""
        clean = self._scrub(text)
        return clean if len(clean) <= TEXT_LIMIT else _cut(clean)

    def named(self, name: str, value: Any) -> Any:
        """The value of a field of this name: a string under a name like ``password`` is a secret."""
        if type(value) is str and not value.startswith(REDACTED[:-1]) and self._names.search(name):
            return self.mark(value)
        return value

    def mark(self, secret: str | bytes) -> str:
        """What stands in the place of a secret."""
        if self._key is None:
            return REDACTED
        raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        return f"[redacted {hmac.new(self._key, raw, hashlib.sha256).hexdigest()[:8]}]"

    def digest(self, content: bytes) -> str:
        """What stands in the place of bytes: how many, and their SHA-256."""
        return f"[{len(content)} bytes, sha256:{hashlib.sha256(content).hexdigest()}]"

    def _scrub(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        if self._known is not None:
            text = self._known.sub(lambda match: self.mark(match.group()), text)
        if self._hints.search(text):
            for shape, replacement in self._shapes:
                text = shape.sub(replacement, text)
        return text


def _cut(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:TEXT_LIMIT]}… [cut: {len(text)} characters, sha256:{digest}]"


SHAPES_ONLY = Redactor()
"""Knows no values; cuts out what looks like a credential."""
