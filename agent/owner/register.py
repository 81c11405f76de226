"""`state/owners.json`: who is enrolled in the car, and who drives. Public keys only.

- One JSON object, replaced whole under a lock, see `shared_file`. Reading needs no lock.
- Strict: an unknown key, a wrong type, a key that is none, and the file is damaged. A damaged file
  is nobody: what is for people is not kept. Whoever enrolls next keeps it aside first.
- One owner at a time; drivers beside. Who drives is one of them, or nobody who is enrolled.
- A register of another epoch is nobody's: the car was sold since.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent import shared_file
from agent.errors import ConfigError, InlandError, OwnerError
from agent.files import read_plain, sync_folder
from agent.owner.public import PublicKey
from agent.strict_json import fields, listed, parse_json, text, whole
from agent.vault.enrolled import Enrolled, Onlooker
from agent.vault.seal import opens_alone

FILE: Final = "owners.json"
FORMAT: Final = 1
MAX_BYTES: Final = 64 * 1024
MAX_PEOPLE: Final = 8
OWNER: Final = "owner"
DRIVER: Final = "driver"
ROLES: Final = (OWNER, DRIVER)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is enrolled.

    Attributes:
        role: owner or driver.
        key: public keys and name.
        since_ns: trusted time of the enrollment.
    """

    role: str
    key: PublicKey
    since_ns: int

    @property
    def id(self) -> str:
        """The kid, 16 hex digits."""
        return self.key.kid


@dataclass(frozen=True, slots=True)
class Register:
    """Who is enrolled. A value: changes return another one.

    Attributes:
        epoch: ownership of the car that it is of.
        people: the owner and drivers, in the order of enrollment.
        driving: id of who drives; empty: nobody who is enrolled.
    """

    epoch: int = 1
    people: tuple[Person, ...] = ()
    driving: str = ""

    def person(self, id_: str) -> Person | None:
        """Return who has an id."""
        return next((one for one in self.people if one.id == id_), None)

    @property
    def owner(self) -> Person | None:
        """The owner."""
        return next((one for one in self.people if one.role == OWNER), None)

    @property
    def keys(self) -> Enrolled:
        """What to seal to."""
        driver = self.person(self.driving)
        return Enrolled(
            self.owner.key.recipient if self.owner else None,
            driver.key.recipient if driver else None,
        )

    @property
    def onlookers(self) -> tuple[Onlooker, ...]:
        """What each of the people opens alone: never what is for the region, or for both."""
        return tuple(
            Onlooker(bytes.fromhex(one.id), one.key.recipient, one.key.sign, self._opens(one))
            for one in self.people
        )

    def _opens(self, person: Person) -> frozenset[int]:
        names = [OWNER] if person.role == OWNER else []
        names += [DRIVER] if person.id == self.driving else []
        return frozenset(one for name in names for one in opens_alone(name))

    def find(self, start: str) -> Person:
        """Return the one whose id begins so.

        Raises:
            OwnerError: nobody's, or several people's.
        """
        found = [one for one in self.people if start and one.id.startswith(start.lower())]
        if len(found) != 1:
            known = ", ".join(one.id for one in self.people) or "nobody is enrolled"
            what = f"'{start}' names {'several people' if found else 'nobody who is enrolled'}"
            raise OwnerError(what, todo=f"choose from: {known}" if self.people else known)
        return found[0]

    def check_room(self, role: str, key: PublicKey) -> None:
        """Raise OwnerError if somebody may not be enrolled now."""
        if known := self.person(key.kid):
            raise OwnerError(f"{key.kid} is enrolled already, as {known.role}")
        if role == OWNER and self.owner is not None:
            raise OwnerError(
                f"the owner {self.owner.id} is enrolled; a car has one",
                todo="`inland owner remove` it first, or `inland transfer` if the car was sold",
            )
        if len(self.people) >= MAX_PEOPLE:
            raise OwnerError(f"{MAX_PEOPLE} people are enrolled; there is no room for more")

    def enroll(self, role: str, key: PublicKey, now_ns: int) -> Register:
        """Add somebody; an owner drives from then on if nobody does.

        Raises:
            OwnerError: see `check_room`.
        """
        self.check_room(role, key)
        driving = self.driving or (key.kid if role == OWNER else "")
        return replace(self, people=(*self.people, Person(role, key, now_ns)), driving=driving)

    def remove(self, id_: str) -> Register:
        """Take somebody out. If it drives, nobody does: it is another's data from then on."""
        return replace(
            self, people=tuple(one for one in self.people if one.id != id_),
            driving="" if self.driving == id_ else self.driving,
        )  # fmt: skip

    def drive(self, id_: str) -> Register:
        """Say who drives; empty: nobody who is enrolled."""
        return replace(self, driving=id_)


