"""No secret reaches the audit log."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.audit import GENESIS, Draft, Kind, Redactor, Secret, decode, seal
from remediator.audit.canonical import Normalizer
from remediator.audit.redact import PATTERNS_ONLY
from tests.support.sample_logs import START, anything

pytestmark = pytest.mark.promise(11)

PASSWORD = 'p@"ss\\w/ö rd'
LINES = [
    "redis://:{}@redis:6379/0",
    "postgresql://user:{}@host/db?x=1",
    "Authorization: Bearer {}",
    "authorization: Basic {}",
    "Proxy-Authorization: {}",
    "Cookie: a=1; session={}",
    "X-Api-Key: {}",
    "retry with password={} failed",
    "PASSWORD: '{}'",
    '{{"token": "{}"}}',
    "REDIS_PASSWORD={}",
    "requirepass {}",
    "AUTH {}",
    "--api-token {}",
    "aws_secret_access_key = {}",
    "https://hooks.slack.com/services/T0/B0/{}",
]
SHAPES = [
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-123456789012-abcdefghijkl",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "glpat-abcdefghijklmnopqrst",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabcdef==\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk",
]


def _bytes(data: dict[str, Any], redactor: Redactor = PATTERNS_ONLY, **more: Any) -> bytes:
    [row], _ = seal(GENESIS, [Draft(Kind.EVIDENCE, "a", data=data, **more)], START, redactor)
    return row.canonical


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: [s], lambda s: {"deep": [{"er": (s,)}]}, lambda s: {s.reveal(): s}]
)
def test_a_secret_never_becomes_text(wrap: Any) -> None:
    """A value of the type Secret becomes a placeholder everywhere in the data."""
    secret = Secret("correct-horse")

    assert b"correct-horse" not in _bytes({"value": wrap(secret)}, Redactor(["correct-horse"]))
    assert "correct-horse" not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == "correct-horse"
    assert secret == Secret("correct-horse") and secret != Secret("x") and secret != "correct-horse"


@pytest.mark.parametrize("line", LINES)
def test_credentials_in_text_are_removed(line: str) -> None:
    """Text that looks like a credential is removed from external text, even if the value is unknown."""
    said = line.format("Zx81kQ9-hunter2")

    assert b"hunter2" not in _bytes({"log": f"before {said} after"})
    assert b"hunter2" not in _bytes({}, reason=said)
    assert b"hunter2" not in _bytes({said: 1})
    assert b"hunter2" not in _bytes({"log": f"one\n{said}\ntwo"})


@pytest.mark.parametrize("shape", SHAPES)
def test_known_token_formats_are_removed(shape: str) -> None:
    """Keys and tokens of known formats are recognised by their format."""
    written = decode(_bytes({"log": f"before {shape} after"})).data["log"]

    assert shape not in written and "[redacted]" in written and written.startswith("before ")


@pytest.mark.parametrize(
    "name", ["password", "redis_password", "client-secret", "apiKey", "X-Auth-Token", "Authorization"]
)
def test_field_with_a_secret_name_is_redacted(name: str) -> None:
    """A string in a field with a secret name is redacted even if it looks ordinary."""
    assert decode(_bytes({"outer": {name: "abc"}})).data == {"outer": {name: "[redacted]"}}
    assert decode(_bytes({name: 5, "passwords_tried": "two"})).data[name] == 5


def test_argument_after_a_secret_option_is_redacted() -> None:
    """In a list of arguments, only the argument after --password is redacted."""
    argv = ["redis-cli", "--password", "abc", "PING", "--token=abc", "--host", "redis"]

    assert decode(_bytes({"argv": argv})).data["argv"] == [
        "redis-cli",
        "--password",
        "[redacted]",
        "PING",
        "--token=[redacted]",
        "--host",
        "redis",
    ]


@pytest.mark.parametrize(
    "form",
    [
        PASSWORD,
        json.dumps(PASSWORD),
        json.dumps(PASSWORD, ensure_ascii=False),
        json.dumps(json.dumps({"log": PASSWORD})),
        repr(PASSWORD),
        ascii(PASSWORD),
        quote(PASSWORD, safe=""),
        f"x{PASSWORD}y",
        f"a\n{PASSWORD}\tb",
    ],
)
def test_known_secret_is_removed_in_every_encoding(form: str) -> None:
    """A secret of the settings is found in plain text, JSON and URLs, and in values and keys."""
    redactor = Redactor([PASSWORD])

    for data in ({"log": form}, {form: 1}, {"log": ["x" * 4090 + form]}, {"log": f"{form} {form}"}):
        text = json.dumps(decode(_bytes(data, redactor)).data, ensure_ascii=False)
        assert not any(part in text for part in ("ss\\\\w", "ss%5Cw", "w/ö", "w%2F%C3%B6", "u00f6 rd", "xf6 rd"))


def test_cutting_text_does_not_split_a_secret() -> None:
    """If a long string is cut inside a secret, no part of the secret remains."""
    written = _bytes({"log": "x" * 4090 + "correct-horse-battery"}, Redactor(["correct-horse-battery"]))

    assert b"correc" not in written


def test_placeholder_shows_equal_secrets_only_with_a_key() -> None:
    """Without a key all placeholders are the same. With a key, equal secrets have equal placeholders."""
    keyed = Redactor(key=b"installation")
    first, again, other = (keyed.placeholder(value) for value in ("hunter2", b"hunter2", "hunter3"))

    assert PATTERNS_ONLY.placeholder("hunter2") == PATTERNS_ONLY.placeholder("hunter3") == "[redacted]"
    assert first == again != other
    assert first != Redactor(key=b"another").placeholder("hunter2")


def test_ordinary_text_stays() -> None:
    """Text without secrets is not changed."""
    lines = [
        "GET http://prometheus:9090/api/v1/query?query=up returned 200",
        "basic authentication works, digest too",
        "MISCONF Redis is configured to save RDB snapshots",
        "run run-01 of redis-down on redis",
        "task-key 5",
    ]

    assert [PATTERNS_ONLY.text(line) for line in lines] == lines


@given(anything, st.sampled_from([*LINES, *SHAPES]), st.text(max_size=8))
def test_fast_pass_writes_the_same_as_the_thorough_pass(value: Any, line: str, text: str) -> None:
    """The fast check of the encoded entry removes everything that the check of every string removes."""
    redactor = Redactor(["hunter2"])
    data = {"value": value, "line": text + line.replace("{}", "hunter2 Zx81kQ9abc"), text: text}
    thorough = Normalizer(redactor, redactor.text, thorough=True).mapping(data)

    assert decode(_bytes(data, redactor)).data == thorough


@given(
    st.sampled_from(LINES),
    st.from_regex(r"[A-Za-z0-9]{8,20}", fullmatch=True),
    st.sampled_from(["", " ", "\n", '"', "x ", "'", "(", "=", "[", ",", ";"]),
)
def test_no_random_password_survives_a_known_place(line: str, password: str, before: str) -> None:
    """Every random value is removed from a place for credentials."""
    password = "9Z" + password + "Qq7"

    assert password.encode() not in _bytes({"log": before + line.format(password)})


def test_a_member_of_an_enum_becomes_plain_text() -> None:
    """A member of a string enum, such as a run's reason, becomes plain text, because RE2 rejects subclasses of str."""
    found = Redactor([PASSWORD]).text(Kind.RUN_MATCHED)
    assert (type(found), found) == (str, Kind.RUN_MATCHED.value)
