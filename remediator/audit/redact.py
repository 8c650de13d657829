"""Keeping secrets out of entries, before they are hashed.

Two nets. The first is the type: a :class:`Secret` (or pydantic's) anywhere in an entry's data never becomes text.
The second is for text that others wrote (a log line, an error, an URL): known secret values and well-known shapes of
credentials are cut out of every string. Where a shape is in doubt, too much is cut rather than too little.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

import re2

TEXT_LIMIT = 4096
"""Longest string in an entry, in characters; the rest is replaced by its length and digest."""
SHORTEST_KNOWN = 4
"""Known secrets shorter than this are not searched for: they would cut holes into ordinary words."""

REDACTED = "[redacted]"


class Secret:
    """A value that does not print and is not recorded; ``reveal`` is the only way to it."""

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


# What the name of a field, a header or a setting contains when its value is a credential.
_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key"
    r"|routing[_-]?key|credentials?|requirepass|masterauth|authorization|cookie)"
)
_SCHEMES = r"(?:bearer|basic|digest|negotiate|splunk|apikey|genie-?key)"
_PREFIXES = r"gh[a-z]_|github_pat_|glpat-|hvs\.|dop_v1_|sk-|sk_live_|rk_live_|rmo_"
_SHAPES = (
    # PEM first: it spans lines, and nothing else would know its inside
    (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", REDACTED),
    # user:password in an URL, up to the last @ before a space, since people do not quote their passwords
    (r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s:@/]*):\S+@", rf"\1\2:{REDACTED}@"),
    # headers whose value is everything to the end of the line
    (
        r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:key|token|secret))(\s*:\s*)[^\r\n]+",
        rf"\1\2{REDACTED}",
    ),
    (r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{6,}", rf"Bearer {REDACTED}"),
    (rf"\b((?i:{_SCHEMES}))\s+[a-z-]*[0-9A-Z_+/=.][A-Za-z0-9._~+/=-]{{5,}}", rf"\1 {REDACTED}"),
    (
        rf"(?i)\b([\w.-]*{_NAME}[\w-]*)([\"']?\s*[:=]\s*)(?:\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,;&\"'\[]\S*)",
        rf"\1\2{REDACTED}",
    ),
    (r"(?i)\b(requirepass|masterauth|auth)\s+[^\s\[]\S*", rf"\1 {REDACTED}"),
    (r"(?i)(^|[^\w-])(--?[\w-]*(?:password|passwd|secret|token|[_-]key)\s)\s*[^\s\[]\S*", rf"\1\2{REDACTED}"),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", REDACTED),
    (r"\b(?:xox[a-z]|xapp)-[A-Za-z0-9-]{8,}", REDACTED),
    (r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+", rf"\1{REDACTED}"),
    (rf"\b(?:{_PREFIXES})[A-Za-z0-9_-]{{16,}}", REDACTED),
    (r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?", REDACTED),
)
# Cheap, and too broad on purpose: no text that a shape changes is without one of these, neither as it is nor as a
# JSON string, where white space may be spelled \n.
_HINTS = (
    rf"(?i)://[^\s:@/]*:\S+@|{_SCHEMES}(?:\s|\\)|private key|akia|asia[0-9a-z]{{16}}|xox[a-z]-|xapp-|hooks\.slack"
    rf"|{_PREFIXES}|eyj|{_NAME}|auth(?:\s|\\)|[_-]key(?:\s|\\)|x-[a-z-]*key"
)


class Redactor:
    """The second net, and the marks that both leave.

    Args:
        known: secret values from the settings; each is cut out wherever it shows up, also when quoted for an URL or
            JSON, or in base64.
        key: when given, a mark carries 32 bits of a keyed digest, so that a reader can tell whether two places held
            the same secret. Never a bare digest: a short password would be found from that by trying.
    """

    def __init__(self, known: Iterable[str] = (), key: bytes | None = None) -> None:
        self._key = key
        spellings = {form: value for value in known if len(value) >= SHORTEST_KNOWN for form in _spellings(value)}
        self._known = spellings
        longest_first = sorted(spellings, key=len, reverse=True)
        self._values = re2.compile("|".join(map(re2.escape, longest_first))) if spellings else None
        self._hints = re2.compile(_HINTS)
        self._shapes = [(re2.compile(pattern), replacement) for pattern, replacement in _SHAPES]
        self._names = re2.compile(rf"(?i){_NAME}$")
        self._options = re2.compile(rf"(?i)^--?[\w-]*{_NAME}$")
        self._net = _net([_HINTS, *(re2.escape(_inside_json(form)) for form in longest_first)])

    def suspects(self, encoded: bytes) -> bool:
        """Whether the JSON text could hold anything that :meth:`text` or :meth:`named` would change."""
        return bool(self._net.Match(encoded))

    def text(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """The string without secrets, without lone surrogates, and cut to so many characters (and a remark)."""
        clean = self._scrub(text)
        return clean if len(clean) <= limit else _cut(clean, limit)

    def named(self, name: str, value: Any) -> Any:
        """The value of a field of this name: a string under a name like ``password`` is a secret."""
        if type(value) is str and not value.startswith(REDACTED[:-1]) and self._names.search(name):
            return self.mark(value)
        return value

    def following(self, before: Any, value: Any) -> Any:
        """The item of a list after ``before``: a word after an option like ``--password`` is a secret."""
        if type(value) is str and type(before) is str and self._options.search(before):
            return self.mark(value)
        return value

    def mark(self, secret: str | bytes) -> str:
        """What stands in the place of a secret."""
        if self._key is None:
            return REDACTED
        raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        return f"[redacted {hmac.new(self._key, raw, hashlib.sha256).hexdigest()[:8]}]"

    def _scrub(self, text: str) -> str:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode("utf-8")
        if self._values is not None:
            text = self._values.sub(lambda match: self.mark(self._known[match.group()]), text)
        if self._hints.search(text):
            for shape, replacement in self._shapes:
                text = shape.sub(replacement, text)
        return text


def _net(patterns: list[str]) -> Any:
    net = re2.Set.SearchSet()
    for pattern in patterns:
        net.Add(pattern)
    net.Compile()
    return net


def _inside_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _spellings(value: str) -> set[str]:
    """The value, and how it looks inside JSON (and JSON inside JSON), a traceback or an URL, and in base64."""
    raw = value.encode("utf-8", "replace")
    text = raw.decode()
    escaped = {_inside_json(text), json.dumps(text)[1:-1], repr(text)[1:-1], ascii(text)[1:-1]}
    twice = {_inside_json(form) for form in escaped}
    quoted = {quote(raw), quote(raw, safe=""), quote_plus(raw)}
    return {text, base64.b64encode(raw).decode().rstrip("=")} | escaped | twice | quoted


def _cut(text: str, limit: int) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:limit]}… [cut: {len(text)} characters, sha256:{digest}]"


SHAPES_ONLY = Redactor()
"""Knows no values; cuts out what looks like a credential."""


def scrub_texts(value: Any, redactor: Redactor) -> Any:
    """A JSON value with its texts cleaned, uncut, and whatever its fields are called: what others sent, to be worked
    with. A label named ``secret`` is mostly a name; one that looks like a token is one."""
    if isinstance(value, str):
        return redactor.text(value, limit=len(value) + _NO_CUT)
    if isinstance(value, Mapping):
        return {key: scrub_texts(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_texts(item, redactor) for item in value]
    return value


_NO_CUT = 1 << 20


def scrub(value: Any, redactor: Redactor) -> Any:
    """A JSON value without secrets, numbers and shapes as they were: for what is stored to be shown, not chained."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, Mapping):
        return {redactor.text(str(key)): redactor.named(str(key), scrub(item, redactor)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item, redactor) for item in value]
    return value
