"""The Merkle tree (RFC 6962) over the entries: its root and proofs.

The state of a growing tree is its compact range: the roots of its perfect subtrees, largest first. There is one root
for every bit set in its size. Appending and computing the root take O(log n).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

EMPTY_ROOT = hashlib.sha256(b"").digest()
HASH_BYTES = 32

_sha256 = hashlib.sha256
Span = tuple[int, int]


def leaf_hash(content: bytes) -> bytes:
    """Return SHA-256 over a zero byte and the content."""
    return _sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256 over the byte 1 and both children."""
    return _sha256(b"\x01" + left + right).digest()


class CompactRange:
    """A growing tree: its size and the roots of its perfect subtrees."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)

    @classmethod
    def load(cls, size: int, state: bytes) -> CompactRange:
        """Restore a tree from the result of :meth:`dump`.

        Raises:
            ValueError: the length of the state does not fit the size.
        """
        if size < 0 or len(state) != HASH_BYTES * size.bit_count():
            raise ValueError(f"the state of a Merkle tree over {size} entries cannot have {len(state)} bytes")
        return cls(size, (state[at : at + HASH_BYTES] for at in range(0, len(state), HASH_BYTES)))

    def dump(self) -> bytes:
        """Return the state of the tree: 32 bytes for every bit set in the size."""
        return b"".join(self.nodes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self._add(leaf, 1)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add many leaf hashes. Same result as :meth:`append` for each, but faster."""
        at, end = 0, len(leaves)
        while at < end:
            # the largest perfect subtree that fits the right edge of the tree and the remaining leaves
            room = (self.size & -self.size) or 1 << (end - at).bit_length()
            width = min(room, 1 << ((end - at).bit_length() - 1))
            level = leaves[at : at + width]
            while len(level) > 1:
                pairs = iter(level)
                level = [_sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
            self._add(level[0], width)
            at += width

    def _add(self, node: bytes, width: int) -> None:
        carry, nodes = self.size // width, self.nodes
        while carry & 1:
            node = node_hash(nodes.pop(), node)
            carry >>= 1
        nodes.append(node)
        self.size += width

    def root(self) -> bytes:
        """Return the root hash; for an empty tree, the hash of the empty string."""
        if not self.nodes:
            return EMPTY_ROOT
        result = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            result = node_hash(node, result)
        return result


def inclusion_proof(leaves: Iterable[bytes], index: int, size: int) -> list[bytes]:
    """Return the path that proves that leaf ``index`` (from 0) is in the tree over the first ``size`` leaf hashes.

    Raises:
        ValueError: the index is out of range, or there are fewer leaves than ``size``.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree over {size} entries has no leaf {index}")
    # the roots over these disjoint spans of leaves; the leaves are read once
    spans = list(_path(index, 0, size))
    stream, position = iter(leaves), 0
    roots: dict[Span, bytes] = {}
    for low, high in sorted(spans):
        taken = list(islice(stream, low - position, high - position))
        if len(taken) != high - low:
            raise ValueError(f"the log ends before entry {high}")
        tree = CompactRange()
        tree.extend(taken)
        roots[low, high], position = tree.root(), high
    return [roots[span] for span in spans]


def _path(index: int, low: int, high: int) -> Iterator[Span]:
    if high - low > 1:
        middle = low + (1 << ((high - low - 1).bit_length() - 1))  # the largest power of two below the size
        if index < middle:
            yield from _path(index, low, middle)
            yield middle, high
        else:
            yield from _path(index, middle, high)
            yield low, middle


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether the proof leads from the leaf hash to the root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and result == root
