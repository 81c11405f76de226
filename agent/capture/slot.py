"""The policy in force: looked at twice a second, read through the same door as at install.

- The active file decides. It is replaced whole (rename), so looking at it never sees a half.
- A file that is refused does not replace the policy in force.
- At a start the previous policy is tried if the active one is refused; then nothing is kept.
- A policy that has expired keeps nothing. The caller's time falls only when the region signs one:
  then what had expired by a clock that was wrong is read again. A clock that is set back is not it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.digest import sha256
from agent.errors import InlandError
from agent.files import file_identity
from agent.policy import store
from agent.policy.compiled import load_policy
from agent.policy.model import Policy

EXPIRED: Final = "expired"
UNREADABLE: Final = "unreadable"
PUT_BACK: Final = "put-back"
RESTORED: Final = "restored"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Change:
    """What is in force from now on.

    Attributes:
        policy: None: nothing is kept.
        data: the compiled bytes, empty without a policy.
        why: started, installed, removed, expired, unreadable, put-back, restored: as in
            PolicyInForce.
    """

    policy: Policy | None
    data: bytes
    why: str

    @property
    def hash(self) -> bytes:
        """SHA-256 of the compiled bytes: what segments and the ledger call the policy."""
        return sha256(self.data)


class PolicySlot:
    """Watches a policy folder.

    Args:
        folder: where `inland policy install` puts the active policy.
        region: the car's region; a policy for another one is refused.
    """

    def __init__(self, folder: Path, region: str) -> None:
        self._folder, self._region = folder, region
        self._seen: tuple[int, int, int] | None = None
        self._in_force: Change | None = None
        self._looked_ns = 0
        self._refused = False  # the active file, when it was looked at last

    def look(self, now_ns: int) -> Change | None:
        """Return what changed since the last look; None if nothing did.

        Args:
            now_ns: the time by which things end (`Vault.highest_ns`), ns since the Unix epoch.
        """
        fell, self._looked_ns = now_ns < self._looked_ns, now_ns
        change = self._look(now_ns)
        if change is None and fell:
            change = self._restored(now_ns)
        if change is not None:
            self._in_force = change
        return change

    def put_back(self, now_ns: int) -> Change:
        """Return what is in force after the policy of the last look was put back.

        Args:
            now_ns: as in `look`.
        """
        self._seen = file_identity(self._folder / store.ACTIVE)
        change = self._read(first=True, now_ns=now_ns)
        self._in_force = Change(change.policy, change.data, PUT_BACK) if change else None
        return self._in_force or Change(None, b"", PUT_BACK)

    def _look(self, now_ns: int) -> Change | None:
        first = self._in_force is None
        seen = file_identity(self._folder / store.ACTIVE)
        if first or seen != self._seen:
            self._seen = seen
            return self._read(first=first, now_ns=now_ns)
        policy = self._in_force.policy if self._in_force else None
        if policy is not None and policy.not_after_ns <= now_ns:
            self._refused = True
            return Change(None, b"", EXPIRED)
        return None

    def _restored(self, now_ns: int) -> Change | None:
        """Return what is in force now that the time has fallen: what was refused may be good."""
        if not self._refused or self._in_force is None:
            return None
        change = self._read(first=self._in_force.why == UNREADABLE, now_ns=now_ns)
        if change is None or change.policy is None:
            return None
        return Change(change.policy, change.data, RESTORED)

    def _read(self, *, first: bool, now_ns: int) -> Change | None:
        found = self._refused = False
        for read in (store.active, store.previous) if first else (store.active,):
            try:
                data = read(self._folder)
                if data is None:
                    continue
                found = True
                policy = load_policy(data, region=self._region, now_ns=now_ns)
            except InlandError as error:
                found = self._refused = True
                log.error("policy: %s", error)
                continue
            return Change(policy, data, "started" if first else "installed")
        if not found:
            return Change(None, b"", "started" if first else "removed")
        return Change(None, b"", UNREADABLE) if first else None
