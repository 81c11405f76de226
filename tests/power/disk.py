"""A disk with a page cache, and what a power cut can leave of it.

- The content of a file is durable after fsync or fdatasync of that file. What was written since
  may be there or not, sector by sector (512 or 4,096 bytes), in any order and in any mix over all
  files; so may a new size, with zeros where the data is missing.
- Names (creation, rename, link, removal, folders) change in order. JOURNAL is the habit of file
  systems with one journal: whatever is synced makes all earlier changes of names durable, and of
  later ones the first few survive. FOLDERS takes POSIX at its word: only fsync of a folder makes
  its names durable, folder by folder, and what is in a folder without a name is lost.
- Names and content go their own ways: a name can be durable whose content is not.

Not modelled, because no file system and no SQLite promises or asks for it: sectors that change
although nobody wrote them (a flash chip that loses its neighbours), a disk that says "synced" and
lies, names that change out of order inside one folder. Permissions and times are not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.power import recording
from tests.power.recording import Operation

JOURNAL, FOLDERS = "journal", "folders"
FOLDER = None  # in a State: a folder stands there
SECTORS = (512, 4096)

State: TypeAlias = dict[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Change:
    """Bytes at an offset; or, without bytes, a size: exactly that, or at least."""

    offset: int
    data: bytes = b""
    at_least: bool = False

    def on(self, content: bytearray) -> None:
        """Apply it."""
        if self.data:
            content.extend(bytes(max(0, self.offset - len(content))))
            content[self.offset : self.offset + len(self.data)] = self.data
            return
        content.extend(bytes(max(0, self.offset - len(content))))
        if not self.at_least:
            del content[self.offset :]

    def parts(self, sector: int) -> list[Change]:
        """Return it sector by sector."""
        if not self.data:
            return [self]
        first = self.offset // sector * sector
        out = []
        for start in range(first, self.offset + len(self.data), sector):
            begin, end = max(start, self.offset), start + sector
            out.append(Change(begin, self.data[begin - self.offset : end - self.offset]))
        return out


@dataclass(eq=False, slots=True)
class File:
    """A file, whatever its names: what is on the disk, and what was written since."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    _bytes: bytes | None = None  # of `synced`: one object as long as it is the same, hashed once

    def sync(self) -> None:
        """Put it on the disk."""
        if self.pending:
            self._bytes = None
        for change in self.pending:
            change.on(self.synced)
        self.pending.clear()

    def content(self, changes: Sequence[Change] = ()) -> bytes:
        """Return what it is with some changes."""
        if not changes:
            if self._bytes is None:
                self._bytes = bytes(self.synced)
            return self._bytes
        content = bytearray(self.synced)
        for change in changes:
            change.on(content)
        return bytes(content)


@dataclass(eq=False, slots=True)
class Folder:
    """Names as they are on the disk, and as a running process sees them."""

    durable: dict[str, Node] = field(default_factory=dict)
    live: dict[str, Node] = field(default_factory=dict)


Node: TypeAlias = File | Folder
# What one operation sets: in a folder, a name, to a node or to nothing.
Naming: TypeAlias = tuple[tuple[Folder, str, Node | None], ...]


