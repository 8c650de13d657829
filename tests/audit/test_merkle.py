"""The Merkle tree agrees with a direct implementation of RFC 6962 and with independent libraries."""

from __future__ import annotations

import hashlib

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.audit.merkle import EMPTY_ROOT, CompactRange, inclusion_proof, leaf_hash, node_hash, verify_inclusion

pytestmark = pytest.mark.promise(9)

sizes = st.integers(1, 130)


def _contents(size: int) -> list[bytes]:
    return [str(number).encode() * (number % 3) for number in range(size)]


def _leaves(size: int) -> list[bytes]:
    return [leaf_hash(content) for content in _contents(size)]


def _split(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def _naive_root(leaves: list[bytes]) -> bytes:
    """Return MTH as section 2.1 of RFC 6962 defines it."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return hashlib.sha256(b"\x01" + _naive_root(leaves[:k]) + _naive_root(leaves[k:])).digest()


def _naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if m < k:
        return [*_naive_path(m, leaves[:k]), _naive_root(leaves[k:])]
    return [*_naive_path(m - k, leaves[k:]), _naive_root(leaves[:k])]


def _root(leaves: list[bytes]) -> bytes:
    tree = CompactRange()
    tree.extend(leaves)
    return tree.root()


@given(st.integers(0, 300), st.lists(st.integers(1, 70), max_size=8))
def test_a_growing_tree_has_the_root_of_its_definition(size: int, steps: list[int]) -> None:
    """A tree has the same root whether leaves are added singly, in blocks, or after loading a stored tree."""
    leaves, tree, at = _leaves(size), CompactRange(), 0
    for step in [*steps, size]:
        tree.extend(leaves[at : at + step])
        at = min(at + step, size)
        tree = CompactRange.load(tree.size, tree.dump())
    single = CompactRange()
    for leaf in leaves:
        single.append(leaf)

    assert tree.root() == single.root() == _naive_root(leaves)
    assert tree.dump() == single.dump()


def test_an_empty_tree_has_the_root_of_nothing() -> None:
    """The root of an empty tree is the hash of an empty string (RFC 6962)."""
    assert (
        CompactRange().root()
        == EMPTY_ROOT
        == bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )


@given(sizes, st.data())
def test_inclusion_proofs_are_those_of_the_definition(size: int, data: st.DataObject) -> None:
    """A proof is the path of RFC 6962. It verifies for its entry and for no other."""
    index = data.draw(st.integers(0, size - 1))
    leaves = _leaves(size)
    proof, root = inclusion_proof(leaves, index, size), _root(leaves)

    assert proof == _naive_path(index, leaves)
    assert verify_inclusion(leaves[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"another"), index, size, proof, root)
    assert not verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not verify_inclusion(leaves[index], index, size, proof, leaf_hash(b"another"))
    assert not any(verify_inclusion(leaves[index], other, size, proof, root) for other in range(size) if other != index)
    for at in range(len(proof)):
        assert not verify_inclusion(leaves[index], index, size, proof[:at] + proof[at + 1 :], root)
        assert not verify_inclusion(leaves[index], index, size, [*proof[:at], bytes(32), *proof[at + 1 :]], root)


def test_proofs_at_the_edges() -> None:
    """A proof for an entry that is not in the tree is refused."""
    leaves = _leaves(5)

    assert not verify_inclusion(leaves[0], 5, 5, [], leaves[0])
    for index, size in ((5, 5), (-1, 5), (0, 6)):
        with pytest.raises(ValueError, match="entr"):
            inclusion_proof(leaves, index, size)


@given(st.integers(1, 60), st.data())
def test_an_independent_library_agrees_on_roots_and_proofs(size: int, data: st.DataObject) -> None:
    """pymerkle computes the same roots, verifies our proofs, and its proofs verify here."""
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for content in _contents(size):
        tree.append_entry(content)
    index, before = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    leaves = _leaves(size)
    root, old = _root(leaves), _root(leaves[:before])

    assert [tree.get_leaf(at + 1) for at in range(size)] == leaves
    assert (tree.get_root(size), tree.get_root(before)) == (root, old)

    theirs = tree.prove_inclusion(index + 1, size)
    pymerkle.verify_inclusion(leaves[index], root, theirs)
    assert theirs.path == [leaves[index], *inclusion_proof(leaves, index, size)]


# test vectors of Certificate Transparency: leaves, roots and proofs
_REFERENCE = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def test_published_vectors_of_certificate_transparency_match() -> None:
    """The roots over the reference leaves are the published ones."""
    leaves = [leaf_hash(bytes.fromhex(content)) for content in _REFERENCE]

    assert {size: _root(leaves[:size]).hex() for size in _ROOTS} == _ROOTS


def test_nodes_and_leaves_have_different_hashes() -> None:
    """The hash of a node differs from that of a leaf with the same bytes, so no tree can pass for a shorter one."""
    left, right = _leaves(2)

    assert node_hash(left, right) != leaf_hash(left + right)
