"""Probation as the sealer's thread sees it: a disk that fails is logged, and no reason to stop."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.errors import InlandError
from agent.policy import probation

log = logging.getLogger(__name__)


class Probation:
    """Tells `agent.policy.probation` what happens to the policies of a run.

    Args:
        folder: state/policy.
        boot_id: of this boot, 16 bytes.
    """

    def __init__(self, folder: Path, boot_id: bytes) -> None:
        self._folder, self._boot_id = folder, boot_id

    def began(self, digest: bytes, boottime_ns: int) -> bool:
        """Note that a policy is about to be used; return whether it was put back instead."""
        try:
            return probation.began(self._folder, digest, self._boot_id, boottime_ns)
        except InlandError as error:
            log.error("policy on trial: %s", error)
            return False

    def proven(self) -> None:
        """Note that the policy in force has proved itself."""
        try:
            probation.proven(self._folder)
        except InlandError as error:
            log.error("policy on trial: %s", error)

    def ended_clean(self) -> None:
        """Note that the run ends because it was told to."""
        try:
            probation.ended_clean(self._folder)
        except InlandError as error:
            log.error("policy on trial: %s", error)
