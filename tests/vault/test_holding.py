"""Holds, rolling, withdrawal: the spool against a model of plain lists, on virtual time.

The car may be killed at any step, receipts may be late, lost or come twice. Bugs that are planted
in one place each must be found by the same machine.
"""

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.pb import ledger_pb2, sealed_pb2
from agent.vault import forgetting, incidents, outbound
from agent.vault.shelves import Shelf
from tests.vault import world
from tests.vault.world import Car, Region, draft, hold

TEMPLATE: list[Path] = []
S = 10**9


class Segment:
    """A segment as the model sees it."""

    def __init__(self, recorded, consent):
        self.recorded, self.consent = recorded, consent
        self.wanted_by, self.upload, self.here = set(), recorded is None, True


class World(RuleBasedStateMachine):
    @initialize()
    def start(self):
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="inland-test-", dir=memory))
        world.fresh(self.folder / "state", TEMPLATE[0])
        self.car, self.region = Car(self.folder / "state"), Region()
        self.end, self.number = 0, 0
        self.segments: dict[int, Segment] = {}
        self.holds: dict[int, tuple[int, int, bool]] = {}
        self.receipts: list[bytes] = []

    def want(self, segment, record):
        first, last, upload = self.holds[record]
        begin, end = segment.recorded or (last + 1, last + 1)
        if segment.here and begin <= last and end >= first:
            segment.wanted_by.add(record)
            segment.upload |= upload

    @rule(length=st.integers(0, 5), consent=st.sampled_from(["", "", "a", "b"]))
    def the_recorder_seals(self, length, consent):
        recorded = (self.end, self.end + length * S)
        self.end = recorded[1]
        i = self.car.vault.seal(draft(
            300, lane=sealed_pb2.RECORDER, recorded=recorded, consent=consent
        ))  # fmt: skip
        self.segments[i] = Segment(recorded, consent)
        for record in self.holds:
            self.want(self.segments[i], record)

    @rule(consent=st.sampled_from(["", "a", "b"]))
    def a_rule_seals(self, consent):
        self.segments[self.car.vault.seal(draft(300, consent=consent))] = Segment(None, consent)

    @rule(before=st.integers(0, 12), after=st.integers(0, 8), upload=st.booleans())
    def an_event_holds(self, before, after, upload):
        self.number += 1
        first, last = max(0, self.end - before * S), self.end + after * S
        self.holds[self.number] = (first, last, upload)
        hold(self.car.vault, self.number, first, last, upload=upload)
        for segment in self.segments.values():
            self.want(segment, self.number)

    @precondition(lambda self: self.holds)
    @rule(at=st.integers(0, 9))
    def an_event_is_over(self, at):
        record = sorted(self.holds)[at % len(self.holds)]
        wanted = {i for i, s in self.segments.items() if record in s.wanted_by}
        held, index = self.car.vault.release(record, state=ledger_pb2.Incident.COMPLETE)
        told = {i for part in held for i in range(part.first, part.last + 1)}
        recorder = {i for i, s in self.segments.items() if s.recorded is not None}
        assert wanted <= told, "a held segment is not listed"
        # What was rolled or withdrawn before may lie inside: a drop entry explains it.
        here = {i for i in recorder if self.segments[i].here}
        assert told & here <= wanted, "listed, but not held"
        entry = self.car.what("incident")[-1]
        assert (entry.record, list(entry.held)) == (record, held)
        assert self.car.entries()[index].incident == entry
        del self.holds[record]

    @rule(window=st.integers(-1, 15))
    def the_window_moves(self, window):
        self.car.tick(60)
        self.car.vault.roll(window * S)
        for segment in self.segments.values():
            if segment.recorded is not None and not segment.wanted_by:
                segment.here &= segment.recorded[1] >= self.end - window * S

    @rule(category=st.sampled_from(["a", "b"]))
    def consent_ends(self, category):
        here = [s for s in self.segments.values() if s.here and s.consent == category]
        assert self.car.vault.withdraw(category) == len(here)
        for segment in here:
            segment.here = False

    @rule(count=st.sampled_from([2, 40, 40]), fate=st.sampled_from(["arrives", "arrives", "lost"]))
    def uplink(self, count, fate):
        batch, _ = self.car.vault.take(count, world.MIB, {})
        for out in batch:
            segment = self.segments.get(out.upload.index)
            if segment is not None and out.upload.body:
                assert segment.here, "handed out after it was withdrawn"
                assert segment.upload, "the recorder's body left the car unasked"
        if fate == "arrives" and batch:
            self.receipts.append(self.region.receipt(self.region.take(batch)))

    @precondition(lambda self: self.receipts)
    @rule(at=st.sampled_from([0, -1, 5]), again=st.booleans())
    def downlink(self, at, again):
        payload = self.receipts[at % len(self.receipts)]
        if not again:
            self.receipts.remove(payload)
        assert self.car.vault.receipt(payload)[1]

    @rule()
    def the_power_goes(self):
        self.car.crash()
        self.car.start()

    @invariant()
    def bodies_and_holds_are_those_of_the_model(self):
        if not hasattr(self, "car"):
            return
        here = {i for (i,) in self.car.vault._spool.rows("SELECT i FROM body")}
        model = {i for i, segment in self.segments.items() if segment.here}
        assert here & set(self.segments) == model, "bodies"
        assert {
            h.record: (h.from_ns, h.to_ns, h.upload) for h in self.car.vault.holds()
        } == self.holds, "holds"  # fmt: skip
        assert self.car.vault.recorded_ns() == self.end, "axis"

    def teardown(self):
        if not hasattr(self, "car"):
            return
        try:
            self.region.drain(self.car.vault)
            got = {i for _, i in self.region.payloads}
            for i, segment in self.segments.items():
                assert i in got or not (segment.here and segment.upload), f"{i} was not uploaded"
                assert segment.upload or i not in got
            dropped = {
                i for d in self.car.what("drop") for r in d.range
                for i in range(r.first, r.last + 1)
            }  # fmt: skip
            dropped &= set(self.segments)  # sessions that nothing needs any more go as well
            assert {i for i, s in self.segments.items() if not s.here} == dropped
            assert self.car.vault._log.tree.root() == world.root_of(self.car.vault)
            fresh = world.tally_of(self.car.vault)
            tally = self.car.vault._spool.tally
            assert (fresh.entries, fresh.bytes) == (tally.entries, tally.bytes)
        finally:
            self.car.shut()
            shutil.rmtree(self.folder)


