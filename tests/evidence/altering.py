"""Ways to alter a bundle. bundle.json is made to fit afterwards: whoever alters can do that too."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.evidence.bundle import BETWEEN, varint
from agent.evidence.verifier import verify
from agent.evidence.wire import read, records
from agent.pb import ledger_pb2
from agent.vault import checkpoint, tree
from tests.evidence.making import LEDGER_KEY, cosign, forge

Rows = list[tuple[int, bytes, bytes]]
SUBTREE = 41


def one(folder: Path, kind: str) -> Path:
    return next(iter(sorted(folder.glob(f"*.{kind}"))))


def rows(path: Path) -> Rows:
    head = 32 if path.suffix == ".entries" else 0
    return [(i, bytes(h), bytes(d)) for i, h, d in records(read(path), head)]


def write(path: Path, what: Rows) -> None:
    path.write_bytes(b"".join(varint(i) + h + varint(len(d)) + d for i, h, d in what))


def change(folder: Path, kind: str, work: Callable[[Rows], Any]) -> None:
    path = one(folder, kind)
    what = rows(path)
    changed = work(what)
    write(path, what if changed is None else changed)
    forge(folder)


def replace_entry(folder: Path, index: int, work: Callable[[ledger_pb2.Entry], Any]) -> None:
    """Alter an entry, and its own hash beside it."""

    def altered(what: Rows) -> None:
        for at, (i, _, data) in enumerate(what):
            if i == index:
                entry = ledger_pb2.Entry.FromString(data)
                work(entry)
                stored = entry.SerializeToString()
                what[at] = (i, tree.leaf_hash(stored), stored)

    change(folder, "entries", altered)


def notes(folder: Path) -> list[str]:
    return one(folder, "notes").read_text().split(BETWEEN)


def set_notes(folder: Path, texts: list[str]) -> None:
    one(folder, "notes").write_text(BETWEEN.join(texts))
    forge(folder)


def without_cosignature(note: str) -> str:
    body, _, lines = note.partition("\n\n")
    return f"{body}\n\n{lines.splitlines()[0]}\n"


def roots(folder: Path) -> dict[int, bytes]:
    """The roots that the tree of the bundle has at the size of each of its notes."""
    sizes = {checkpoint.parse(note).checkpoint.size for note in notes(folder)}
    parts = [(i, 0, leaf) for i, leaf, _ in rows(one(folder, "entries"))]
    cover = one(folder, "cover").read_bytes()
    for at in range(0, len(cover), SUBTREE):
        height, place = cover[at], int.from_bytes(cover[at + 1 : at + 9], "big")
        parts.append((place << height, height, cover[at + 9 : at + SUBTREE]))
    compact, found = tree.CompactRange(), {}
    for _, height, digest in sorted(parts):
        compact, _ = compact.append(digest, height)
        if compact.size in sizes:
            found[compact.size] = compact.root()
    return found


def resign(folder: Path, *, key: Ed25519PrivateKey = LEDGER_KEY, keep_cosignature: bool) -> None:
    """Sign the heads of what is in the bundle now, as who has the car's key can."""
    texts = []
    for note in notes(folder):
        old = checkpoint.parse(note)
        head = checkpoint.Checkpoint(
            old.checkpoint.origin, old.checkpoint.size, roots(folder)[old.checkpoint.size]
        )
        text = checkpoint.sign(head, key)
        if keep_cosignature:
            text += "".join(line.line() for line in old.signatures[1:])
        texts.append(text)
    set_notes(folder, texts)


def tell(folder: Path, work: Callable[[Any], Any]) -> None:
    path = folder / "bundle.json"
    told = json.loads(path.read_text())
    work(told)
    path.write_text(json.dumps(told))


def recount(folder: Path) -> None:
    """Let bundle.json have the counts that the verifier finds."""
    presence = verify(folder)["presence"]
    tell(folder, lambda told: told.update(presence=presence))


def hide(folder: Path, index: int) -> None:
    """Cover an entry by its hash, and take it and its body out."""
    leaf = next(h for i, h, _ in rows(one(folder, "entries")) if i == index)
    path = one(folder, "cover")
    path.write_bytes(path.read_bytes() + b"\0" + index.to_bytes(8, "big") + leaf)
    for kind in ("entries", "bodies"):
        change(folder, kind, lambda what: [row for row in what if row[0] != index])


def anything(folder: Path, seed: int) -> str:
    """Alter something that is of weight; returns what."""
    rng = random.Random(seed)
    entries = rows(one(folder, "entries"))
    bodies = rows(one(folder, "bodies"))
    index = rng.choice(entries)[0]
    body = rng.choice(bodies)[0]
    choice = rng.randrange(9)
    if choice == 0:
        replace_entry(folder, index, lambda entry: setattr(entry.at, "unix_ns", 1 << 60))
        resign(folder, keep_cosignature=rng.random() < 0.5)
        return f"entry {index} altered and signed again"
    if choice == 1:
        replace_entry(folder, index, lambda entry: setattr(entry.at, "quality", 2))
        return f"entry {index} altered"
    if choice == 2:
        change(folder, "bodies", lambda what: [row for row in what if row[0] != body])
        return f"body {body} removed"
    if choice == 3:
        other = rng.choice([row for row in bodies if row[0] != body])

        def swap(what: Rows) -> Rows:
            return [(i, h, other[2] if i == body else d) for i, h, d in what]

        change(folder, "bodies", swap)
        return f"body {body} is that of {other[0]}"
    if choice == 4:
        at = rng.randrange(1, min(60, 1 + next(len(d) for i, _, d in bodies if i == body)))

        def turn(what: Rows) -> Rows:
            return [(i, h, d[:-at] + bytes([d[-at] ^ 1]) + d[len(d) - at + 1 :] if i == body else d)
                    for i, h, d in what]  # fmt: skip

        change(folder, "bodies", turn)
        return f"a bit of body {body} turned"
    if choice == 5:
        hide(folder, index)
        return f"entry {index} hidden"
    if choice == 6:
        set_notes(folder, [without_cosignature(note) for note in notes(folder)])
        return "co-signatures removed"
    if choice == 7:
        stranger = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
        set_notes(folder, [cosign(without_cosignature(n), 1_800_000_000, stranger)
                           for n in notes(folder)])  # fmt: skip
        return "co-signed by a stranger"
    resign(folder, key=Ed25519PrivateKey.from_private_bytes(b"y" * 32), keep_cosignature=True)
    return "signed by another key"
