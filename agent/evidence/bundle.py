"""A bundle: a folder with what a car recorded in a time, sealed as it was, and what proves it.

Whoever has it can check it without anybody's help (verify.py in it), and opens what is sealed to
them. There is no key in it that opens anything, and nothing readable that the ledger does not show.
proto/FORMAT.md says what each file is. The same disclosure gives the same bytes, but for `made`.

A folder is written under another name and renamed when all of it is on the disk: there is a whole
bundle, or none.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from agent.digest import sha256
from agent.draft import draft_of, sweep
from agent.errors import BusyError, SpoolCorruptError
from agent.evidence.became import Became, ranges
from agent.evidence.cover import cover, encode_subtree
from agent.evidence.disclosure import Disclosure, Ledger, explain, indices_of, parse
from agent.evidence.single_file import verify_py
from agent.evidence.verifier import FORMAT
from agent.files import place_folder
from agent.pb import ledger_pb2

BETWEEN: Final = "\x1e\n"  # two notes of a `.notes` file
MAX_NOTES: Final = 62  # co-signed ones inside the asked time: each tells when the region saw what
KIND: Final = "event record (EDR-like), not a type-approved EDR"
README: Final = """\
This folder is a bundle of inland: what a car recorded in a time, sealed as it was recorded, and
what proves that nobody has changed it since. It is an event record (EDR-like); it is not the record
of a type-approved event data recorder.

