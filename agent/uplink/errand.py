"""The uplink's errand for policies: when to ask the region, and handing in what comes.

It chooses nothing: which bundle is wanted, and from where on, capture says; whether a piece is the
right one, capture says. One piece is under way at a time: the answer to one question is one piece,
so receipts never queue behind a bundle, and a lost connection costs one piece.

- Asked at a connection, once a minute, when a receipt made capture want something, and after each
  piece that fitted. A question that is under way is not repeated, unless a receipt names another
  bundle than it asks for: the region has no piece of the one before any more.
- Half a minute without a receipt: the region is asked what it has on offer. It answers with a
  receipt, so a car that has nothing to send hears of a new policy, too.
- Pieces that capture refuses are counted; too many, and the broker is left, as for forged receipts.
"""

from __future__ import annotations

from agent.errors import LinkError
from agent.hatch import HatchClient
from agent.pb.delivery_pb2 import PolicyQuestion
from agent.uplink import topics
from agent.uplink.timing import MAX_CHUNKS, MAX_STRAY


class Errand:
    """See the module's contract. Times are seconds of CLOCK_BOOTTIME.

    Args:
        hatch: the way to capture.
        period_s: between questions to capture, and until a lost piece is asked for again.
    """

    def __init__(self, hatch: HatchClient, *, period_s: float) -> None:
        self._hatch, self._period_s = hatch, period_s
        self._chunks: list[bytes] = []
        self._due_s = self._heard_s = 0.0
        self._under_way = False
        self._asked = b""  # the bundle of the question that is under way
        self._stray = 0

    def connected(self, now_s: float) -> None:
        """Begin a connection: what was under way is not any more."""
        self._due_s = self._heard_s = now_s
        self._under_way, self._stray = False, 0
        self._chunks.clear()

    def receipt(self, wants_policy: bool, now_s: float, *, bundle: bytes) -> None:
        """Note a valid receipt, whether it made capture want a bundle, and which one it names."""
        self._heard_s = now_s
        if wants_policy and not (self._under_way and bundle == self._asked):
            self._due_s = min(self._due_s, now_s)

    def keep(self, chunks: list[bytes]) -> None:
        """Keep what the link got until `hand_in`; the latest MAX_CHUNKS of it."""
        self._chunks += chunks
        del self._chunks[:-MAX_CHUNKS]

    def hand_in(self, now_s: float, *, peer: str) -> None:
        """Hand in the pieces that came.

        Args:
            now_s: the time.
            peer: whom to name in an error.

        Raises:
            HatchError: capture is not there; the piece is asked for again later.
            LinkError: too many pieces that nobody asked for.
        """
        while self._chunks:
            accepted = self._hatch.deliver(topics.POLICY, self._chunks.pop(0))
            self._stray = max(0, self._stray - 1) if accepted.valid else self._stray + 1
            if self._stray > MAX_STRAY:
                raise LinkError("the broker passes on pieces of policies unasked", where=peer)
            # Refused, it may be of the bundle before: the next receipt shall bring a question.
            self._under_way = False
            if accepted.valid and accepted.wants_policy:
                self._due_s = now_s

    def question(self, now_s: float) -> bytes | None:
        """Return the PolicyQuestion to publish now, or None.

        Raises:
            HatchError: capture is not there.
        """
        if now_s < self._due_s:
            return None
        self._due_s = now_s + self._period_s
        wanted = self._hatch.policy()
        self._under_way, self._asked = wanted is not None, wanted.bundle if wanted else b""
        if wanted is None and now_s - self._heard_s < self._period_s / 2:
            return None
        return (wanted or PolicyQuestion()).SerializeToString()
