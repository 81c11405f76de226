"""What a bundle leaves out of what was asked for, and where its time ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.digest import sha256
from agent.errors import PolicyError
from agent.evidence.bundle import Asked
from agent.evidence.categories import possible
from agent.evidence.disclosure import Disclosure, Ledger
from agent.evidence.selection import AFTER_NS
from agent.policy.compiled import read_policy
from agent.policy.model import Policy
from agent.vault.opening import parse_segment

LEFT_OUT: Final = "of other categories"


def bounded(asked: Asked, newest_ns: int) -> Asked:
    """Return what is asked for; a time that is not over yet goes to the end of the log.

    Args:
        asked: what for.
        newest_ns: moment of the last entry that there is.
    """
    if asked.to_ns is None or newest_ns > asked.to_ns + AFTER_NS:
        return asked
    return Asked(asked.from_ns, None, asked.categories, asked.lanes)


class OtherCategories:
    """Leaves out what cannot be of the categories that were asked for; a `LeaveOut`.

    Args:
        ledger: of the bundle.
        categories: that were asked for; empty: all.
        consent: of the body of an entry, see `possible`.
    """

    def __init__(
        self, ledger: Ledger, categories: tuple[str, ...], consent: Callable[[int], str | None]
    ) -> None:
        self._ledger, self._wanted, self._consent = ledger, frozenset(categories), consent
        self._policies: dict[bytes, Policy | None] | None = None

    def __call__(self, found: Disclosure, index: int) -> str:
        """Return why a segment stays out, "" if it does not."""
        if not self._wanted:
            return ""
        if self._policies is None:
            self._policies = self._read_policies(found)
        body = self._ledger.body(index)
        if body is None:
            return ""
        segment = found.entries[index].segment
        policy = self._policies.get(parse_segment(body)[1].policy)
        recipients = found.recipients.get(segment.session, 0)
        kinds = possible(policy, recipients, segment.lane, self._consent(index))
        return LEFT_OUT if kinds and kinds.isdisjoint(self._wanted) else ""

    def _read_policies(self, found: Disclosure) -> dict[bytes, Policy | None]:
        read: dict[bytes, Policy | None] = {}
        for index, entry in found.entries.items():
            if entry.HasField("policy") and (body := self._ledger.body(index)):
                try:
                    read[sha256(body)[:8]] = read_policy(body)
                except PolicyError:  # of another version: its rules are not known
                    read[sha256(body)[:8]] = None
        return read
