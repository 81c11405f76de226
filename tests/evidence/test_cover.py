"""The cover against the tree of the vault: any disclosure gives the root again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence import cover as module
from agent.evidence.cover import cover, hidden
from agent.vault import tree

LEAVES = [tree.leaf_hash(bytes([i % 251, i // 251])) for i in range(600)]


def node(height: int, position: int) -> bytes:
    compact = tree.CompactRange()
    for leaf in LEAVES[position << height : (position + 1) << height]:
        compact, _ = compact.append(leaf)
    assert compact.size == 1 << height
    return compact.root()


def check(disclosed: set[int], end: int, cuts: set[int]) -> None:
    """One pass with CompactRange meets each cut and the end with the right root."""
    indices = sorted(i for i in disclosed if i < end)
    places = list(cover(indices, end, cuts))
    parts = [(i, 0, LEAVES[i]) for i in indices]
    parts += [(position << height, height, node(height, position)) for height, position in places]
    compact, met = tree.CompactRange(), set()
    for first, height, digest in sorted(parts):
        assert first == compact.size
        compact, _ = compact.append(digest, height)
        met.add(compact.size)
    assert compact.size == end
    assert cuts <= met | {0}
    for size in cuts | {end}:
        whole = tree.CompactRange()
        for leaf in LEAVES[:size]:
            whole, _ = whole.append(leaf)
        part = tree.CompactRange()
        for first, height, digest in sorted(parts):
            if first < size:
                part, _ = part.append(digest, height)
        assert part.root() == whole.root()


@given(st.data())
def test_any_disclosure_gives_the_roots(data: st.DataObject):
    end = data.draw(st.integers(0, 600))
    disclosed = data.draw(st.sets(st.integers(0, 599), max_size=20))
    cuts = data.draw(st.sets(st.integers(0, end), max_size=5))
    check(disclosed, end, cuts)


def test_a_cover_that_crosses_a_checkpoint_is_found(monkeypatch: pytest.MonkeyPatch):
    """The planted bug: cuts are forgotten."""
    monkeypatch.setattr(module, "sorted", lambda _: [], raising=False)
    with pytest.raises(AssertionError):
        check({0, 1}, 64, {37})


@pytest.mark.parametrize(
    ("disclosed", "end", "ranges"),
    [
        ([], 0, []), ([], 3, [(0, 3)]), ([0], 1, []), ([1], 3, [(0, 1), (2, 3)]),
        ([0, 1, 5], 9, [(2, 5), (6, 9)]),
    ],
)  # fmt: skip
def test_what_is_hidden(disclosed: list[int], end: int, ranges: list[tuple[int, int]]):
    assert list(hidden(disclosed, end)) == ranges


def test_a_cover_is_small():
    """A million hidden entries are a handful of hashes."""
    assert len(list(cover([500_000, 500_001], 1_000_000))) <= 40
