"""Policies over the air, capture's end: from a digest in a receipt to a policy in force.

    hatch thread    named, wanted, chunk
    own thread      step: unpack, install, note what became of it
    sealer thread   take_refusals: what goes into the ledger

The running capture sees the new active file by itself (`agent/capture/slot.py`). How it is wired:

    capture.py, __init__:
        self.fetch = PolicyFetch(
            config.policy, Installer(config.path), enabled=bool(card.policy_root),
            now_ns=lambda: self.vault.trusted()[0],
        )
    capture.py, start:  crew.start("policy", self.fetch.step)
    capture.py, end:    self.fetch.close()      (after crew.join, whether or not it raised)
    answers.py, __call__:
        if what == "deliver" and request.deliver.kind == "policy":
            return HatchReply(accepted=self._fetch.chunk(request.deliver.payload))
        if what == "policy":
            return HatchReply(policy=self._fetch.wanted() or PolicyQuestion())
    answers.py, _receipt, after vault.receipt():
        wants = self._fetch.named(self._vault.offered[1])
        return Accepted(confirmed=confirmed, valid=valid, wants_policy=wants)
    answers.py, status:  "policy_update": self._fetch.status()
    capture.py, work, after sealer.step() (that thread is the sealer's):
        for refusal in self.fetch.take_refusals():
            self.vault.record(refusal)
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent.capture.incoming import FOLDER, INSTALLED, REFUSED, Incoming
from agent.clock import boottime_s
from agent.errors import PolicyError
from agent.pb.delivery_pb2 import PolicyQuestion
from agent.pb.hatch_pb2 import Accepted
from agent.pb.ledger_pb2 import Refusal
from agent.service.installer import Installer

LOOK_S: Final = 0.5  # how often `step` wants to be called
STORAGE: Final = "storage"
MAX_REFUSALS: Final = 64  # that nobody has taken

log: Final = logging.getLogger(__name__)


class PolicyFetch:
    """See the module's contract.

    Args:
        folder: state/policy.
        installer: runs the one-shot process.
        now_ns: trusted time, ns since the Unix epoch.
        enabled: False for a car whose card names no policy root: it could not check a bundle.
        clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(
        self,
        folder: Path,
        installer: Installer,
        *,
        now_ns: Callable[[], int],
        enabled: bool = True,
        clock: Callable[[], float] = boottime_s,
    ) -> None:
        self._folder, self._installer, self._enabled = folder, installer, enabled
        self._incoming = Incoming(folder, now_ns=now_ns, clock=clock)
        self._installing = ""  # SHA-256 of the bundle, hex
        self._refusals: deque[Refusal] = deque(maxlen=MAX_REFUSALS)

    def named(self, digest: bytes) -> bool:
        """Take the digest that a verified receipt names; return whether that bundle is wanted."""
        return self._enabled and self._incoming.named(digest)

    def wanted(self) -> PolicyQuestion | None:
        """Return what to ask the region for, or None."""
        return self._incoming.wanted()

    def chunk(self, payload: bytes) -> Accepted:
        """Take a piece of a bundle; `wants_policy` in the answer asks for the next one."""
        return self._incoming.chunk(payload)

    def step(self) -> float:
        """Install what has come, without waiting for it; return the wait until the next step, s."""
        if self._installing:
            result = self._installer.poll()
            if result is not None:
                bundle, self._installing = self._installing, ""
                self._ended(bundle, result.code, result.line)
            return LOOK_S
        try:
            bundle = self._incoming.take() or ""
            if bundle:
                self._installer.begin(self._folder / FOLDER)
                self._installing = bundle
        except PolicyError as error:
            self._refuse("bundle", str(error))
        except OSError as error:
            self._ended(self._incoming.processed.bundle, STORAGE, str(error))
        return LOOK_S

    def take_refusals(self) -> list[Refusal]:
        """Return what is to be written into the ledger since the last call. Any thread."""
        return [self._refusals.popleft() for _ in range(len(self._refusals))]

    def status(self) -> dict[str, Any]:
        """Return what `inland status --json` says of it: plain values, sizes in bytes."""
        offered, received, size = self._incoming.progress()
        last = self._incoming.processed
        return {
            "offered": offered or None,
            "received": received,
            "size": size,
            "installing": bool(self._installing),
            "bundle": last.bundle or None,
            "outcome": last.outcome or None,
            "code": last.code or None,
            "at_unix_ns": last.at_unix_ns or None,
        }

    def close(self) -> None:
        """End an installation that is running: it is tried again at the next start."""
        self._installer.close()

    def _ended(self, bundle: str, code: str, line: str) -> None:
        if code:
            self._refuse(code, line)
        else:
            log.info("policy: %s", line)
        try:
            self._incoming.done(bundle, REFUSED if code else INSTALLED, code)
        except OSError as error:
            log.error("policy: what became of it cannot be noted: %s", error.strerror)

    def _refuse(self, code: str, line: str) -> None:
        log.error("policy: a bundle was not installed (%s): %s", code, line)
        self._refusals.append(Refusal(what="policy", code=code, count=1))
