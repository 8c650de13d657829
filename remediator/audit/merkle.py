"""The Merkle tree of RFC 6962 over the entries: a root that grows, and proofs.

The state of a growing tree is its compact range: the roots of the perfect subtrees that make it up, largest first,
one for every bit set in its size. Appending and the root cost O(log n) of it, whatever the log's age.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()
WIDTH = 32


def leaf_hash(content: bytes) -> bytes:
    """SHA-256 over a zero byte and the content."""
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 over a one byte and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """A growing tree: its size and the roots of its perfect subtrees."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)

    @classmethod
    def load(cls, size: int, state: bytes) -> Range:
        """The tree whose :meth:`dump` gave ``state``.

        Raises:
            ValueError: the state is not that of a tree of this size.
        """
        if size < 0 or len(state) != WIDTH * size.bit_count():
            raise ValueError(f"{len(state)} bytes are not the state of a Merkle tree over {size} entries")
        return cls(size, (state[at : at + WIDTH] for at in range(0, len(state), WIDTH)))

    def dump(self) -> bytes:
        """All that a later append or root needs: 32 bytes for every bit set in the size."""
        return b"".join(self.nodes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        carry, nodes = self.size, self.nodes
        while carry & 1:
            leaf = node_hash(nodes.pop(), leaf)
            carry >>= 1
        nodes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The tree's root hash; of no entries, the hash of nothing."""
        if not self.nodes:
            return EMPTY_ROOT
        result = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            result = node_hash(node, result)
        return result

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add many leaf hashes; the same as appending each, with less to do for each."""
        for leaf in leaves:
            self.append(leaf)
