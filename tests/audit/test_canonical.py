"""The canonical encoding of entries is that of RFC 8785."""

from __future__ import annotations

import json
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import example, given
from pydantic import SecretBytes, SecretStr

from remediator.audit import GENESIS, Draft, Kind, NotCanonical, NotRecordable, Secret, decode, seal
from remediator.audit.canonical import Normalizer, encode
from remediator.audit.chain import ENTRY_LIMIT
from remediator.audit.entry import Entry
from remediator.audit.redact import Redactor
from tests.support.sample_logs import START, anything, draft, make, plain


def _entry(data: dict[str, Any]) -> Entry:
    return Entry(
        "a", data, None, "evidence", None, None, None, "0" * 64, None, None, 1, "2026-01-01T00:00:00.000000Z", 1
    )


def _written(data: dict[str, Any]) -> dict[str, Any]:
    [row], _ = seal(GENESIS, [Draft(Kind.EVIDENCE, "a", data=data)], START)
    return decode(row.canonical).data


@pytest.mark.promise(9)
@given(plain)
@example({"\ue000": 1, "\U00010000": 2})
@example({"\u2028": '\x00\x1f\x7f"\\/\b\f\n\r\t'})
def test_canonical_bytes_are_those_of_the_reference_library(value: Any) -> None:
    """The encoding of every possible entry equals that of the reference library for RFC 8785."""
    entry = _entry({"value": value})

    assert encode(entry) == rfc8785.dumps(msgspec.to_builtins(entry))


@pytest.mark.promise(9)
@given(anything)
def test_every_draft_is_encoded_canonically(value: Any) -> None:
    """Every draft is encoded canonically and decodes to the same values."""
    [row], _ = seal(GENESIS, [Draft(Kind.EVIDENCE, "a", data={"value": value})], START)

    assert rfc8785.dumps(json.loads(row.canonical)) == row.canonical
    assert encode(decode(row.canonical)) == row.canonical


class _Colour(StrEnum):
    RED = "red"


class _Size(IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.25, "0.25"),
        (float("nan"), "nan"),
        (2**53, "9007199254740992"),
        (2**53 - 1, 2**53 - 1),
        (True, True),
        (_Colour.RED, "red"),
        (_Size.BIG, 3),
        (timedelta(minutes=5), "5m"),
        (START, "2026-03-01T03:00:00.000000Z"),
        ((1, 2), [1, 2]),
        ({"b", "a"}, ["a", "b"]),
        (b"abc", "[3 bytes, sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad]"),
        ("\ud800", "?"),
        (Secret("hunter2"), "[redacted]"),
        (SecretStr("hunter2"), "[redacted]"),
        (SecretBytes(b"hunter2"), "[redacted]"),
    ],
)
def test_values_are_converted_to_the_json_subset(value: Any, written: Any) -> None:
    """Fractions become text, sets are sorted, times are RFC 3339, and secrets become placeholders."""
    assert _written({"value": value}) == {"value": written}


@pytest.mark.parametrize("data", [{"value": object()}, {1: "x"}, {"value": {None: 1}}])
def test_unsupported_type_is_refused(data: dict[Any, Any]) -> None:
    """A value of an unsupported type raises an error, which aborts the transaction."""
    with pytest.raises(NotRecordable):
        seal(GENESIS, [Draft(Kind.EVIDENCE, "a", data=data)], START)


def test_self_referencing_data_is_cut_off() -> None:
    """Data that contains itself is cut off at a fixed depth."""
    loop: dict[str, Any] = {}
    loop["again"] = loop

    assert "[nested too deeply]" in json.dumps(_written(loop))


def test_an_entry_has_a_largest_size() -> None:
    """Long strings are cut with length and digest. Data that is still too large is replaced by its digest."""
    long = _written({"log": "x" * 5000})["log"]
    many = _written({str(number): "y" * 3000 for number in range(100)})
    flood = _written({str(number): number for number in range(20_000)})
    [row], _ = seal(GENESIS, [Draft(Kind.EVIDENCE, "a", data={str(n): n for n in range(20_000)})], START)

    assert long.endswith("]") and "[cut: 5000 characters, sha256:" in long and len(long) < 4200
    assert all("[cut: 3000 characters" in value for value in many.values())
    assert set(flood) == {"cut"} and set(flood["cut"]) == {"bytes", "names", "sha256"}
    assert len(row.canonical) <= ENTRY_LIMIT


@pytest.mark.promise(9)
@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"seq":1', b'"seq": 1'),
        lambda raw: raw.replace(b'"seq":1', b'"seq":1.0'),
        lambda raw: raw.replace(b'"seq":1', b'"seq":1e0'),
        lambda raw: raw.replace(b'"number":0', b'"number":-0'),
        lambda raw: raw.replace(b'"number":0', b'"number":0.5'),
        lambda raw: raw.replace(b'"number":0', b'"number":1,"number":0'),
        lambda raw: raw.replace(b'"seq":1', b'"run":null,"seq":1'),
        lambda raw: raw.replace(b'"v":1}', b'"v":1,"w":1}'),
        lambda raw: raw.replace(b'"v":1}', b'"v":2}'),
        lambda raw: raw.replace(b"remediator", b"\\u0072emediator"),
        lambda raw: raw.replace(b'{"actor"', b'{ "actor"'),
        lambda raw: raw + b"\n",
        lambda raw: raw[:-1],
        lambda raw: b"[" + raw + b"]",
        lambda raw: b"",
        lambda raw: b"[" * 100_000,
        lambda raw: raw.replace(b"remediator", b"\xff"),
    ],
)
def test_other_encodings_are_refused(change: Any) -> None:
    """Bytes with extra spaces, other escapes, fractions, or repeated or unknown keys are not an entry."""
    raw = make(1)[0][0].canonical
    assert change(raw) != raw

    with pytest.raises(NotCanonical):
        decode(change(raw))


def test_normalizer_leaves_no_number_with_a_fraction() -> None:
    """The normalizer removes all fractions, because encoders write fractions differently."""
    normalizer = Normalizer(Redactor(), str)

    assert normalizer.value([1.5, {"a": -0.0}]) == ["1.5", {"a": "-0.0"}]
    assert draft(1).kind in Kind
