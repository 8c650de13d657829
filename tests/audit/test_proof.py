"""Proofs that an entry is in the log, for a verifier without the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sigstore._internal.merkle import verify_merkle_inclusion
from sigstore.errors import VerificationError

from remediator.audit import BadNote, BadSignature, Checkpoint, UnknownKey
from remediator.audit.proof import FIRST_LINE, BadProof, Proof, prove
from tests.support.sample_logs import KEYS, heads, make, note

pytestmark = pytest.mark.promise(9)

ROWS, HEAD = make(21)
LEAVES = [row.hash for row in ROWS]
NOTE = note(HEAD)


def _proof(seq: int) -> Proof:
    return prove(ROWS[seq - 1].canonical, seq, LEAVES, NOTE)


@pytest.mark.parametrize("seq", range(1, 22))
def test_every_entry_can_be_proved(seq: int) -> None:
    """A proof can be written and read back, and it leads to the signed root."""
    proof = _proof(seq)
    again = Proof.parse(proof.text())

    assert again == proof and again.canonical == ROWS[seq - 1].canonical
    assert again.verify(KEYS) == Checkpoint.parse(NOTE.split("\n\n")[0] + "\n")
    assert proof.text().startswith(f"{FIRST_LINE}\nextra ") and f"\nindex {seq - 1}\n" in proof.text()
    assert proof.text().endswith(f"\n\n{NOTE}")


def _for_sigstore(proof: Proof, point: Checkpoint) -> Any:
    inclusion = SimpleNamespace(
        log_index=proof.index, tree_size=point.size, hashes=list(proof.path), root_hash=point.root
    )
    return SimpleNamespace(_inner=SimpleNamespace(inclusion_proof=inclusion, canonicalized_body=proof.canonical))


@pytest.mark.parametrize("seq", range(1, 22))
def test_an_independent_library_verifies_our_proofs(seq: int) -> None:
    """The verifier of sigstore accepts our path from an entry to the root, and refuses another entry."""
    proof = _proof(seq)
    theirs = _for_sigstore(proof, proof.verify(KEYS))
    verify_merkle_inclusion(theirs)
    theirs._inner.canonicalized_body += b" "

    with pytest.raises(VerificationError):
        verify_merkle_inclusion(theirs)


@pytest.mark.slow
def test_no_bit_of_a_proof_can_change() -> None:
    """With any bit flipped, the proof cannot be read, proves nothing, or has no valid signature."""
    text = _proof(6).text()
    raw = bytearray(text.encode())
    for bit in range(8 * len(raw)):
        raw[bit // 8] ^= 1 << (bit % 8)
        try:
            held = Proof.parse(raw.decode()).verify(KEYS)
        except (BadProof, BadNote, BadSignature, UnknownKey, UnicodeDecodeError):
            held = None
        raw[bit // 8] ^= 1 << (bit % 8)
        assert held is None, f"byte {bit // 8}, bit {bit % 8}"


def test_checkpoint_of_another_log_is_refused() -> None:
    """No proof is written if the checkpoint was signed for another log."""
    others = [row.hash for row in make(21, tag="other")[0]]

    with pytest.raises(BadProof, match="for another log"):
        prove(ROWS[3].canonical, 4, others, NOTE)
    with pytest.raises(BadProof, match="for another log"):
        prove(ROWS[4].canonical, 4, LEAVES, NOTE)


def test_a_checkpoint_must_cover_the_entry() -> None:
    """An older checkpoint does not prove a newer entry, and a truncated log gives no proof."""
    with pytest.raises(BadProof, match="the checkpoint of 5 entries does not fit"):
        prove(ROWS[5].canonical, 6, LEAVES, note(heads(ROWS)[5]))
    with pytest.raises(BadProof, match="ends before"):
        prove(ROWS[5].canonical, 6, LEAVES[:20], NOTE)
    with pytest.raises(BadProof, match="the checkpoint is invalid"):
        prove(ROWS[5].canonical, 6, LEAVES, "nothing")


@pytest.mark.parametrize(
    "text", ["", "x", FIRST_LINE, f"{FIRST_LINE}\nindex 1\n\n{NOTE}", f"{FIRST_LINE}\nextra !\nindex 1\n\n{NOTE}"]
)
def test_invalid_proof_is_refused(text: str) -> None:
    """A proof with missing parts or damaged lines is an error."""
    with pytest.raises(BadProof):
        Proof.parse(text)
