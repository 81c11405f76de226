"""`<run>/camera-gate.json`: what the camera stack of the car reads before and while it records.

    {"gate": "closed", "reason": "zone", "decided_boottime_ns": 1, "valid_until_boottime_ns": 2,
     "sequence": 3}

- The file is replaced whole, by a rename, at each decision and once a second. Whoever watches the
  folder (inotify: IN_MOVED_TO) hears of a decision at once.
- It is good until `valid_until_boottime_ns` (CLOCK_BOOTTIME), 3 s after it was written. A file that
  is older, missing or not understood means closed: an agent that is dead opens nothing.
- `gate` is "open" or "closed", `reason` "" or one of parked, zone, no_fix, consent, policy;
  `decided_boottime_ns` is when this answer was first given, `sequence` counts the files of a run.
- Everybody may read it, so neither the place nor the class of a zone is in it. It is not made
  durable: the run folder does not survive a boot, and a decision must not.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.files import read_plain
from agent.policy.camera import CLOSED, Decision

NAME: Final = "camera-gate.json"
VALID_NS: Final = 3 * 10**9
REWRITE_NS: Final = 10**9
MAX_FILE_BYTES: Final = 4096
OPEN: Final = "open"
CLOSED_WORD: Final = "closed"

_log = logging.getLogger(__name__)


class GateFile:
    """The writer; one a run.

    Args:
        path: the file, in a folder that exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(f".{path.name}.new")
        self._decision: Decision | None = None
        self._decided_ns = 0
        self._written_ns = 0
        self._sequence = 0
        self._failing = False

    def write(self, decision: Decision, boottime_ns: int) -> bool:
        """Write the decision if it is another one, or if the file is a second old.

        A failure is logged once. The file is then taken away if that is possible, and it is stale
        after 3 s if not: the gate is closed either way.

        Args:
            decision: the gate's.
            boottime_ns: CLOCK_BOOTTIME.

        Returns:
            Whether the file says what was decided.
        """
        said = (decision.open, decision.reason)
        before = self._decision
        if before is None or said != (before.open, before.reason):
            self._decided_ns = boottime_ns
        elif not self._failing and 0 <= boottime_ns - self._written_ns < REWRITE_NS:
            return True
        self._decision, self._written_ns = decision, boottime_ns
        self._sequence += 1
        try:
            self._replace(self._text(decision, boottime_ns))
        except OSError as error:
            self._fail(error)
            return False
        if self._failing:
            self._failing = False
            _log.warning("camera gate: %s is written again", self._path)
        return True

    def close(self, boottime_ns: int) -> bool:
        """Write that the gate is closed; for the end of a run. Returns as `write` does."""
        self._decision = None
        return self.write(CLOSED, boottime_ns)

    def _text(self, decision: Decision, boottime_ns: int) -> bytes:
        values = {
            "gate": OPEN if decision.open else CLOSED_WORD,
            "reason": decision.reason,
            "decided_boottime_ns": self._decided_ns,
            "valid_until_boottime_ns": boottime_ns + VALID_NS,
            "sequence": self._sequence,
        }
        return json.dumps(values).encode() + b"\n"

    def _replace(self, text: bytes) -> None:
        # One writer, so one name will do; what a killed run left under it is written over.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._new, flags, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is
            file.write(text)
        self._new.replace(self._path)

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            _log.warning(
                "camera gate: cannot write %s: %s; cameras stay off", self._path, error.strerror
            )
        self._failing = True
        with contextlib.suppress(OSError):  # stale in 3 s at the latest
            self._path.unlink()


@dataclass(frozen=True, slots=True)
class GateView:
    """What a reader may believe.

    Attributes:
        open: cameras may record.
        reason: the file's, or missing | stale | unreadable.
    """

    open: bool
    reason: str


def read_gate(path: Path, boottime_ns: int) -> GateView:
    """Return what the file says now; closed if there is any doubt.

    Args:
        path: the file.
        boottime_ns: CLOCK_BOOTTIME now.
    """
    try:
        data = read_plain(path, MAX_FILE_BYTES)
        if len(data) > MAX_FILE_BYTES:
            return GateView(open=False, reason="unreadable")
        values = json.loads(data)
    except FileNotFoundError:
        return GateView(open=False, reason="missing")
    except (OSError, ValueError, RecursionError):
        return GateView(open=False, reason="unreadable")
    return _view(values, boottime_ns)


def _view(values: Any, boottime_ns: int) -> GateView:  # anything that JSON can say
    if not isinstance(values, dict):
        return GateView(open=False, reason="unreadable")
    until, gate, reason = (values.get(key) for key in ("valid_until_boottime_ns", "gate", "reason"))
    if type(until) is not int or gate not in (OPEN, CLOSED_WORD) or not isinstance(reason, str):
        return GateView(open=False, reason="unreadable")
    # Too far ahead is stale as well: a file of a boot before this one.
    if not 0 <= until - boottime_ns <= VALID_NS:
        return GateView(open=False, reason="stale")
    return GateView(open=gate == OPEN, reason=reason)
