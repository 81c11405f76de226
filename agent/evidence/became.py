"""What became of the segments of a log, counted while its entries are written into a bundle. Pure.

A byte or two for each segment, however many there are.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

from agent.evidence.disclosure import Disclosure
from agent.evidence.proof import LANES, REASONS, RECIPIENTS, word_for
from agent.pb import ledger_pb2

_MISSING, _HERE = "missing", "here"


class Became:
    """Takes every disclosed entry, by rising index, and counts.

    Attributes:
        entries: how many were taken.
        continues: logs that this one goes on for, because they could not.

    Args:
        found: what is disclosed.
        here: of its segments, those whose body is in the bundle.
    """

    def __init__(self, found: Disclosure, here: Iterable[int]) -> None:
        self.entries = 0
        self.continues: set[bytes] = set()
        self._found = found
        # Of each entry of the asked time: what it is (0: no segment), and what became of it.
        self._kinds, self._states = (array("H", bytes(2 * self._count)) for _ in range(2))
        self._names = {_MISSING: 0}
        self._of: dict[tuple[int, int], int] = {}  # recipients and lane
        for why, part in found.left_out.items():
            for first, last in ranges(part):
                self._mark(f"left out: {why}", first, last)
        self._here = here

    @property
    def _count(self) -> int:
        return max(0, self._found.last - self._found.first + 1)

    def take(self, index: int, entry: ledger_pb2.Entry) -> None:
        """Take the next entry."""
        self.entries += 1
        kind = entry.WhichOneof("what")
        if kind == "gap":
            self.continues.add(entry.gap.log)
        elif kind == "drop":
            reason = f"removed: {word_for(REASONS, entry.drop.reason)}"
            for one in entry.drop.range:
                self._mark(reason, one.first, min(one.last, index - 1))
        elif kind == "segment" and self._found.first <= index <= self._found.last:
            who = self._found.recipients.get(entry.segment.session, 0)
            number = self._of.setdefault((who, entry.segment.lane), len(self._of) + 1)
            self._kinds[index - self._found.first] = number

    def _mark(self, state: str, first: int, last: int) -> None:
        low = max(0, first - self._found.first)
        high = min(self._count, last + 1 - self._found.first)
        if low < high:
            number = self._names.setdefault(state, len(self._names))
            self._states[low:high] = array("H", [number]) * (high - low)

    def presence(self) -> dict[str, Counter[str]]:
        """Return what became of the segments of the asked time, by recipients and lane."""
        for index in self._here:
            self._mark(_HERE, index, index)
        states = list(self._names)
        counts: dict[str, Counter[str]] = {}
        named = {number: key for key, number in self._of.items()}
        for (kind, state), count in Counter(zip(self._kinds, self._states, strict=True)).items():
            if kind:
                who, lane = named[kind]
                name = f"{word_for(RECIPIENTS, who)}, {word_for(LANES, lane)}"
                counts.setdefault(name, Counter())[states[state]] += count
        return counts


def ranges(indices: Iterable[int]) -> list[list[int]]:
    """Return rising indices as [first, last] of each run."""
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return found
