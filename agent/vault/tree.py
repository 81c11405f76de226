"""RFC 6962 Merkle tree: the shape of the ledger. Pure.

    leaf = SHA-256(0x00 | entry)      node = SHA-256(0x01 | left | right)

- `CompactRange` holds the right edge of a growing tree: one hash a set bit of its size. It is
  immutable; `append` returns the next one and the subtrees that became complete.
- Proofs are made from hashes of complete subtrees, node (height, index) covering the leaves
  [index << height, (index + 1) << height). The caller supplies them; nothing here stores a tree.
- `verify_*` never raise on a wrong proof; they return False.

Source: RFC 6962 section 2.1; RFC 9162 sections 2.1.3.2 and 2.1.4.2 (verification).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.digest import sha256

EMPTY_ROOT: Final = sha256(b"")

Nodes = Callable[[int, int], bytes]  # (height, index) -> hash of a complete subtree


class Subtree(NamedTuple):
    """A complete subtree: 2**height leaves, the position-th of its height from the left."""

    height: int
    position: int
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of a leaf. The 0x00 keeps leaves and nodes apart (second preimages)."""
    return sha256(b"\x00" + entry)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right)


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The complete subtrees of a tree from left to right, one a set bit of `size`."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes, height: int = 0) -> tuple[CompactRange, tuple[Subtree, ...]]:
        """Return the range with one more leaf (or complete subtree), and what became complete.

        Args:
            leaf: hash of the leaf, or of the subtree.
            height: of the subtree; `size` must be a multiple of 2**height.

        Raises:
            ValueError: a subtree that does not fit at this size.
        """
        if self.size & ((1 << height) - 1):
            raise ValueError(f"no subtree of height {height} begins at leaf {self.size}")
        hashes, at = list(self.hashes), self.size >> height
        done = [Subtree(height, at, leaf)]
        while at & 1:
            leaf = node_hash(hashes.pop(), leaf)
            height, at = height + 1, at >> 1
            done.append(Subtree(height, at, leaf))
        hashes.append(leaf)
        return CompactRange(self.size + (1 << done[0].height), tuple(hashes)), tuple(done)

    def root(self) -> bytes:
        """Return the root hash; SHA-256 of nothing for an empty tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def edge(size: int) -> tuple[tuple[int, int], ...]:
    """Return (height, index) of each complete subtree of a tree, from left to right."""
    places, start = [], 0
    for height in range(size.bit_length() - 1, -1, -1):
        if size >> height & 1:
            places.append((height, start >> height))
            start += 1 << height
    return tuple(places)


def span_hash(first: int, end: int, node: Nodes) -> bytes:
    """Return the hash of the RFC 6962 tree over the leaves [first, end), not empty.

    `first` is a multiple of the next power of two at or above `end - first`, as in every proof.
    """
    places = []
    for height, index in edge(end - first):
        places.append((height, (first >> height) + index))
    root = node(*places[-1])
    for place in reversed(places[:-1]):
        root = node_hash(node(*place), root)
    return root


def split(size: int) -> int:
    """Return the largest power of two below a size >= 2 (RFC 6962: k)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(index: int, size: int, node: Nodes) -> tuple[bytes, ...]:
    """Return the audit path of a leaf, from the leaf up. RFC 6962 2.1.1.

    Raises:
        ValueError: the leaf is not in the tree.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path, first, end = [], 0, size
    while end - first > 1:
        middle = first + split(end - first)
        if index < middle:
            path.append(span_hash(middle, end, node))
            end = middle
        else:
            path.append(span_hash(first, middle, node))
            first = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: Nodes) -> tuple[bytes, ...]:
    """Return the proof that the first `old` leaves of a tree of `new` are unchanged.

    RFC 6962 2.1.2. Empty for old = 0 and old = new, where there is nothing to prove.

    Raises:
        ValueError: old > new or negative.
    """
    if not 0 <= old <= new:
        raise ValueError(f"no consistency from {old} to {new}")
    if old in (0, new):
        return ()
    path, first, end, whole = [], 0, new, True
    while old != end:
        middle = first + split(end - first)
        if old <= middle:
            path.append(span_hash(middle, end, node))
            end = middle
        else:
            path.append(span_hash(first, middle, node))
            first, whole = middle, False
    if not whole:
        path.append(span_hash(first, end, node))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether a leaf hash is at `index` of the tree with this root. RFC 9162 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether the tree of `old` leaves is a prefix of that of `new`. RFC 9162 2.1.4.2."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == old_root and sr == new_root
