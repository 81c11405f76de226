"""How much each rule kept, for the ledger: an entry an hour, at a policy change and at the end.

Pure but for the counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agent.pb.ledger_pb2 import Kept, RuleCount

CAMERA: str = "camera"  # its id among the counts


class Accounts:
    """Counts for one policy.

    Args:
        policy: its name.
        version: of it.
    """

    def __init__(self, policy: str, version: int) -> None:
        self._policy, self._version = policy, version
        self._frames: Counter[str] = Counter()
        self._samples: Counter[str] = Counter()
        self._records: Counter[str] = Counter()

    def add(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add (frames, samples) by rule."""
        for rule, (frames, samples) in counts.items():
            self._frames[rule] += frames
            self._samples[rule] += samples

    def note(self, rule: str, records: int = 1) -> None:
        """Add records of an event, or of the camera."""
        self._records[rule] += records

    def take(self) -> Kept | None:
        """Return the entry and begin anew; None if nothing was kept."""
        rules = sorted(+self._frames | +self._samples | +self._records)
        if not rules:
            return None
        entry = Kept(policy=self._policy, version=self._version)
        for rule in rules:
            entry.rule.append(RuleCount(
                id=rule, frames=self._frames[rule], samples=self._samples[rule],
                records=self._records[rule],
            ))  # fmt: skip
        self.__init__(self._policy, self._version)  # type: ignore[misc]
        return entry
