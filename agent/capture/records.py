"""Records of the agent itself on their way into the vault: sealed in segments without rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from agent.digest import sha256
from agent.frames import FRAME, SIGNAL
from agent.pb.moment_pb2 import Moment
from agent.pb.record_pb2 import Record
from agent.policy.model import Policy
from agent.vault.segment import Draft, Piece

RESOLUTION_NS: Final = 1000  # of no rows


class Seals:
    """Seals records under one policy.

    Args:
        policy: in force.
        seal: seals a draft; returns its index, None if it could not be stored.
    """

    def __init__(self, policy: Policy, seal: Callable[[Draft], int | None]) -> None:
        self.policy, self._seal = policy, seal
        self._dictionary = sha256(policy.dictionary)

    def seal(
        self, records: Sequence[Record], now: Moment, *, lane: int, recipients: int, keep_s: int,
        consent: str = "", holds: Piece | None = None,
    ) -> int | None:  # fmt: skip
        """Seal records; return the index of their entry, None if they could not be stored.

        Args:
            records: at least one.
            now: when they were noted.
            lane: sealed_pb2.Lane.
            recipients: sealed_pb2.Recipients.
            keep_s: how long the car may keep them.
            consent: the category of the consent that they are kept under.
            holds: the piece of the recorder's window that an event holds.

        Raises:
            SpoolError: the storage failed.
        """
        return self._seal(Draft(
            frames=np.zeros(0, FRAME), signals=np.zeros(0, SIGNAL), channels=(),
            recipients=recipients, lane=lane, resolution_ns=RESOLUTION_NS, keep_order=False,
            opened=now, closed=now, policy=self.policy.digest, dictionary=self._dictionary,
            keep_s=keep_s, records=tuple(records), consent=consent,
            holds=holds,
        ))  # fmt: skip