To check it:   python3 -I verify.py
               python3 -I verify.py --card region.toml     (with the card of the car's region)
0: intact. 1: altered, it says which entry. 3: it cannot be decided, it says what is missing.

Whoever could change this folder could change verify.py as well. Take that file, or `inland verify`,
from somebody you trust, and compare the SHA-256 of the keys that it prints with those that the
region publishes.

What is in the .bodies files can be read only with the private key of a recipient: `inland owner
open` or `inland station open` do that. proto/FORMAT.md of inland says what every byte means.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a bundle was asked for.

    Attributes:
        from_ns: first moment, ns since the Unix epoch; None: from the beginning.
        to_ns: last moment, inclusive; None: to the end.
        categories: of data; empty: all.
        lanes: names; empty: all.
    """

    from_ns: int | None = None
    to_ns: int | None = None
    categories: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """Whose bundle it is.

    Attributes:
        source: "car" or "region": who wrote it.
        region: urn:inland:region:<id>.
        vehicle: pseudonym.
        made: when, ISO 8601 UTC.
        cosign_keys: C2SP verifier keys of the region.
        receipt_keys: its Ed25519 public keys for receipts, base64.
    """

    source: str
    region: str
    vehicle: str
    made: str
    cosign_keys: tuple[str, ...]
    receipt_keys: tuple[str, ...] = ()


@dataclass(slots=True)
class Written:
    """What was written of one log: what bundle.json says of it."""

    log: bytes
    size: int
    entries: int
    bodies: int
    left_out: dict[str, list[list[int]]]
    presence: dict[str, Counter[str]]
    continues: set[bytes]  # logs that could not be
    carried: bool  # out of a damaged file: nothing proves them


class BundleWriter:
    """Writes one bundle; `place` gives it its name. Left without that, nothing of it stays.

    Args:
        folder: where the bundle is to stand; its parent is there.

    Attributes:
        folder: where it will stand: if that name is taken, or is being written, the next one that
            is free ("a-2.inland"). Names have the second in them, and programs are quick.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        sweep(folder.parent, folder.suffix)  # a stick has no room for what nobody sees
        self._written: list[Written] = []
        self._held = ExitStack()
        for number in count(1):
            self.folder = folder if number == 1 else folder.with_stem(f"{folder.stem}-{number}")
            if os.path.lexists(self.folder):
                continue
            with suppress(BusyError):
                # Sealed: whoever carries it may read it.
                self._draft = self._held.enter_context(draft_of(self.folder, mode=0o777))
                return

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def add(
        self,
        ledger: Ledger,
        found: Disclosure,
        *,
        sign: Callable[[], object] = lambda: None,
        progress: Callable[[int], None] = lambda _: None,
        carried: bool = False,
    ) -> Written:
        """Write one log.

        Args:
            ledger: where its bodies, checkpoints and hashes come from.
            found: what is disclosed of it; drop entries that were written meanwhile are added.
            sign: called if entries are disclosed that were written after `found` was chosen.
            progress: called with 1 after each body.
            carried: these are entries of a log whose tree and beginning are gone with its file.

        Raises:
            SpoolError: the log cannot be read.
            OSError: the folder cannot be written.
        """
        stem = self._draft / ledger.log[:8].hex()
        here, absent, entries = indices_of(), indices_of(), found.entries
        with stem.with_suffix(".bodies").open("wb") as file:
            for index in found.bodies:
                body = ledger.body(index)
                if body is not None and _names(entries[index], body):
                    _record(file, index, b"", body)
                    here.append(index)
                else:
                    absent.append(index)
                progress(1)
        if absent and explain(ledger, found, absent):
            sign()
        notes = _chosen(ledger.notes(), found)
        became = Became(found, here)
        with stem.with_suffix(".entries").open("wb") as file:
            for index, stored in found.stored():
                _record(file, index, sha256(b"\0" + stored), stored)
                became.take(index, parse(ledger.log, index, stored))
        texts = [note for _, note, _ in notes]
        stem.with_suffix(".notes").write_text(BETWEEN.join(texts), "utf-8", newline="\n")
        end = max([found.end, *(size for size, _, _ in notes)])
        with stem.with_suffix(".cover").open("wb") as file:
            for place in cover(found.indices(), end, [size for size, _, _ in notes]):
                with suppress(SpoolCorruptError):  # of a damaged log: a hole, which is named
                    file.write(encode_subtree(*place, ledger.node(*place)))
        one = Written(
            ledger.log, found.size, became.entries, len(here),
            {why: ranges(part) for why, part in sorted(found.left_out.items())},
            became.presence(), became.continues, carried,
        )  # fmt: skip
        self._written.append(one)
        return one

    def place(self, about: About, asked: Asked, *, more: Mapping[str, bytes] | None = None) -> None:
        """Write the other files, and give the bundle its name, durably.

        Args:
            about: whose it is.
            asked: what for.
            more: content of further files by name.

        Raises:
            OSError: the disk did not take it.
        """
        keys = {"cosign_keys": about.cosign_keys, "receipt_keys": about.receipt_keys}
        (self._draft / "keys.json").write_text(json.dumps(keys, indent=1) + "\n", "utf-8")
        (self._draft / "README.txt").write_text(README, "utf-8")
        (self._draft / "verify.py").write_bytes(verify_py())
        for name, content in (more or {}).items():
            (self._draft / name).write_bytes(content)
        told = _told(about, asked, self._written)
        told["files"] = {path.name: _file_hash(path) for path in sorted(self._draft.iterdir())}
        text = json.dumps(told, indent=1, ensure_ascii=False) + "\n"
        (self._draft / "bundle.json").write_text(text, "utf-8")
        place_folder(self._draft, self.folder)


def _told(about: About, asked: Asked, written: Sequence[Written]) -> dict[str, Any]:
    presence: dict[str, Counter[str]] = {}
    lost = {log for one in written for log in one.continues}
    for one in written:
        for name, states in one.presence.items():
            if one.log in lost and "missing" in states:
                states["lost with its log"] += states.pop("missing")
            presence.setdefault(name, Counter()).update(states)
    return {
        "format": FORMAT,
        "kind": KIND,
        "made": about.made,
        "source": about.source,
        "region": about.region,
        "vehicle": about.vehicle,
        "asked": {
            "from_ns": asked.from_ns, "to_ns": asked.to_ns,
            "categories": list(asked.categories), "lanes": list(asked.lanes),
        },
        "logs": {
            one.log[:8].hex(): {
                "log": one.log.hex(), "size": one.size, "entries": one.entries,
                "bodies": one.bodies, "left_out": one.left_out,
            } | ({"carried": True} if one.carried else {})
            for one in written
        },
        "presence": {name: dict(states) for name, states in sorted(presence.items())},
    }  # fmt: skip


def _names(entry: ledger_pb2.Entry, body: bytes) -> bool:
    return bool(getattr(entry, str(entry.WhichOneof("what"))).body == sha256(body))


def _chosen(notes: Iterable[tuple[int, str, bool]], found: Disclosure) -> list[Any]:
    """Return the notes that go along: the newest, the first co-signed one over all, some inside."""
    notes = list(notes)
    end = found.end
    inside = [note for note in notes if note[2] and found.first < note[0] < end]
    over = [note for note in notes if note[2] and note[0] >= end][:1]
    step = max(1, -(-len(inside) // MAX_NOTES))
    chosen = inside[::-1][::step] + over + notes[-1:]
    return sorted({note[0]: note for note in chosen}.values())


def _record(file: IO[bytes], index: int, head: bytes, data: bytes) -> None:
    file.write(varint(index) + head + varint(len(data)) + data)


def varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
