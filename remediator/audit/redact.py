"""Removes secrets from entries before they are hashed.

There are two mechanisms. The first is the type: a :class:`Secret` (or pydantic's) in the data of an entry never becomes
text. The second is for text from outside (a log line, an error, a URL). Known secret values and known patterns of
credentials are removed from every string. In doubt, a pattern removes too much rather than too little.
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
"""Maximum length of a string in an entry, in characters. The rest is replaced by its length and digest."""
MIN_SECRET_LENGTH = 4
"""Shorter known secrets are not searched for: they would match parts of ordinary words."""

REDACTED = "[redacted]"


class Secret:
    """A value that is never printed or recorded. Only ``reveal`` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]


# The name of a field, header or setting contains one of these when its value is a credential.
_NAME = (
    r"(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key"
    r"|routing[_-]?key|credentials?|requirepass|masterauth|authorization|cookie)"
)
_SCHEMES = r"(?:bearer|basic|digest|negotiate|splunk|apikey|genie-?key)"
_PREFIXES = (
    r"gh[a-z]_|github_pat_|glpat-|hvs\.|dop_v1_|sk-|sk_live_|rk_live_|rmo_|npm_|pypi-|dckr_(?:pat|oat)_|GOCSPX-"
    r"|AIza|ya29\.|SG\.|shpat_|lin_api_|whsec_|hf_|gl(?:sa|c|rt|dt|ptt|ft|cbt|soat|imt|agent)[_-]|ATATT3|rubygems_"
    r"|tskey-|sntry[su]_|AGE-SECRET-KEY-"
)
_USER = r"-[uU]\s*|-[A-Za-z]{1,8}[uU]\s+|--(?:proxy-)?user[ =]"
"""Options of curl and similar programs whose value is a user with a password."""
_NAMED = (
    (
        rf"(?i)\b([\w.-]*{_NAME}[\w-]*)([\"']?\s*[:=]\s*)(?:\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s,;&\"'\[]\S*)",
        rf"\1\2{REDACTED}",
    ),
    (r"(?i)\b(requirepass|masterauth|auth)\s+[^\s\[]\S*", rf"\1 {REDACTED}"),
    (r"(?i)(^|[^\w-])(--?[\w-]*(?:password|passwd|secret|token|[_-]key)\s)\s*[^\s\[]\S*", rf"\1\2{REDACTED}"),
)
"""Text that is a secret because of the name before it."""
_SHAPES = (
    # PEM first: it spans several lines, and no other pattern matches its content
    (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", REDACTED),
    # user:password in a URL, up to the last @ before a space, because passwords are often not percent-encoded
    (r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s:@/]*):\S+@", rf"\1\2:{REDACTED}@"),
    # headers: the value extends to the end of the line
    (
        r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]*(?:key|token|secret))(\s*:\s*)[^\r\n]+",
        rf"\1\2{REDACTED}",
    ),
    (r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{6,}", rf"Bearer {REDACTED}"),
    (rf"\b((?i:{_SCHEMES}))\s+[a-z-]*[0-9A-Z_+/=.][A-Za-z0-9._~+/=-]{{5,}}", rf"\1 {REDACTED}"),
    *_NAMED,
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", REDACTED),
    (r"\b(?:xox[a-z]|xapp)-[A-Za-z0-9-]{8,}", REDACTED),
    (r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+", rf"\1{REDACTED}"),
    (r"((?i:discord(?:app)?\.com)/api/(?:v\d+/)?webhooks/\d+/)[A-Za-z0-9_-]+", rf"\1{REDACTED}"),
    (r"((?i:webhook\.office\.com)/\S*?/IncomingWebhook/)\S+", rf"\1{REDACTED}"),
    (r"([?&](?:sig|signature|code)=)[A-Za-z0-9%_~.-]{16,}", rf"\1{REDACTED}"),
    (r"(\b|/bot)\d{8,12}:[A-Za-z0-9_-]{33,}", rf"\1{REDACTED}"),  # token of a Telegram bot, also in its URL
    (r"(/hooks/)[a-z0-9]{26}\b", rf"\1{REDACTED}"),  # token of Mattermost
    (r"\b1//0[A-Za-z0-9_-]{30,}", REDACTED),  # refresh token of Google
    (r"\bSK[0-9a-f]{32}\b", REDACTED),  # API key of Twilio
    # the files of Docker and npm: user and password in base64
    (r"(?i)(\b_auth\s*[:=]\s*|[\"']_?auth\\?[\"']\s*:\s*\\?[\"'])[A-Za-z0-9+/=]{8,}", rf"\1{REDACTED}"),
    (r"\b[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}", REDACTED),  # token of a Discord bot
    # curl -u user:password, in quotes, and as items of a list
    (rf"(^|\s)({_USER})\"([^\s:\"]+):[^\"\[][^\"]*", rf"\1\2\"\3:{REDACTED}"),
    (rf"(^|\s)({_USER})'([^\s:']+):[^'\[][^']*", rf"\1\2'\3:{REDACTED}"),
    (rf"(^|\s)({_USER})([^\s:\"']+):[^\s\[]\S*", rf"\1\2\3:{REDACTED}"),
    (
        r"([\"'](?:-[A-Za-z]{0,8}[uU]|--(?:proxy-)?user)[\"']\s*,\s*)([\"'])([^\s:\"']+):[^\"'\[][^\"']*",
        rf"\1\2\3:{REDACTED}",
    ),
    (rf"\b(?:{_PREFIXES})[A-Za-z0-9_.-]{{16,}}", REDACTED),
    (r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?", REDACTED),
)
# A cheap filter, broad on purpose: every text that a pattern changes contains one of these. This holds for plain text
# and for JSON strings, where white space may be written as \n.
_HINTS = (
    rf"(?i)://[^\s:@/]*:\S+@|{_SCHEMES}(?:\s|\\)|private key|akia|asia[0-9a-z]{{16}}|xox[a-z]-|xapp-|hooks\.slack"
    r"|api/(?:v\d+/)?webhooks/|webhook\.office|[?&](?:sig|signature|code)=|\d{8}:[a-z0-9_-]{33}"
    r"|[mno][a-z0-9_-]{22,27}\.[a-z0-9_-]{6}\.|(?:-[a-z]{0,8}u|-user)[\s\\\"',=]*[^\s:]+:|/hooks/|1//0|sk[0-9a-f]{32}"
    rf"|{_PREFIXES}|eyj|{_NAME}|auth[\s\\\"':=]|[_-]key(?:\s|\\)|x-[a-z-]*key"
)


class Redactor:
    """Removes secrets from text, and creates the placeholders for both mechanisms.

    Args:
        known: secret values from the settings. Each is removed wherever it occurs, also when quoted for a URL or JSON,
            or encoded in base64.
        names: redact every text that follows a name like ``password``.
        key: if given, a placeholder contains 32 bits of a keyed digest. It shows a reader whether two places held the
            same secret. Never a plain digest: a short password could be found from it by trying.
    """

    def __init__(self, known: Iterable[str] = (), key: bytes | None = None, *, names: bool = True) -> None:
        self._key = key
        spellings = {form: value for value in known if len(value) >= MIN_SECRET_LENGTH for form in _spellings(value)}
        self._known = spellings
        longest_first = sorted(spellings, key=len, reverse=True)
        self._values = re2.compile("|".join(map(re2.escape, longest_first))) if spellings else None
        self._hints = re2.compile(_HINTS)
        self._shapes = [(re2.compile(shape), by) for shape, by in _SHAPES if names or (shape, by) not in _NAMED]
        self._names = re2.compile(rf"(?i){_NAME}$")
        self._options = re2.compile(rf"(?i)^--?[\w-]*{_NAME}$")
        self._net = re2.Set.SearchSet()
        for pattern in (_HINTS, *(re2.escape(_inside_json(form)) for form in longest_first)):
            self._net.Add(pattern)
        self._net.Compile()

    def may_contain_secret(self, encoded: bytes) -> bool:
        """Return whether :meth:`text` or :meth:`redact_field` could change the JSON text."""
        return bool(self._net.Match(encoded))

    def text(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """Return the string without secrets and lone surrogates, cut to ``limit`` characters plus a note."""
        clean = str(text)  # a member of an enum becomes a plain string: RE2 rejects str subclasses
        if not clean.isascii():
            clean = clean.encode("utf-8", "replace").decode("utf-8")
        if self._values is not None:
            clean = self._values.sub(lambda match: self.placeholder(self._known[match.group()]), clean)
        if self._hints.search(clean):
            for shape, replacement in self._shapes:
                clean = shape.sub(replacement, clean)
        if len(clean) <= limit:
            return clean
        digest = hashlib.sha256(clean.encode()).hexdigest()[:16]
        return f"{clean[:limit]}… [cut: {len(clean)} characters, sha256:{digest}]"

    def redact_field(self, name: str, value: Any) -> Any:
        """Return the value of a field; redacted if it is a string and the name is like ``password``."""
        if type(value) is str and not value.startswith(REDACTED[:-1]) and self._names.search(name):
            return self.placeholder(value)
        return value

    def redact_argument(self, before: Any, value: Any) -> Any:
        """Return a list item; redacted if the item before it is an option like ``--password``."""
        if type(value) is str and type(before) is str and self._options.search(before):
            return self.placeholder(value)
        return value

    def placeholder(self, secret: str | bytes) -> str:
        """Return the text that replaces a secret."""
        if self._key is None:
            return REDACTED
        raw = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
        return f"[redacted {hmac.new(self._key, raw, hashlib.sha256).hexdigest()[:8]}]"


def _inside_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _spellings(value: str) -> set[str]:
    """Return the forms of a value in plain text, JSON (also nested), a traceback, a URL, and base64."""
    raw = value.encode("utf-8", "replace")
    text = raw.decode()
    escaped = {_inside_json(text), json.dumps(text)[1:-1], repr(text)[1:-1], ascii(text)[1:-1]}
    twice = {_inside_json(form) for form in escaped}
    quoted = {quote(raw), quote(raw, safe=""), quote_plus(raw)}
    return {text, base64.b64encode(raw).decode().rstrip("=")} | escaped | twice | quoted


PATTERNS_ONLY = Redactor()
"""A redactor without known values: removes only text that looks like a credential."""
WITHOUT_NAMES = Redactor(names=False)
"""As :data:`PATTERNS_ONLY`, but a value after a name like ``token_file`` stays: it may be the path of a file."""


def redact_texts(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value with the secrets removed from its strings. Field names do not count, and nothing is cut.

    Used for notifications, which the pipeline still processes. A label named ``secret`` usually holds a name, but a
    value that looks like a token is a token.
    """
    if isinstance(value, str):
        return redactor.text(value, limit=len(value) + _NO_CUT)
    if isinstance(value, Mapping):
        return {key: redact_texts(item, redactor) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_texts(item, redactor) for item in value]
    return value


_NO_CUT = 1 << 20


def redact_json(value: Any, redactor: Redactor) -> Any:
    """Return a JSON value without secrets, otherwise unchanged: for data that is stored outside the audit log."""
    if isinstance(value, str):
        return redactor.text(str(value))  # re2 cannot replace in members of a StrEnum
    if isinstance(value, Mapping):
        return {
            redactor.text(str(key)): redactor.redact_field(str(key), redact_json(item, redactor))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_json(item, redactor) for item in value]
    return value
