"""`state/consent.json`: the book of consents on the disk, for the running agent and the commands.

- One JSON object, replaced whole: written beside its place, synced, renamed, folder synced.
- Reading needs no lock. Changing does: `edit` holds a lock that commands and the agent share.
- Strict: an unknown key, a wrong type, a value out of range, and the file is damaged. A damaged
  file is no consent to anything. Whoever changes it keeps it aside first, under a name of its own.
- The agent may run as another user than a command: a file made by root belongs to the owner of the
  folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent import shared_file
from agent.errors import ConfigError
from agent.files import read_plain, sync_folder
from agent.policy.consent import DAY_NS, MAX_DAYS, Book, Change, Grant, State
from agent.policy.quantities import frame_selector
from agent.policy.terms import Clause, SignalTerm, Terms
from agent.strict_json import fields, flag, listed, parse_json, text, whole

FILE: Final = "consent.json"
FORMAT: Final = 1
MAX_BYTES: Final = 1 << 20
MAX_PENDING: Final = 256  # changes that the agent has not seen; no grant is taken beyond


class ConsentFileError(ConfigError):
    """The file cannot be read as a book of consents: nothing in it counts."""


def read(path: Path) -> Book:
    """Return the book; an empty one if there is no file.

    Raises:
        ConsentFileError: it cannot be read, or is damaged.
    """
    try:
        data = read_plain(path, MAX_BYTES)
    except FileNotFoundError:
        return Book()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _damaged(path, f"has more than {MAX_BYTES} bytes")
    try:
        return _book(parse_json(data))
    except ValueError as error:
        raise _damaged(path, f"is damaged: {error}") from None


def _damaged(path: Path, what: str) -> ConsentFileError:
    return ConsentFileError(
        f"the file of consents {what}; no consent counts", where=str(path),
        todo="ask for the consents again with `inland consent grant`",
    )  # fmt: skip


class Edit:
    """The book, held against others who would change it.

    Attributes:
        book: as it is; whoever sets another one has it written at the end.
        aside: where a damaged file was put; None: it was not damaged.
    """

    def __init__(self, book: Book, aside: Path | None) -> None:
        self.book, self.aside = book, aside


@contextmanager
def edit(path: Path, *, mend: bool = False, wait: bool = False) -> Iterator[Edit]:
    """Hold the book, and write it durably if it was changed.

    Args:
        path: of the file.
        mend: put a damaged file aside and begin a new book.
        wait: for whoever holds it now.

    Raises:
        ConsentFileError: it is damaged and shall not be mended.
        BlockingIOError: somebody else holds it.
        OSError: it cannot be locked or written; what was there stays.
        ConfigError: the book would be too large.
    """
    with shared_file.held(path, wait=wait):
        aside = None
        try:
            before = read(path)
        except ConsentFileError:
            if not mend:
                raise
            aside, before = shared_file.put_aside(path), Book()
        held = Edit(before, aside)
        yield held
        if held.book != before or aside is not None:
            held.book = replace(held.book, id=held.book.id or os.urandom(8).hex())
            _write(path, held.book)
        else:  # what was read may be of a writer that was killed before its name was durable
            sync_folder(path.parent)


def _write(path: Path, book: Book) -> None:
    data = json.dumps(_values(book), ensure_ascii=False, indent=1).encode() + b"\n"
    if len(data) > MAX_BYTES:
        raise ConfigError(
            "the terms of the consents are too long to be kept", where=str(path),
            todo="withdraw consents that are not needed",
        )  # fmt: skip
    shared_file.write(path, data)


# --- to and from JSON -------------------------------------------------------------------------


def _values(book: Book) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": book.id,
        "serial": book.serial,
        "told": book.told,
        "consents": {name: _grant_values(book.grants[name]) for name in sorted(book.grants)},
        "changes": [
            {
                "serial": one.serial, "category": one.category, "state": one.state.value,
                "until_ns": one.until_ns, "each_drive": one.each_drive, "terms": one.digest.hex(),
            }
            for one in book.changes
        ],
    }  # fmt: skip


def _grant_values(grant: Grant) -> dict[str, Any]:
    return {
        "state": grant.state.value, "serial": grant.serial, "since_ns": grant.since_ns,
        "until_ns": grant.until_ns, "each_drive": grant.each_drive, "drive": grant.drive,
        "waits": grant.waits, "seen_ns": grant.seen_ns,
        "terms": [
            {
                "purpose": one.purpose, "recipients": one.recipients, "keep_s": one.keep_s,
                "space_m": one.space_m, "time_ns": one.time_ns, "frames": list(one.frames),
                "signals": [[term.channel, term.name, term.place] for term in one.signals],
                "camera": one.camera,
            }
            for one in grant.terms.clauses
        ],
    }  # fmt: skip


def _book(value: object) -> Book:
    form, name, serial, told, grants, changes = fields(
        value, "format", "id", "serial", "told", "consents", "changes"
    )
    if whole(form) != FORMAT:
        raise ValueError(f"its format is {form}, this version knows {FORMAT}")
    if not isinstance(grants, dict):
        raise ValueError("consents are no object")
    book = Book(
        whole(serial), whole(told),
        {category: _grant(category, one) for category, one in grants.items()},
        tuple(_change(one) for one in listed(changes)), text(name),
    )  # fmt: skip
    serials = [book.told, *(one.serial for one in book.changes)]
    if sorted(set(serials)) != serials or serials[-1] > book.serial:
        raise ValueError("its changes are out of order")
    if any(one.serial > book.serial for one in book.grants.values()):
        raise ValueError("a consent is newer than its last change")
    return book


def _grant(category: str, value: object) -> Grant:
    state, serial, since, until, each, drive, waits, seen, clauses = fields(
        value, "state", "serial", "since_ns", "until_ns", "each_drive", "drive", "waits",
        "seen_ns", "terms",
    )  # fmt: skip
    agreed = Terms(category, tuple(_clause(one) for one in listed(clauses)))
    grant = Grant(
        State(text(state)), whole(serial), whole(since), whole(until), flag(each),
        None if drive is None else whole(drive), flag(waits), whole(seen), agreed,
    )  # fmt: skip
    if grant.state is State.GRANTED and not agreed.clauses:
        raise ValueError(f"{category} is granted without terms")
    length_ns = grant.until_ns - grant.since_ns
    if grant.state is State.GRANTED and not 0 < length_ns <= MAX_DAYS * DAY_NS:
        raise ValueError(f"{category} is granted for ever")
    return grant


def _clause(value: object) -> Clause:
    purpose, recipients, keep, space, every, signals, frames, camera = fields(
        value, "purpose", "recipients", "keep_s", "space_m", "time_ns", "signals", "frames",
        "camera",
    )  # fmt: skip
    selectors = tuple(text(one) for one in listed(frames))
    for one in selectors:
        frame_selector(one)  # terms are compared by it
    return Clause(
        text(purpose), text(recipients), whole(keep), whole(space), whole(every),
        tuple(_signal(one) for one in listed(signals)), selectors, flag(camera),
    )  # fmt: skip


def _signal(value: object) -> SignalTerm:
    parts = [text(one) for one in listed(value)]
    if len(parts) != 3:
        raise ValueError("a signal is not [channel, name, place]")
    return SignalTerm(*parts)


def _change(value: object) -> Change:
    serial, category, state, until, each, digest = fields(
        value, "serial", "category", "state", "until_ns", "each_drive", "terms"
    )
    return Change(
        whole(serial), text(category), State(text(state)), whole(until), flag(each),
        bytes.fromhex(text(digest)),
    )  # fmt: skip
