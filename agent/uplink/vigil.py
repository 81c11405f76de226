"""Whether a link is alive. Pure: times are arguments, seconds that count through suspend.

| the link | what is done | it is dead |
|---|---|---|
| is being made: CONNECT has left | nothing | answer_s later |
| is quiet | after probe_s the broker is asked for a sign of life | after silence_s; what is heard later makes it live again |
| has slept: a turn took gap_s longer than it was meant to | the broker is asked at once | without an answer in wake_s |
| has slept for longer than the broker waits for us | nothing | at once: it was given up |

A car that is suspended, or whose agent is stopped, hears nothing and misses nothing: only what comes
after it woke tells whether the link is still there. Often it is not, and nobody says so, because a
router on the way has forgotten it. Waiting for the usual 28 s would be too long then.

A whole packet is a sign of life, and so is a large packet of ours that gets through slowly: the
kernel's queue shrinks by what the peer acknowledged. A queue that becomes empty does not count,
since a probe would do that on a host whose broker is dead.
"""  # noqa: E501 - a table

from __future__ import annotations

from typing import Final

from agent.errors import LinkError, SilentLinkError
from agent.uplink.timing import Timing

LATELY_S: Final = 5.0  # a link that outlives its sleep by so much dies of something else


class Vigil:
    """Watches over one link.

    Args:
        timing: intervals.
        now_s: when the connection was begun.
        peer: whom to name in an error.

    Attributes:
        ready: the broker has answered; set by whoever hears it.
    """

    def __init__(self, timing: Timing, now_s: float, *, peer: str) -> None:
        self.ready = False
        self._slept_s = 0.0  # the last time
        self._timing, self._peer = timing, peer
        self._asked_s = self._heard_s = self._turned_s = now_s
        self._probed_s = now_s
        self._woke_s: float | None = None  # and nothing was heard since
        self._last_woke_s = now_s
        self._queued = 0  # bytes in the kernel that the peer has not acknowledged

    @property
    def has_slept(self) -> bool:
        """Whether there was a time in which nobody looked after the link."""
        return self._slept_s > 0

    def slept_lately_s(self, now_s: float) -> float:
        """Return how long the last sleep was, if it has just ended; else 0."""
        return self._slept_s if now_s - self._last_woke_s <= LATELY_S else 0.0

    def is_silent(self, now_s: float) -> bool:
        """Return whether nothing was heard for too long."""
        return now_s - self._heard_s > self._timing.silence_s

    def opened(self, now_s: float) -> None:
        """Note that TCP and TLS are through, or have failed, and CONNECT has left."""
        self._asked_s = self._heard_s = self._probed_s = now_s
        self.turned(now_s, self._timing.opening_s)

    def heard(self, now_s: float) -> None:
        """Note a whole packet."""
        self._heard_s, self._woke_s = now_s, None

    def queue(self, queued: int, now_s: float) -> None:
        """Note how many bytes the peer has not acknowledged."""
        if 0 < queued < self._queued:
            self.heard(now_s)
        self._queued = queued

    def turned(self, now_s: float, meant_s: float = 0.0) -> None:
        """Note that the loop has come round, after a wait that was meant to take so long."""
        slept_s = now_s - self._turned_s - meant_s
        self._turned_s = now_s
        if slept_s <= self._timing.gap_s:
            return
        self._slept_s, self._last_woke_s = slept_s, now_s
        if self.ready:
            self._heard_s = self._woke_s = now_s
        if self.ready and slept_s >= self._timing.given_up_s:
            raise LinkError(f"asleep for {slept_s:.0f} s: the broker does not wait so long",
                            where=self._peer)  # fmt: skip

    def wants_a_sign(self, now_s: float) -> bool:
        """Return whether the broker shall be asked for a sign of life now.

        Raises:
            LinkError: the link is dead.
        """
        silent_s = now_s - self._heard_s
        if not self.ready and now_s - self._asked_s > self._timing.answer_s:
            raise LinkError(f"no answer in {self._timing.answer_s} s", where=self._peer)
        if self._woke_s is not None and silent_s > self._timing.wake_s:
            raise LinkError(f"dead: nothing heard for {silent_s:.1f} s after a sleep",
                            where=self._peer)  # fmt: skip
        if self.is_silent(now_s):
            raise SilentLinkError(f"dead: nothing heard for {silent_s:.0f} s", where=self._peer)
        if not self.ready:
            return False
        asleep = self._woke_s is not None and self._probed_s < self._woke_s
        if asleep or min(silent_s, now_s - self._probed_s) > self._timing.probe_s:
            self._probed_s = now_s
            return True
        return False