def read(path: Path) -> Register:
    """Return the register; an empty one if there is no file.

    Raises:
        ConfigError: it cannot be read, or is damaged.
    """
    try:
        data = read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        return Register()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _damaged(path, f"has more than {MAX_BYTES} bytes")
    try:
        return _register(parse_json(data))
    except (ValueError, InlandError) as error:
        raise _damaged(path, f"is damaged: {error}") from None


def of_epoch(path: Path, epoch: int) -> Register:
    """Return the register of an ownership; an empty one if the file is of another.

    Raises:
        ConfigError: it cannot be read, or is damaged.
    """
    found = read(path)
    return found if found.epoch == epoch else Register(epoch)


def _damaged(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the register of people {what}; nobody is enrolled", where=str(path),
        todo="enroll again with `inland owner enroll`",
    )  # fmt: skip


class Edit:
    """The register, held against others who would change it.

    Attributes:
        register: as it is; whoever sets another one has it written at the end.
        aside: where a damaged file was put; None: it was not damaged.
    """

    def __init__(self, register: Register, aside: Path | None) -> None:
        self.register, self.aside = register, aside


@contextmanager
def edit(path: Path, *, epoch: int, mend: bool = False) -> Iterator[Edit]:
    """Hold the register, waiting for whoever does, and write it durably if it was changed.

    Args:
        path: of the file.
        epoch: present ownership; what is of another is forgotten.
        mend: put a damaged file aside and begin a new one.

    Raises:
        ConfigError: it is damaged and shall not be mended.
        OSError: it cannot be locked or written; what was there stays.
    """
    with shared_file.held(path, wait=True):
        aside = None
        try:
            before = of_epoch(path, epoch)
        except ConfigError:
            if not mend or not path.is_file():
                raise
            aside, before = shared_file.put_aside(path), Register(epoch)
        held = Edit(before, aside)
        yield held
        if held.register != before:
            shared_file.write(path, _bytes(held.register))
        else:  # what was read may be of a writer that was killed before its name was durable
            sync_folder(path.parent)


# --- to and from JSON -------------------------------------------------------------------------


def _bytes(register: Register) -> bytes:
    values: dict[str, Any] = {
        "format": FORMAT, "epoch": register.epoch, "driving": register.driving,
        "people": [
            {
                "id": one.id, "role": one.role, "name": one.key.name, "since_ns": one.since_ns,
                "recipient": base64.b64encode(one.key.recipient).decode(),
                "sign": base64.b64encode(one.key.sign).decode(),
            }
            for one in register.people
        ],
    }  # fmt: skip
    return json.dumps(values, ensure_ascii=False, indent=1).encode() + b"\n"


def _register(value: object) -> Register:
    form, epoch, driving, people = fields(value, "format", "epoch", "driving", "people")
    if whole(form) != FORMAT:
        raise ValueError(f"its format is {form}, this version knows {FORMAT}")
    found = Register(whole(epoch), tuple(_person(one) for one in listed(people)), text(driving))
    ids = [one.id for one in found.people]
    owners = sum(one.role == OWNER for one in found.people)
    if len(set(ids)) != len(ids) or len(ids) > MAX_PEOPLE or owners > 1:
        raise ValueError("its people cannot be together")
    if driving and driving not in ids:
        raise ValueError("somebody drives who is not enrolled")
    return found


def _person(value: object) -> Person:
    id_, role, name, since, recipient, sign = fields(
        value, "id", "role", "name", "since_ns", "recipient", "sign"
    )
    if role not in ROLES:
        raise ValueError("a role that is none")
    try:
        key = PublicKey(
            base64.b64decode(text(recipient), validate=True),
            base64.b64decode(text(sign), validate=True), text(name),
        )  # fmt: skip
    except binascii.Error:
        raise ValueError("a key that is not base64") from None
    person = Person(role, key, whole(since))
    if person.id != id_:
        raise ValueError("an id that is not of its key")
    return person
