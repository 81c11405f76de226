"""The segments of one log of a bundle, as the verifier remembers them: sixty bytes for each.

It is a part of verify.py (see bundle.py), which has to run where nothing is installed: the standard
library alone, Python 3.9.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from agent.evidence.wire import Fields, fields, last, sha256

ABSENT, NAMELESS = 0, 1  # in `here`; from 2 on: the body is here and names a policy
RECORDER = 3  # lane
RECORDED = "; the recorder's stay in the car, so ask the car for it (`inland owner export`)"
Fits = Callable[[bytes, int, bytes, int, bytes], bool]  # log, index, session; index, session


def head_of(body: bytes) -> Fields:
    """Return the header of a sealed session or segment."""
    return fields(body[6 : 6 + int.from_bytes(body[4:6], "big")])


class Segments:
    """Their entries, in order, and what is known of their bodies."""

    def __init__(self) -> None:
        self.index, self.lane = array("Q"), array("Q")
        self.here = array("I")
        self.sessions: list[bytes] = []
        self._policies: dict[bytes, int] = {b"": NAMELESS}  # beginnings of hashes: as in `here`
        self._digests, self._session = bytearray(), array("I")
        self._numbers: dict[bytes, int] = {}

    def take(self, index: int, what: Fields) -> None:
        """Take the next entry."""
        digest, session, lane = last(what, 1, b""), last(what, 3, b""), last(what, 4, 0)
        if len(digest) not in (0, 32):
            raise ValueError("a hash of another length")
        number = self._numbers.setdefault(session, len(self._numbers))
        self.sessions += [session] if number == len(self.sessions) else []
        self.index.append(index)
        self.lane.append(lane)
        self.here.append(ABSENT)
        self._session.append(number)
        self._digests += digest or bytes(32)

    def at(self, index: int) -> int:
        """Return the place of an entry, -1 if it is no segment."""
        at = bisect_left(self.index, index)
        return at if at < len(self.index) and self.index[at] == index else -1

    def session(self, at: int) -> bytes:
        """Return the session of a segment."""
        return self.sessions[self._session[at]]

    def names_a_body(self, at: int) -> bool:
        """Return whether a segment names a body."""
        return any(self._digests[32 * at : 32 * at + 32])

    def why_missing(self, at: int) -> str:
        """Return what to say of a body that is not here."""
        said = "its body is not here, and nothing says why"
        return said + RECORDED if self.lane[at] == RECORDER else said

    def unknown(self, policies: set[bytes]) -> set[int]:
        """Return the numbers in `here` of bodies that name none of some policies."""
        return {number for policy, number in self._policies.items() if policy not in policies}

    def fits(self, at: int, body: Any, fits: Fits) -> bool:
        """Return whether a body is that of a segment, and note that it is here."""
        if sha256(body) != self._digests[32 * at : 32 * at + 32] or body[:4] != b"iSG1":
            return False
        head = head_of(body)
        place = last(head, 1, b""), last(head, 2, 0), last(head, 3, b"")
        if not fits(*place, self.index[at], self.session(at)):
            return False
        self.here[at] = self._policies.setdefault(last(head, 7, b""), len(self._policies) + 1)
        return True
