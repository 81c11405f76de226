"""What the uplink tells capture of itself, and what it says in the log.

An error is said once, not each time it repeats, and stands in the report until another one does. A
capture that is away for a moment, because it starts or ends, is no error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from agent.errors import HatchError, LinkError
from agent.hatch import HatchClient
from agent.pb.hatch_pb2 import LinkReport

log: Final = logging.getLogger(__name__)

MAX_ERROR_CHARS: Final = 300
ABSENT_S: Final = 5.0  # how long capture may be away before anybody is told


class Teller:
    """Keeps the report.

    Args:
        hatch: the way to capture.
        clock: seconds of CLOCK_BOOTTIME.
        report_s: between two reports.

    Attributes:
        report: what is told.
        due_s: when the next report is.
    """

    def __init__(self, hatch: HatchClient, clock: Callable[[], float], report_s: float) -> None:
        self.report = LinkReport()
        self.due_s = -1e9
        self._hatch, self._clock, self._report_s = hatch, clock, report_s
        self.answered()

    def answered(self) -> None:
        """Note that capture is there."""
        self._answered_s = self._clock()

    def at_once(self) -> None:
        """Let the next report come at once."""
        self.due_s = -1e9

    def note(self, error: LinkError | HatchError) -> None:
        """Record an error in the report; log it once."""
        if isinstance(error, HatchError) and self._clock() < self._answered_s + ABSENT_S:
            return  # capture is starting, or ending before us
        text = str(error)[:MAX_ERROR_CHARS]
        if text != self.report.last_error:
            log.warning("%s", text)
        self.report.last_error = text

    def tell(self, now_s: float) -> None:
        """Report if it is time.

        Raises:
            HatchError: capture is not there.
        """
        if now_s < self.due_s:
            return
        self.due_s = now_s + self._report_s
        self._hatch.report(self.report)
        self._answered_s = now_s

    def try_to_tell(self, now_s: float) -> None:
        """Report if it is time; a hatch that is closed is no news here."""
        try:
            self.tell(now_s)
        except HatchError as error:
            log.debug("%s", error)
