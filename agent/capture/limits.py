"""How many events of each rule there were in the present period, for its `at_most`.

Which event was when is sealed, so it must not stand beside the seals in the clear: `n` events of a
rule today, and the times of today's records in the ledger, would be a diary. Therefore

- counts by rule stand in a file of the run folder, which is in the computer's memory: they survive
  the agent's end, and are gone with the boot that they were made in;
- the disk knows one number, which is how many events there were in all: see `incidents.py`.

After a reboot each rule has its `at_most` anew. A file that cannot be written is logged once; then
counts last as long as the process.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from agent.digest import sha256
from agent.policy.clauses import EventRule

NAME: Final = "events.json"
MAX_FILE_BYTES: Final = 16 * 1024  # 64 events take 3 KiB

log = logging.getLogger(__name__)


class Limits:
    """The counts of a boot; they go on over policies.

    Args:
        path: of the file, in a folder that exists when an event is counted; None: no file.
        boot_id: of this boot, 16 bytes.

    Attributes:
        last_unix_ns: when the last event was, of whatever rule; 0: none in this boot.
    """

    def __init__(self, path: Path | None, boot_id: bytes) -> None:
        self._path, self._boot_id = path, boot_id
        self._of_period: dict[str, tuple[int, int]] = {}  # by rule: which period, how many in it
        self.last_unix_ns = 0
        self._is_failing = False
        if path is not None:
            self._load(path)

    def follow(self, rules: Iterable[EventRule]) -> None:
        """Forget the counts of rules that the policy in force has not."""
        mine = {_short(rule) for rule in rules}
        self._of_period = {key: one for key, one in self._of_period.items() if key in mine}

    def so_far(self, rule: EventRule, now_ns: int) -> int:
        """Return how many events of a rule were counted in the present period."""
        period, count = self._of_period.get(_short(rule), (0, 0))
        return count if period == _period(rule, now_ns) else 0

    def add(self, rule: EventRule, now_ns: int) -> None:
        """Count an event that was recorded.

        Args:
            rule: whose.
            now_ns: trusted time, ns since the Unix epoch.
        """
        self._of_period[_short(rule)] = _period(rule, now_ns), self.so_far(rule, now_ns) + 1
        self.last_unix_ns = now_ns
        if self._path is not None:
            self._store(self._path)

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                told: dict[str, Any] = json.loads(file.read(MAX_FILE_BYTES))
            if told["boot"] != self._boot_id.hex():
                return
            counts = {str(rule): (int(period), int(n)) for rule, (period, n) in told["of"].items()}
            self.last_unix_ns, self._of_period = int(told["last"]), counts
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError,
                RecursionError):  # fmt: skip
            log.error("%s is damaged: events are counted anew", path)

    def _store(self, path: Path) -> None:
        told = {"boot": self._boot_id.hex(), "last": self.last_unix_ns, "of": self._of_period}
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