def run(examples, phases=tuple(Phase)):
    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), print_blob=False, derandomize=True,
            report_multiple_bugs=False, phases=phases,
        ),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def template(empty_spool):
    random.seed(3)
    TEMPLATE[:] = [empty_spool]


def test_holds_windows_and_consents_are_those_of_the_model():
    run(25)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_holds_windows_and_consents_in_many_more_worlds():
    run(300)


def any_receipt_confirms(monkeypatch):
    real = outbound._settle
    monkeypatch.setattr(outbound, "_settle", lambda t, i, _: real(t, i, False))


def locked_bodies_are_rolled(monkeypatch):
    monkeypatch.setattr(incidents, "held_shelf", lambda shelf, *, upload: shelf)


def what_comes_later_is_not_held(monkeypatch):
    monkeypatch.setattr(
        incidents.Incidents, "stand",
        lambda self, recorded, keep_s: incidents.Stand(Shelf.RECORDER, keep_s, None),
    )  # fmt: skip


def a_segment_is_listed_once(monkeypatch):
    def first(records, transaction, i):
        for record in list(records)[:1]:
            if not transaction.run("SELECT 1 FROM held WHERE i=?", (i,)).fetchone():
                transaction.run("INSERT OR IGNORE INTO held VALUES(?,?)", (record, i))

    monkeypatch.setattr(incidents, "_list", first)


def a_hold_is_in_memory_alone(monkeypatch):
    monkeypatch.setattr(incidents.Incidents, "write_down", lambda self: None)


def confirmed_bodies_outlive_a_consent(monkeypatch):
    real = forgetting.Forgetting._labelled
    monkeypatch.setattr(
        forgetting.Forgetting, "_labelled",
        lambda self, category, bound: [
            i for i in real(self, category, bound)
            if self._log.spool.one("SELECT shelf<8 FROM item WHERE i=?", (i,))
        ],
    )  # fmt: skip


def the_axis_begins_anew(monkeypatch):
    monkeypatch.setattr(
        "agent.vault.log.axis_end",
        lambda spool: spool.one("SELECT max(recorded_to) FROM item") or 0,
    )


BUGS = (
    any_receipt_confirms, locked_bodies_are_rolled, what_comes_later_is_not_held,
    a_segment_is_listed_once, a_hold_is_in_memory_alone, confirmed_bodies_outlive_a_consent,
    the_axis_begins_anew,
)  # fmt: skip


def story():
    """One way through the machine that every planted bug stands in the way of."""
    machine = World()
    machine.start()
    arrives = (40, "arrives")
    steps = [
        (machine.a_rule_seals, "a"), *[(machine.the_recorder_seals, 2, "")] * 5,
        (machine.uplink, *arrives),  # their entries are on the way, without bodies
        (machine.an_event_holds, 6, 4, True), (machine.downlink, 0, False),
        (machine.the_power_goes,), (machine.the_recorder_seals, 3, ""),
        (machine.an_event_holds, 5, 3, False), (machine.the_recorder_seals, 1, "b"),
        (machine.the_recorder_seals, 5, ""), (machine.the_recorder_seals, 5, ""),
        (machine.uplink, *arrives), (machine.downlink, 0, False), (machine.the_window_moves, 3),
        (machine.consent_ends, "a"), (machine.an_event_is_over, 0), (machine.an_event_is_over, 0),
        (machine.the_window_moves, -1), (machine.uplink, *arrives), (machine.downlink, -1, True),
        (machine.the_power_goes,), (machine.the_recorder_seals, 1, ""), (machine.consent_ends, "b"),
    ]  # fmt: skip
    try:
        for step, *values in steps:
            step(*values)
            machine.bodies_and_holds_are_those_of_the_model()
    finally:
        machine.teardown()


def test_a_story():
    story()


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_found_in_the_story(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        story()


@pytest.mark.parametrize("bug", BUGS[1:5])
def test_planted_bugs_are_found_by_chance(bug, monkeypatch):
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        run(240, (Phase.generate,))
