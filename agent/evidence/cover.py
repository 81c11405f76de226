"""Which subtrees stand for the entries of a log that a bundle does not disclose. Pure.

What is hidden is covered by as few complete subtrees as there can be, each a hash that tells
nothing of its entries. The cover is cut at the size of every checkpoint, so that one pass over
entries and subtrees, from left to right, meets each size and can compare its root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def hidden(disclosed: Iterable[int], end: int) -> Iterator[tuple[int, int]]:
    """Yield [first, end) of each range below `end` of which nothing is disclosed.

    Args:
        disclosed: indices, rising.
        end: entries in all.
    """
    first = 0
    for index in disclosed:
        if first < index:
            yield first, min(index, end)
        first = index + 1
    if first < end:
        yield first, end


def cover(
    disclosed: Iterable[int], end: int, cuts: Iterable[int] = ()
) -> Iterator[tuple[int, int]]:
    """Yield (height, position) of the maximal complete subtrees over what is hidden.

    Args:
        disclosed: indices, rising.
        end: entries in all.
        cuts: sizes of checkpoints; no subtree crosses one.
    """
    sizes = sorted(cuts)
    for first, after in hidden(disclosed, end):
        marks = [size for size in sizes if first < size < after]
        for stop in [*marks, after]:
            yield from _maximal(first, stop)
            first = stop  # noqa: PLW2901 - the next piece begins where this one ends


def _maximal(first: int, end: int) -> Iterator[tuple[int, int]]:
    while first < end:
        height = (end - first).bit_length() - 1
        if first:
            height = min(height, (first & -first).bit_length() - 1)
        yield height, first >> height
        first += 1 << height


def encode_subtree(height: int, position: int, hashed: bytes) -> bytes:
    """Return a subtree as it stands in a `.cover` file."""
    return bytes([height]) + position.to_bytes(8, "big") + hashed
