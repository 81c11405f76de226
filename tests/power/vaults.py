"""A vault that says what it acknowledges, and what must be true of one after a power cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.pb import ledger_pb2, moment_pb2, sealed_pb2
from agent.vault import opening, tree
from agent.vault.floor import spool_floor_ns
from agent.vault.session import SESSION_MAGIC
from agent.vault.shelves import WAITING
from tests.power.workloads import Note, Say
from tests.vault import world
from tests.vault.world import Car, Region, draft

Place = tuple[bytes, int]  # log and index: what an entry is called for ever


class Life:
    """A car, its region, and what the one acknowledges to the other."""

    def __init__(self, folder: Path, say: Say, *, quota: int = 2 * world.MIB) -> None:
        self.say, self.region = say, Region()
        self.car = Car(folder / "state", quota=quota)
        self.unix_ns = world.NOW_NS
        self.began()

    def began(self) -> None:
        """Say whose log it is now."""
        self.say("log", self.vault._log.log)

    @property
    def vault(self) -> Any:
        return self.car.vault

    def leaf(self, i: int) -> bytes:
        entry = self.vault._spool.one("SELECT entry FROM ledger WHERE i=?", (i,))
        return tree.leaf_hash(entry)

    def seal(self, size: int = 600, **more: Any) -> int | None:
        i = self.vault.seal(draft(size, **more))
        if i is not None:
            self.say("entry", (self.vault._log.log, i), self.leaf(i))
        return i

    def record(self, what: Any, body: bytes = b"") -> int:
        i = self.vault.record(what, body)
        self.say("entry", (self.vault._log.log, i), self.leaf(i))
        return i

    def upload(self, count: int = 8, *, cosigned: str = "", arrive: int | None = None) -> None:
        """Bring some entries to the region, of which the first few arrive, and its receipt back."""
        batch, _ = self.vault.take(count, world.MIB, {})
        batch = batch[:arrive]
        done = self.region.take(batch)
        for out in batch:
            if out.upload.body.startswith(SESSION_MAGIC):
                self.say("session", out.upload.body)
        places = [place[:2] for place in done]
        self.unix_ns += 10 * 10**9  # news, each time
        for log in {place[0] for place in places} or {self.vault._log.log}:
            of_log = [one for one in done if one[0] == log]
            self.say("sending", [one[:2] for one in of_log])
            receipt = self.region.receipt(of_log, unix_ns=self.unix_ns, cosigned=cosigned)
            _, valid = self.vault.receipt(receipt)
            assert valid
            self.say("receipted", [one[:2] for one in of_log])
            self.say("floor", self.unix_ns)

    def cosign(self) -> None:
        """Have the newest head co-signed: from then on it is known in the region."""
        self.vault._scribe.sign()
        upload = self.vault.checkpoint()
        if upload is None:
            return
        note = self.region.cosign(upload)
        size, root = self.region.heads[upload.log]
        self.say("head", upload.log, size, root)  # the region knows it, whatever the car does now
        self.upload(0, cosigned=note)
        self.say("cosigned", upload.log, size)

    def withdraw(self, category: str) -> None:
        self.say("withdrawing", category)
        self.vault.withdraw(category)
        self.say("withdrawn", category, self.vault._log.log, self.vault._log.size)

    def remember(self, key: str, value: bytes) -> None:
        self.say("remembering", key, value)
        self.vault.remember(key, value)
        self.say("remembered", key, value)

    def hold(self, record: int, from_ns: int, to_ns: int, *, upload: bool) -> None:
        world.hold(self.vault, record, from_ns, to_ns, upload=upload)
        self.say("held", record)

    def release(self, record: int) -> None:
        self.say("releasing", record)
        self.vault.release(record, state=ledger_pb2.Incident.COMPLETE)
        self.say("released", record)

    def shut(self) -> None:
        self.say("closing")
        self.car.shut()


class Told:
    """What had been said before the power went."""

    def __init__(self, notes: Iterable[Note]) -> None:
        self.log = b""
        self.sessions: list[bytes] = []  # that the region has
        self.entries: dict[Place, bytes] = {}
        self.sending: set[Place] = set()
        self.receipted: set[Place] = set()
        self.floor = 0
        self.heads: list[tuple[bytes, int, bytes]] = []
        self.cosigned: dict[bytes, int] = {}
        self.withdrawing: set[str] = set()
        self.withdrawn: dict[tuple[str, bytes], int] = {}
        self.memory: dict[str, set[bytes]] = {}
        self.held: set[int] = set()
        self.releasing: set[int] = set()
        self.released: set[int] = set()
        self.is_closing = False
        self.damaged: dict[bytes, int] = {}  # log of a damaged file, bodies that are good in it
        self.good: set[Place] = set()
        for word, *values in notes:
            getattr(self, f"on_{word}")(*values)

    def on_log(self, log: bytes) -> None:
        self.log = log

    def on_entry(self, place: Place, leaf: bytes) -> None:
        self.entries[place] = leaf

    def on_session(self, body: bytes) -> None:
        self.sessions.append(body)

    def on_sending(self, places: list[Place]) -> None:
        self.sending.update(places)

    def on_receipted(self, places: list[Place]) -> None:
        self.receipted.update(places)

    def on_floor(self, unix_ns: int) -> None:
        self.floor = max(self.floor, unix_ns)

    def on_head(self, log: bytes, size: int, root: bytes) -> None:
        self.heads.append((log, size, root))

    def on_cosigned(self, log: bytes, size: int) -> None:
        self.cosigned[log] = size

    def on_withdrawing(self, category: str) -> None:
        self.withdrawing.add(category)

    def on_withdrawn(self, category: str, log: bytes, size: int) -> None:
        self.withdrawn[category, log] = size

    def on_remembering(self, key: str, value: bytes) -> None:
        self.memory.setdefault(key, {b""}).add(value)

    def on_remembered(self, key: str, value: bytes) -> None:
        self.memory[key] = {value}

    def on_held(self, record: int) -> None:
        self.held.add(record)

    def on_releasing(self, record: int) -> None:
        self.releasing.add(record)

    def on_released(self, record: int) -> None:
        self.released.add(record)

    def on_closing(self) -> None:
        self.is_closing = True

    def on_damaged(self, log: bytes, good: list[Place], bodies: int) -> None:
        self.damaged[log] = bodies
        self.good.update(good)


class After(Car):
    """The car after the power came back: its clock has forgotten everything."""

    def now(self) -> Any:
        return moment_pb2.Moment(unix_ns=0, boottime_ns=self.boot_ns)


def whole(folder: Path, notes: list[Note]) -> None:
    """Open the vault as the agent does, and hold it to what was said."""
    told, state = Told(notes), folder / "state"
    if told.log not in told.damaged:  # a command reads nothing of a damaged file
        assert spool_floor_ns(state) >= told.floor, "a command reads an older floor of time"
    car = After(state, quota=2 * world.MIB)
    try:
        _Look(car, told).all()
    finally:
        car.crash()


class _Look:
    """One vault that was opened again."""

    def __init__(self, car: After, told: Told) -> None:
        self.car, self.told, self.spool = car, told, car.vault._spool
        self.log = car.vault._log.log
        self.raw = [raw for (raw,) in self.spool.rows("SELECT entry FROM ledger ORDER BY i")]
        self.leaves = [tree.leaf_hash(raw) for raw in self.raw]
        self.ledger = [ledger_pb2.Entry.FromString(raw) for raw in self.raw]
        self.items = {
            i: (shelf, session, consent)
            for i, shelf, session, consent in self.spool.rows(
                "SELECT i, shelf, session, consent FROM item"
            )
        }
        self.bodies = {i for (i,) in self.spool.rows("SELECT i FROM body")}
        self.dropped = {
            i: entry.drop.reason
            for entry in self.ledger
            if entry.WhichOneof("what") == "drop"
            for part in entry.drop.range
            for i in range(part.first, part.last + 1)
        }

    def all(self) -> None:
        self.file()
        self.gaps()
        self.history()
        self.entries()
        self.order()
        self.promises()
        self.goes_on()

    def file(self) -> None:
        assert self.spool.one("PRAGMA integrity_check") == "ok"
        boot = self.car.what("boot")[-1]
        assert not boot.clean or self.told.is_closing or len(self.car.what("boot")) == 1

    def gaps(self) -> None:
        """A new log only where a file was damaged; then its gap says once what was saved."""
        gaps = self.car.what("gap")
        assert {gap.log for gap in gaps} <= set(self.told.damaged), "a new log without a reason"
        assert len(gaps) == len({gap.log for gap in gaps}), "one gap is told twice"
        for gap in gaps:
            assert gap.salvaged == self.told.damaged[gap.log], "a gap with a wrong figure"
        salvaged = {
            (log, i)
            for log, i in self.spool.rows("SELECT log, i FROM salvage WHERE blob IS NOT NULL")
        }
        if gaps:
            assert self.told.good - self.told.sending <= salvaged, "what was good is lost"
        if not gaps or self.told.log not in self.told.damaged:
            assert self.told.log in (b"", self.log), "the log is another one"

    def history(self) -> None:
        heads = {size: root for log, size, root in self.told.heads if log == self.log}
        compact = tree.CompactRange()
        for leaf in self.leaves:
            compact, _ = compact.append(leaf)
            if (root := heads.pop(compact.size, None)) is not None:
                assert compact.root() == root, "a head that the region knows is not ours"
        assert not heads, "the ledger is shorter than a head that the region knows"
        assert self.car.vault._log.tree.root() == compact.root()
        known = self.spool.one("SELECT max(size) FROM checkpoint WHERE cosigned IS NOT NULL") or 0
        assert known >= self.told.cosigned.get(self.log, 0), "a co-signed head is lost"

    def entries(self) -> None:
        for (log, i), leaf in self.told.entries.items():
            if log == self.log:
                assert self.leaves[i : i + 1] == [leaf], f"entry {i} is lost"
        for i, entry in enumerate(self.ledger):
            what = entry.WhichOneof("what")
            has_body = bool(getattr(getattr(entry, what), "body", b""))
            if has_body and i not in self.bodies:
                assert i in self.dropped, f"the body of entry {i} is gone without a word"
            if (self.log, i) not in self.told.sending:
                assert i in self.items, f"entry {i} waits no more, and nobody has it"
                assert self.items[i][0] in WAITING, f"entry {i} is confirmed, and nobody has it"
        for i, reason in self.dropped.items():
            assert i not in self.bodies, f"entry {i} is said to be dropped, and is here"
            if reason == ledger_pb2.Drop.CONFIRMED:
                assert (self.log, i) in self.told.sending
            if reason == ledger_pb2.Drop.WITHDRAWN:
                assert self.told.withdrawing
        for log, i in self.told.receipted:
            is_recorder = log == self.log and self.ledger[i].segment.lane == sealed_pb2.RECORDER
            if log == self.log and not is_recorder:
                assert self.items.get(i, (99,))[0] not in WAITING, f"entry {i} waits again"

    def order(self) -> None:
        """A segment's session came before it, and is here as long as the segment is."""
        for i in self.bodies:
            if self.ledger[i].WhichOneof("what") == "segment":
                session = self.items[i][1]
                assert session < i
                assert self.ledger[session].session.session == self.ledger[i].segment.session
                assert session in self.bodies, f"segment {i} is here, its session is not"

    def promises(self) -> None:
        told, vault = self.told, self.car.vault
        assert vault.trusted()[0] >= told.floor, "the time fell"
        for key, values in told.memory.items():
            assert (vault.remembered(key) or b"") in values, f"{key} is forgotten"
        held = {hold.record for hold in vault.holds()}
        assert told.held - told.releasing <= held, "an open hold is lost"
        assert not told.released & held, "a hold that ended is open"
        for (category, log), size in told.withdrawn.items():
            for i, (_, _, consent) in self.items.items():
                if log == self.log and i < size and consent == category:
                    assert i not in self.bodies, f"entry {i} is kept without consent"
            kept = "SELECT count(*) FROM salvage WHERE consent=? AND blob IS NOT NULL"
            assert self.spool.one(kept, (category,)) == 0, "a consent came back with an old file"

    def goes_on(self) -> None:
        """The next entry finds its place, and everything that waits can be opened at the region."""
        vault, region = self.car.vault, Region()
        for body in self.told.sessions:
            session = opening.parse_session(body)[1].session
            region.sessions[session] = opening.open_session(body, world.PRIVATES)
        assert vault.seal(draft(300, lane=sealed_pb2.INCIDENT)) is not None
        self.car.tick()
        region.drain(vault)
        assert vault.take(1, 1, {})[1] == 0
