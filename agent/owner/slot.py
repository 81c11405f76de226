"""Who is enrolled now: looked at twice a second by the sealer.

- The file is the truth. Looking at it costs one stat() as long as it is the same file.
- An entry of an enrollment names the key that the person signs with: so the region knows whose
  request it is, though it never saw the car's code.
- What the ledger says is made to agree with it: the difference to what was entered last is entered,
  however it came about. After a crash the last entries may come again.
- A file that cannot be read is nobody.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.digest import sha256
from agent.errors import InlandError
from agent.owner.presence import Presence
from agent.owner.register import OWNER, Register, of_epoch
from agent.pb.ledger_pb2 import OwnerChange
from agent.vault.enrolled import OwnerStep

KEY: Final = "people"  # of what is remembered
_ROLES: Final = {True: OwnerChange.OWNER_OF_CAR, False: OwnerChange.DRIVER_OF_CAR}

log = logging.getLogger(__name__)


class OwnerSlot:
    """Watches the register. One thread, but for what `presence` does.

    Args:
        path: state/owners.json.
        epoch: present ownership of the car.
        presence: its codes end in time.
        remembered: what was entered last, as `remember` was given it.
        remember: keeps it over restarts.
    """

    def __init__(
        self, path: Path, epoch: int, presence: Presence | None, *, remembered: bytes | None,
        remember: Callable[[bytes], None],
    ) -> None:  # fmt: skip
        self._path, self._epoch, self._presence = path, epoch, presence
        self._remember = remember
        self._entered = remembered or b""
        self._told = _parse(self._entered)
        self._identity: tuple[int, int, int] | None = None
        self._first, self._complained = True, ""
        self._due = self._entered

    def look(self) -> OwnerStep | None:
        """Return who is enrolled if that is news, or the first look; None if nothing changed."""
        if self._presence is not None:
            self._presence.expire()
        identity = _identity(self._path)
        if identity == self._identity and not self._first:
            return None
        self._identity, self._first = identity, False
        try:
            found = of_epoch(self._path, self._epoch)
        except InlandError as error:
            found = Register(self._epoch)
            if str(error) != self._complained:
                self._complained = str(error)
                log.error("people: %s", error)
        people = {one.id: (one.role == OWNER, sha256(one.key.sign).hex()) for one in found.people}
        entries = _difference(self._told, (people, found.driving))
        self._told = people, found.driving
        self._due = json.dumps([people, found.driving]).encode()
        return OwnerStep(
            found.keys, entries, len(people), found.driving, found.onlookers
        )  # fmt: skip

    def entered(self) -> None:
        """Note that the entries of the last step are in the ledger."""
        if self._due != self._entered:
            self._remember(self._due)
            self._entered = self._due


_People = dict[str, tuple[bool, str]]  # by id: whether owner; SHA-256 of the key that signs
_Told = tuple[_People, str]  # and who drives


def _difference(before: _Told, after: _Told) -> tuple[OwnerChange, ...]:
    found = [_entry(OwnerChange.REMOVED, id_, before[0]) for id_ in before[0]
             if before[0][id_] != after[0].get(id_)]  # fmt: skip
    found += [_entry(OwnerChange.ENROLLED, id_, after[0]) for id_ in after[0]
              if after[0][id_] != before[0].get(id_)]  # fmt: skip
    if after[1] != before[1]:
        drives = _entry(OwnerChange.DRIVES, after[1], after[0]) if after[1] else None
        found.append(drives or OwnerChange(what=OwnerChange.NOBODY_DRIVES))
    return tuple(found)


def _entry(what: OwnerChange.What, id_: str, people: _People) -> OwnerChange:
    is_owner, sign = people[id_]
    found = OwnerChange(kid=bytes.fromhex(id_), role=_ROLES[is_owner], what=what)
    if what == OwnerChange.ENROLLED:
        found.sign = bytes.fromhex(sign)
    return found


def _parse(data: bytes) -> _Told:
    """Return what this code remembered; it stands in the spool, which is checked as a whole.

    What an older version remembered knows no key that signs: who is enrolled is entered again.
    """
    if not data:
        return {}, ""
    people, driving = json.loads(data)
    known = {id_: (one, "") if isinstance(one, bool) else tuple(one) for id_, one in people.items()}
    return known, str(driving)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
