"""What of a vehicle's logs is a person's: the time of their stays, and what is sealed to them."""

from __future__ import annotations

from dataclasses import dataclass

from agent.errors import SealError, StationError
from agent.evidence.bundle import Asked
from agent.evidence.disclosure import Disclosure, disclose, indices_of, parse
from agent.evidence.leaving_out import OtherCategories, bounded
from agent.evidence.owner_request import OwnerRequest
from agent.evidence.source import OTHERS
from agent.station.people import Stay, entered_again, stays
from agent.station.store import Store
from agent.station.store_ledger import StoreLedger, ledgers
from agent.vault.opening import parse_session


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a log that is of a stay.

    Attributes:
        ledger: the log, up to the entry that ended the stay.
        begin: its first entry.
        stay: what it is of.
    """

    ledger: StoreLedger
    begin: int
    stay: Stay


def refused(why: str, *, todo: str = "") -> StationError:
    """Return what is said of a request that is not served."""
    return StationError(f"the request is refused: {why}", todo=todo)


def parts_of(store: Store, request: OwnerRequest) -> list[Part]:
    """Return the parts of the logs that a request may have; of one log, of the last stay.

    Raises:
        StationError: there are none, and why.
        SpoolError: the store cannot be read.
    """
    kid = bytes.fromhex(request.kid)
    known: list[Stay] = []
    found: list[Part] = []
    goes_on = False  # the log before ended within a stay of this person
    for ledger in ledgers(store, request.vehicle):
        every = stays(ledger, kid)
        mine = [one for one in every if one.sign == request.sign_hash]
        known += every
        for stay in [one for one in mine if meets(one, request)][-1:]:
            part = ledger if stay.last is None else ledger.until(stay.last + 1)
            carried = goes_on and entered_again(ledger, stay)
            found.append(Part(part, 0 if carried else stay.first, stay))
        goes_on = bool(mine) and mine[-1].last is None
    if not found:
        _refuse(request, known)
    return found


def _refuse(request: OwnerRequest, known: list[Stay]) -> None:
    if not known:
        raise refused(
            f"nobody with the key {request.kid} is or was enrolled in {request.vehicle}",
            todo="if the car did enroll it, wait until the region has co-signed that",
        )
    if all(one.sign != request.sign_hash for one in known):
        raise refused(f"it is not signed with the key that {request.kid} was enrolled with")
    raise refused(f"{request.kid} was not enrolled at the time that it asks for")


def meets(stay: Stay, request: OwnerRequest) -> bool:
    """Return whether a stay has anything of the time that is asked for."""
    if request.from_ns is not None and stay.to_ns is not None and stay.to_ns < request.from_ns:
        return False
    return request.to_ns is None or stay.from_ns <= request.to_ns


def clipped(request: OwnerRequest, parts: list[Part]) -> Asked:
    """Return what is asked for, as far as it is the person's."""
    begins, newest = min(part.stay.from_ns for part in parts), 0
    last = parts[-1].ledger
    for index, stored in last.entries(last.size() - 1, last.size()):
        newest = parse(last.log, index, stored).at.unix_ns
    low = begins if request.from_ns is None else max(begins, request.from_ns)
    return bounded(Asked(low, request.to_ns, request.categories), newest)


def disclosed(part: Part, asked: Asked, kid: bytes) -> Disclosure | None:
    """Choose what a bundle has of a part; None if nothing of it can be read.

    Raises:
        SpoolError: the store cannot be read.
    """
    theirs = _Theirs(part.ledger, kid, asked.categories)
    found = disclose(
        part.ledger, asked.from_ns, asked.to_ns, begin=part.begin, leave_out=theirs
    )  # fmt: skip
    if found is None or not found.has(0):
        return None
    entries = found.entries
    out = {
        index for index in found.bodies
        if entries[index].HasField("session") and not theirs.has(index)
    }  # fmt: skip
    if out:
        found.bodies = indices_of(index for index in found.bodies if index not in out)
        left = {*found.left_out.get(OTHERS, ()), *out}
        found.left_out[OTHERS] = indices_of(sorted(left))
    return found


class _Theirs:
    """Leaves out what is sealed to others, and what is of other categories; a `LeaveOut`."""

    def __init__(self, ledger: StoreLedger, kid: bytes, categories: tuple[str, ...]) -> None:
        self._ledger, self._kid = ledger, kid
        self._others = OtherCategories(ledger, categories, lambda _: None)
        self._begun: dict[bytes, int] = {}
        self._has: dict[int, bool] = {}

    def __call__(self, found: Disclosure, index: int) -> str:
        """Return why a segment stays out, "" if it does not."""
        if not self._begun:
            self._begun = {
                entry.session.session: i
                for i, entry in found.entries.items() if entry.HasField("session")
            }  # fmt: skip
        begun = self._begun.get(found.entries[index].segment.session)
        if begun is None or not self.has(begun):
            return OTHERS
        return self._others(found, index)

    def has(self, index: int) -> bool:
        """Return whether a session is sealed to the person, alone or with others."""
        if index not in self._has:
            self._has[index] = self._names(self._ledger.body(index) or b"")
        return self._has[index]

    def _names(self, body: bytes) -> bool:
        try:
            wraps = parse_session(body)[2]
        except SealError:
            return False
        return any(self._kid in wrap.kid for wrap in wraps.wrap)
