"""Signed notes and checkpoints in the C2SP formats, which an independent library can read."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore._internal.trust import Keyring
from sigstore._utils import KeyID
from sigstore.errors import VerificationError
from sigstore_models.common.v1 import PublicKey, PublicKeyDetails, TimeRange

from remediator.audit import (
    BadNote,
    BadSignature,
    Checkpoint,
    Head,
    Signer,
    UnknownKey,
    Verifier,
    checkpoint,
    signed_note,
)
from tests.support.sample_logs import KEYS, ORIGIN, SIGNER, heads, make
from tests.support.sample_logs import note as signed

pytestmark = pytest.mark.promise(9)
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)
"""The example of the specification (https://c2sp.org/tlog-checkpoint)."""
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
"""The example key and note of Go's documentation of ``golang.org/x/mod/sumdb/note``."""


def test_the_example_of_the_specification_is_read() -> None:
    """The example checkpoint of C2SP parses to its three lines and is written back unchanged."""
    text, [(name, key_id, signature)] = signed_note.split(EXAMPLE)
    point = Checkpoint.parse(text)

    assert (point.origin, point.size, name) == ("example.com/behind-the-sofa", 20852163, point.origin)
    assert (len(point.root), len(key_id), len(signature)) == (32, 4, 64)
    assert point.text() == text


def test_keys_and_notes_of_the_go_implementation_are_compatible() -> None:
    """The key in the documentation of Go's package is read, has its ID, signs the same bytes, and verifies its note."""
    signer, verifier = Signer.decode(GO_SIGNER), Verifier.decode(GO_VERIFIER)

    assert signer.verifier.encode() == GO_VERIFIER
    assert (signer.encode(), verifier.encode()) == (GO_SIGNER, GO_VERIFIER)
    assert signed_note.sign(GO_TEXT, [signer]) == f"{GO_TEXT}\n{GO_SIGNATURE}"
    assert signed_note.verify(f"{GO_TEXT}\n{GO_SIGNATURE}", [verifier])[0] == GO_TEXT


def _sigstore(signer: Signer) -> tuple[Keyring, KeyID]:
    raw = signer.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    begin = datetime.now(UTC) - timedelta(days=1)
    key = PublicKey(
        raw_bytes=base64.b64encode(raw),
        key_details=PublicKeyDetails.PKIX_ED25519,
        valid_for=TimeRange(start=begin),
    )
    ring = Keyring([key])
    # sigstore indexes keys by the digest of their encoding, but looks them up by a four-byte ID
    [found] = ring._keyring.values()
    key_id = KeyID(signer.verifier.key_id)
    ring._keyring = {key_id: found}
    return ring, key_id


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_an_independent_library_verifies_our_checkpoints(size: int) -> None:
    """sigstore reads origin, size and root of our checkpoint, and accepts its signature."""
    _, head = make(size)
    theirs = SignedCheckpoint.from_text(signed(head))
    ring, key_id = _sigstore(SIGNER)
    theirs.signed_note.verify(ring, key_id)

    assert (theirs.checkpoint.origin, theirs.checkpoint.log_size) == (ORIGIN, size)
    assert theirs.checkpoint.log_hash == head.root().hex()
    assert theirs.checkpoint.other_content == []


def test_an_independent_library_refuses_what_we_refuse() -> None:
    """sigstore and remediator both refuse a changed checkpoint."""
    forged = signed(make(5)[1]).replace("\n5\n", "\n6\n")
    ring, key_id = _sigstore(SIGNER)

    with pytest.raises(VerificationError):
        SignedCheckpoint.from_text(forged).signed_note.verify(ring, key_id)
    with pytest.raises(BadSignature):
        checkpoint.verify(forged, KEYS)


def test_no_byte_of_a_checkpoint_can_change() -> None:
    """A checkpoint with any flipped bit is refused as forged, as signed by an unknown key, or as malformed."""
    raw = bytearray(signed(make(12)[1]).encode())
    for at in range(len(raw)):
        for bit in range(8):
            raw[at] ^= 1 << bit
            try:
                point = checkpoint.verify(raw.decode(), KEYS)
            except (BadNote, BadSignature, UnknownKey, UnicodeDecodeError):
                point = None
            raw[at] ^= 1 << bit
            assert point is None, f"byte {at}, bit {bit}"


def test_keys_are_changed_by_signing_with_both() -> None:
    """During a key change, a note carries both signatures, and a verifier with either key accepts it."""
    old, new, other = SIGNER, Signer.generate(ORIGIN), Signer.generate(ORIGIN)
    _, head = make(3)
    both = checkpoint.sign(ORIGIN, head, [old, new])

    for keys in ([old.verifier], [new.verifier], [old.verifier, new.verifier], [other.verifier, new.verifier]):
        assert checkpoint.verify(both, keys).size == 3
    with pytest.raises(UnknownKey):
        checkpoint.verify(both, [other.verifier])
    with pytest.raises(UnknownKey):
        checkpoint.verify(both, [])


def test_wrong_signature_of_a_known_key_fails_the_note() -> None:
    """If the signature of a known key is wrong, a valid signature of another key is not sufficient."""
    other = Signer.generate(ORIGIN)
    text, _ = signed_note.split(signed(make(3)[1]))
    wrong = other.signature_line("something else\n")

    with pytest.raises(BadSignature):
        signed_note.verify(f"{text}\n{SIGNER.signature_line(text)}{wrong}", [SIGNER.verifier, other.verifier])


def test_extension_lines_are_kept_and_none_is_written() -> None:
    """Our checkpoints have three lines. Extension lines of other tools are read and kept."""
    _, head = make(3)
    text = Checkpoint(ORIGIN, 3, head.root(), ("Timestamp: 1", "more")).text()

    assert len(signed_note.split(signed(head))[0].splitlines()) == 3
    assert checkpoint.verify(signed_note.sign(text, [SIGNER]), KEYS).extensions == ("Timestamp: 1", "more")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n01\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n-1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n1\nAAAA\n",
        "a\n1\n!AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nx\n",
        "a\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ],
)
def test_invalid_checkpoint_is_refused(text: str) -> None:
    """A checkpoint with leading zeros, a short root, or missing or empty lines is refused."""
    with pytest.raises(BadNote):
        Checkpoint.parse(text)


