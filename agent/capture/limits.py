"""How many events of each rule there were in the present period, for its `at_most`.

Which event was when is sealed, so it must not stand beside the seals in the clear: `n` events of a
rule today, and the times of today's records in the ledger, would be a diary. Therefore

- counts by rule stand in a file of the run folder, which is in the computer's memory: they survive
  the agent's end, and are gone with the boot that they were made in;
- the disk knows one number, which is how many events there were in all: see `incidents.py`.

The two latest periods are remembered, so that a clock that is set to and fro does not begin one
anew each time. After a reboot each rule has its `at_most` anew. A file that cannot be written is
logged once; then counts last as long as the process.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agent.digest import sha256
from agent.files import read_plain
from agent.pb.moment_pb2 import Moment
from agent.policy.clauses import EventRule

NAME: Final = "events.json"
PERIODS: Final = 2
MAX_FILE_BYTES: Final = 16 * 1024  # 64 events take 5 KiB

log = logging.getLogger(__name__)


class Limits:
    """The counts of a boot; they go on over policies.

    Args:
        path: of the file, in a folder that exists when an event is counted; None: no file.
        boot_id: of this boot, 16 bytes.
    """

    def __init__(self, path: Path | None, boot_id: bytes) -> None:
        self._path, self._boot_id = path, boot_id
        # By rule: the two latest periods, and how many in each.
        self._of_period: dict[str, dict[int, int]] = {}
        self._last_ns = (
            0  # CLOCK_BOOTTIME of the last event, of whatever rule; 0: none in this boot
        )
        self._is_failing = False
        if path is not None:
            self._load(path)

    def follow(self, rules: Iterable[EventRule]) -> None:
        """Forget the counts of rules that the policy in force has not."""
        mine = {_short(rule) for rule in rules}
        self._of_period = {key: one for key, one in self._of_period.items() if key in mine}

    def so_far(self, rule: EventRule, now_ns: int) -> int:
        """Return how many events of a rule were counted in the present period."""
        return self._of_period.get(_short(rule), {}).get(_period(rule, now_ns), 0)

    def since_last_ns(self, now: Moment) -> int:
        """Return how long ago the last event of this boot was, ns; 0 if there was none."""
        return max(0, now.boottime_ns - self._last_ns) if self._last_ns else 0

    def add(self, rule: EventRule, now: Moment) -> None:
        """Count an event that was recorded now."""
        counts = self._of_period.setdefault(_short(rule), {})
        period = _period(rule, now.unix_ns)
        counts[period] = counts.pop(period, 0) + 1
        if len(counts) > PERIODS:
            del counts[next(iter(counts))]
        self._last_ns = now.boottime_ns
        if self._path is not None:
            self._store(self._path)

    def _load(self, path: Path) -> None:
        try:
            told: dict[str, Any] = json.loads(read_plain(path, MAX_FILE_BYTES))
            if told["boot"] != self._boot_id.hex():
                return
            counted = {
                str(rule): {int(period): int(n) for period, n in counts}
                for rule, counts in told["of"].items()
            }
            self._last_ns, self._of_period = int(told["last"]), counted
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
                RecursionError):  # fmt: skip
            log.error("%s is damaged: events are counted anew", path)

    def _store(self, path: Path) -> None:
        of = {rule: list(counts.items()) for rule, counts in self._of_period.items()}
        told = {"boot": self._boot_id.hex(), "last": self._last_ns, "of": of}
        new = path.with_name(f".{path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
                file.write(json.dumps(told, separators=(",", ":")).encode())
            new.replace(path)  # not made durable: it shall not be
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning("cannot write %s: %s", path, error.strerror)
            self._is_failing = True


def _period(rule: EventRule, now_ns: int) -> int:
    return now_ns // rule.period_ns if rule.period_ns else 0


def _short(rule: EventRule) -> str:
    return sha256(rule.id.encode()).hex()[:12]
