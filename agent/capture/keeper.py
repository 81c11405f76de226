"""What a policy in force needs of a vault: the vault itself, or one that only weighs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from google.protobuf.message import Message

from agent.pb.ledger_pb2 import Range
from agent.policy.camera import Decision
from agent.vault.incidents import Hold
from agent.vault.segment import Draft


class Keeper(Protocol):
    """Takes drafts and entries; see agent/vault/vault.py for what each call promises."""

    def seal(self, draft: Draft) -> int | None:
        """Seal and store a draft, and begin its hold; its index, or None."""

    def record(self, what: Message, body: bytes = b"") -> int:
        """Append an entry; its index."""

    def release(self, record: int, *, state: int) -> tuple[list[Range], int]:
        """Hold nothing more; the segments that are held, and the index of the entry."""

    def holds(self) -> Sequence[Hold]:
        """Return the holds that are open."""

    def roll(self, window_ns: int) -> object:
        """Let the recorder's window move on."""

    def withdraw(self, category: str) -> int:
        """Forget what was kept under a consent."""

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value."""

    def remembered(self, key: str) -> bytes | None:
        """Return a small value."""


class GateWriter(Protocol):
    """Tells the cameras; see agent/capture/gate.py."""

    def write(self, decision: Decision, boottime_ns: int) -> bool:
        """Write the decision."""

    def close(self, boottime_ns: int) -> bool:
        """Write that the gate is closed for good."""