@given(st.text(max_size=200))
def test_any_text_raises_only_documented_errors(text: str) -> None:
    """Every text raises one of the documented errors."""
    for read in (signed_note.split, Checkpoint.parse, Verifier.decode, Signer.decode):
        with pytest.raises(BadNote):
            read(text)
    assert list(checkpoint.find_notes(text)) == [] or "— " in text


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_key_needs_a_name_that_fits_a_line(name: str) -> None:
    """The name of a key is not empty and contains neither white space of any script nor a plus sign."""
    with pytest.raises(BadNote):
        Signer.generate(name)
    with pytest.raises(BadNote):
        checkpoint.sign(name, Head(0, bytes(32), b""), [SIGNER])


@pytest.mark.parametrize("text", ["no newline", "control\x01\n", "tab\t\n"])
def test_invalid_text_is_not_signed(text: str) -> None:
    """The signer refuses text that readers would refuse."""
    with pytest.raises(BadNote):
        signed_note.sign(text, [SIGNER])
    with pytest.raises(BadNote):
        signed_note.sign("fine\n", [])


def test_a_private_key_is_never_in_an_error() -> None:
    """The error about a damaged private key does not contain the key."""
    secret = SIGNER.encode()

    for damaged in (
        secret[:-3],
        secret.replace("PRIVATE+KEY", "PRIVATE-KEY"),
        secret.replace("+", "!"),
        secret + "AAAA",
    ):
        with pytest.raises(BadNote) as caught:
            Signer.decode(damaged)
        assert secret[-20:-4] not in str(caught.value)
    assert "PRIVATE" not in repr(SIGNER)


def test_notes_are_found_in_any_container() -> None:
    """Notes are found in sequence, in syslog lines, and after records that a crash truncated."""
    first, second, third = (signed(head) for head in heads(make(4)[0])[1:4])
    line = "<109>1 2026-03-01T03:00:00Z host remediator - checkpoint - "
    in_json = '{"checkpoint":"' + third.replace("\n", "\\n") + '"}'

    assert list(checkpoint.find_notes(f"{first}\n{second}")) == [first, second]
    assert list(checkpoint.find_notes(f"{line}{in_json}\n{line}{in_json}\n")) == [third, third]
    for cut in range(len(first)):
        found = list(checkpoint.find_notes(f"{first[:cut]}\n\n{second}\n{third}"))
        complete = [first] if cut == len(first) - 1 else []
        assert found == [*complete, second, third], "a part of a note is neither evidence nor a forgery"