class Disk:
    """The disk under a recorded process.

    Args:
        before: the folder as it was: all durable.
        names: JOURNAL or FOLDERS.
    """

    def __init__(self, before: Path, names: str = JOURNAL) -> None:
        self.names = names
        self.root = Folder()
        self.pending: list[Naming] = []  # changes of names, in order
        self.last: tuple[File, Change] | None = None  # the last write, if it is not synced yet
        for name, content in on_disk(before).items():
            folder, last = self._parent(name)
            node = Folder() if content is None else File(bytearray(content))
            folder.durable[last] = folder.live[last] = node

    def apply(self, operation: Operation) -> None:
        """Do what the process did."""
        kind, name = operation.kind, operation.name
        if kind in (recording.SAID, recording.UNSEEN):
            return
        if kind == recording.SYNC:
            self._sync(self._find(name))
        elif kind == recording.CREATE:
            folder, last = self._parent(name)
            if last not in folder.live:
                self._rename((folder, last, File()))
        elif kind == recording.FOLDER:
            self._rename((*self._parent(name), Folder()))
        elif kind == recording.REMOVE:
            self._rename((*self._parent(name), None))
        elif kind in (recording.LINK, recording.RENAME):
            self._move(operation)
        else:
            self._write(operation)

    def _write(self, operation: Operation) -> None:
        file = self._find(operation.name)
        assert isinstance(file, File)
        change = Change(operation.offset, operation.data, operation.kind == recording.ALLOCATE)
        file.pending.append(change)
        self.last = (file, change)

    def _move(self, operation: Operation) -> None:
        old, new = self._parent(operation.name), self._parent(operation.other)
        node = old[0].live[old[1]]
        if operation.kind == recording.LINK:
            self._rename((*new, node))
        elif new[0].live.get(new[1]) is not node:  # rename(2): two names of one file both stay
            self._rename((*old, None), (*new, node))

    def _rename(self, *naming: tuple[Folder, str, Node | None]) -> None:
        self.pending.append(naming)
        for folder, name, node in naming:
            _set(folder.live, name, node)

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.sync()
            if self.last is not None and self.last[0] is node:
                self.last = None
        if self.names == JOURNAL:
            done, self.pending = self.pending, []
        elif isinstance(node, Folder):
            done = self._reached(node)
            gone = {id(one) for one in done}
            self.pending = [one for one in self.pending if id(one) not in gone]
        else:
            return
        for naming in done:
            for folder, name, to in naming:
                _set(folder.durable, name, to)

    def _reached(self, folder: Folder) -> list[Naming]:
        """Return the changes of a folder's names, and those of others that have to come first."""
        reached, done = {folder}, []
        for naming in reversed(self.pending):
            if any(one in reached for one, _, _ in naming):
                reached.update(one for one, _, _ in naming)
                done.append(naming)
        return done[::-1]

    def _parent(self, name: str) -> tuple[Folder, str]:
        path, _, last = name.rpartition("/")
        folder = self._find(path)
        assert isinstance(folder, Folder)
        return folder, last

    def _find(self, name: str) -> Node:
        node: Node = self.root
        for part in name.split("/") if name else ():
            assert isinstance(node, Folder)
            node = node.live[part]
        return node

    def state(self, naming: list[Naming], content: Callable[[File], bytes]) -> State:
        """Return what stands there after a power cut.

        Args:
            naming: the pending changes of names that survive; see `first`.
            content: what survives of a file.
        """
        found: dict[Folder, dict[str, Node]] = {}
        for one in naming:
            for folder, name, node in one:
                _set(found.setdefault(folder, dict(folder.durable)), name, node)
        state: State = {}
        seen: dict[File, bytes] = {}

        def walk(folder: Folder, above: str) -> None:
            for name, node in found.get(folder, folder.durable).items():
                if isinstance(node, Folder):
                    state[above + name] = FOLDER
                    walk(node, f"{above}{name}/")
                else:
                    if node not in seen:  # two names of one file have one content
                        seen[node] = content(node)
                    state[above + name] = seen[node]

        walk(self.root, "")
        return state

    def first(self, count: Callable[[int], int]) -> list[Naming]:
        """Return the first few pending changes, of all or of each folder: `count` says how many."""
        if self.names == JOURNAL:
            return self.pending[: count(len(self.pending))]
        left: dict[Folder, int] = {}
        for naming in self.pending:
            for folder, _, _ in naming:
                left[folder] = left.get(folder, 0) + 1
        left = {folder: count(most) for folder, most in left.items()}
        kept = []
        for naming in self.pending:
            if all(left[folder] > 0 for folder, _, _ in naming):
                kept.append(naming)
                for folder, _, _ in naming:
                    left[folder] -= 1
            else:  # nothing later of these folders either
                left |= {folder: 0 for folder, _, _ in naming}
        return kept


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


# --- what survives: each is one way in which a power cut can end --------------------------------

Fate: TypeAlias = Callable[[Disk, Random], State]


def everything(disk: Disk, _: Random | None = None) -> State:
    """Return what a killed process leaves: all that was done."""
    return disk.state(disk.pending, lambda file: file.content(file.pending))


def nothing(disk: Disk, _: Random) -> State:
    """Return what was synced and no more."""
    return disk.state([], File.content)


def names_alone(disk: Disk, _: Random) -> State:
    """Return all names, without what was not synced of the content."""
    return disk.state(disk.pending, File.content)


def sizes_alone(disk: Disk, _: Random) -> State:
    """Return all names and sizes, with zeros where content is missing."""

    def content(file: File) -> bytes:
        size = len(file.content(file.pending))
        return file.content([Change(size)] if file.pending else ())

    return disk.state(disk.pending, content)


def content_alone(disk: Disk, _: Random) -> State:
    """Return all content, as far as its names were synced."""
    return disk.state([], lambda file: file.content(file.pending))


def torn(disk: Disk, rng: Random) -> State:
    """Return all but some sectors of the last write."""

    def content(file: File) -> bytes:
        changes = []
        for change in file.pending:
            if disk.last is not None and change is disk.last[1]:
                parts = change.parts(rng.choice(SECTORS))
                changes += [part for part in parts if rng.random() < 0.5]
            else:
                changes.append(change)
        return file.content(changes)

    return disk.state(disk.pending, content)


def anything(disk: Disk, rng: Random) -> State:
    """Return any mix: of names the first few, of content any sectors."""

    def content(file: File) -> bytes:
        chance, sector = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0)), rng.choice(SECTORS)
        kept = [
            part
            for change in file.pending
            for part in change.parts(sector)
            if chance == 1.0 or rng.random() < chance
        ]
        if file.pending and rng.random() < 0.5:  # a size that was reached, with zeros
            some = file.content(file.pending[: rng.randrange(len(file.pending)) + 1])
            kept.append(Change(len(some), at_least=True))
        return file.content(kept)

    return disk.state(disk.first(lambda most: rng.randint(0, most)), content)


FATES: dict[str, Fate] = {
    one.__name__: one
    for one in (everything, nothing, names_alone, sizes_alone, content_alone, torn, anything)
}


# --- states and folders --------------------------------------------------------------------------


def on_disk(folder: Path) -> State:
    """Return what stands in a folder, parents first."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else FOLDER
        for path in sorted(folder.rglob("*"))
        if not path.match(recording.LEFT_OUT)
    }


def write(state: State, folder: Path) -> None:
    """Make a folder of a state."""
    folder.mkdir(mode=0o700)
    for name, content in state.items():
        if content is FOLDER:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        else:
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
