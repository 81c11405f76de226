"""The consents that count: seen within a look, entered once, ended by time, drive and policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.capture.consent import ConsentSlot, ConsentStep
from agent.pb.ledger_pb2 import ConsentChange
from agent.pb.moment_pb2 import Moment
from agent.policy import consent_file
from agent.policy.clauses import ConsentTerm
from agent.policy.consent import State, terms
from agent.policy.model import Policy
from tests.policy.consenting import DAY_NS, IMAGE, NOW_NS, TRACK, again, policy, rule

BASE = policy(rule("track"), rule("image", category=IMAGE))
BOTH = frozenset({TRACK, IMAGE})
NOBODY: frozenset[str] = frozenset()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consent.json"


def grant(path: Path, category: str = TRACK, *, days: int = 30, each_drive: bool = False) -> None:
    """What `inland consent grant` does."""
    with consent_file.edit(path, mend=True, wait=True) as held:
        held.book = held.book.grant(
            terms(BASE, category), now_ns=NOW_NS, until_ns=NOW_NS + days * DAY_NS,
            each_drive=each_drive,
        )  # fmt: skip


def end(path: Path, state: State, category: str = TRACK) -> None:
    with consent_file.edit(path, mend=True, wait=True) as held:
        held.book = held.book.end(category, state, now_ns=NOW_NS)


class Looker:
    """A slot, its clock and its drive."""

    def __init__(self, path: Path, *, by: Policy | None = BASE, now_ns: int = NOW_NS) -> None:
        self.path, self.slot = path, ConsentSlot(path)
        self.policy, self.now_ns, self.drive = by, now_ns, 1

    def look(self, *, driving: bool = True) -> ConsentStep | None:
        now = Moment(unix_ns=self.now_ns)
        return self.slot.look(self.policy, now, drive=self.drive, driving=driving)

    def step(self, *, driving: bool = True) -> ConsentStep:
        step = self.look(driving=driving)
        assert step is not None
        return step


def told(step: ConsentStep) -> list[tuple[str, str]]:
    return [(one.category, ConsentChange.State.Name(one.state)) for one in step.entries]


def test_without_a_file_everything_is_silent(path):
    car = Looker(path)
    assert car.look() == ConsentStep(BOTH, NOBODY, (), BOTH)
    assert car.look() is None
    assert not path.exists()


def test_without_a_policy_nothing_is_asked_for(path):
    grant(path)
    step = Looker(path, by=None).step()
    assert (step.silent, step.consented, step.ended) == (NOBODY, NOBODY, NOBODY)
    assert told(step) == [(TRACK, "GRANTED")]


def test_granted_and_withdrawn_while_running(path):
    car = Looker(path)
    car.look()
    grant(path)
    step = car.step()
    assert (step.silent, step.consented, step.ended) == ({IMAGE}, {TRACK}, NOBODY)
    (entry,) = step.entries
    assert entry.until_unix_ns == NOW_NS + 30 * DAY_NS
    assert entry.terms == terms(BASE, TRACK).digest
    assert car.look() is None
    end(path, State.WITHDRAWN)
    step = car.step()
    assert (step.silent, step.consented, step.ended) == (BOTH, NOBODY, {TRACK})
    assert told(step) == [(TRACK, "WITHDRAWN")]
    assert car.look() is None


def test_change_made_while_the_agent_is_off_is_entered_once(path):
    grant(path)
    assert told(Looker(path).step()) == [(TRACK, "GRANTED")]
    first = Looker(path)  # the run before ended before it could say that the entry is written
    assert told(first.step()) == [(TRACK, "GRANTED")]
    assert first.look() is None
    assert told(Looker(path).step()) == []


def test_entered_is_said_by_the_caller_too(path):
    grant(path)
    car = Looker(path)
    car.step()
    car.slot.entered()
    again_started = Looker(path).step()
    assert (again_started.consented, told(again_started)) == ({TRACK}, [])


def test_withdrawn_and_granted_again_between_two_looks_is_both(path):
    grant(path)
    car = Looker(path)
    car.step()
    end(path, State.WITHDRAWN)
    grant(path)
    step = car.step()
    assert told(step) == [(TRACK, "WITHDRAWN"), (TRACK, "GRANTED")]
    assert (step.consented, step.ended) == ({TRACK}, {TRACK})  # what was unsent goes all the same


def test_withdrawn_while_the_agent_is_off_ends_at_the_next_start(path):
    grant(path)
    car = Looker(path)
    car.step()
    car.slot.entered()
    end(path, State.WITHDRAWN)
    step = Looker(path).step()
    assert (told(step), step.ended) == ([(TRACK, "WITHDRAWN")], BOTH)


def test_expires_without_anybody_doing_anything_and_stays_so(path):
    grant(path, days=30)
    car = Looker(path)
    car.step()
    car.now_ns += 30 * DAY_NS - 1
    assert car.look() is None
    car.now_ns += 1
    step = car.step()
    assert (told(step), step.ended) == ([(TRACK, "EXPIRED")], {TRACK})
    assert consent_file.read(path).state(TRACK) is State.EXPIRED
    car.now_ns = NOW_NS  # the clock is set back
    assert car.look() is None
    assert Looker(path).step().consented == NOBODY


def test_grant_is_reset_by_the_next_drive(path):
    grant(path, each_drive=True)
    car = Looker(path)
    assert car.step().entries[0].each_drive
    assert car.look() is None
    car.drive += 1
    step = car.step()
    assert (told(step), step.ended, step.silent) == ([(TRACK, "RESET")], {TRACK}, BOTH)
    assert car.look() is None


def test_grant_in_a_standing_car_holds_for_the_drive_that_follows(path):
    grant(path, each_drive=True)
    car = Looker(path)
    car.step(driving=False)
    car.drive += 1
    assert car.look() is None
    car.drive += 1
    assert told(car.step()) == [(TRACK, "RESET")]


def test_drive_is_remembered_over_a_restart(path):
    grant(path, each_drive=True)
    Looker(path).step()
    car = Looker(path)
    car.drive = 2
    assert told(car.step()) == [(TRACK, "GRANTED"), (TRACK, "RESET")]


def test_policy_that_wants_more_needs_a_renewal_before_it_decides(path):
    grant(path)
    car = Looker(path)
    car.step()
    car.policy = policy(rule("track", purpose="insurance"))
    step = car.step()
    assert (told(step), step.silent, step.ended) == ([(TRACK, "NEEDS_RENEWAL")], {TRACK}, {TRACK})
    car.policy = BASE  # put back: only the person can give it again
    assert car.step().consented == NOBODY
    grant(path)
    assert car.step().consented == {TRACK}


def test_policy_that_wants_less_changes_nothing(path):
    grant(path)
    car = Looker(path)
    car.step()
    car.policy = policy(rule("track", keep_s=60))
    step = car.step()
    assert (step.consented, step.silent, told(step)) == ({TRACK}, NOBODY, [])


def test_policy_that_resets_each_drive_is_obeyed(path):
    grant(path)
    car = Looker(path, by=again(BASE, consents=(ConsentTerm(TRACK, 90, each_drive=True),)))
    car.step()
    car.drive += 1
    assert told(car.step()) == [(TRACK, "RESET")]


def test_refusal_is_entered(path):
    car = Looker(path)
    car.look()
    end(path, State.REFUSED)
    step = car.step()
    assert (told(step), step.silent) == ([(TRACK, "REFUSED")], BOTH)


DAMAGE = [b"", b"{", b"[1, 2]", b"[" * 100_000, b'{"format": 1}', b"\xff\xfe", b'{"a": 1, "a": 2}']


@pytest.mark.parametrize("damage", DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_file_is_no_consent_to_anything(path, damage, caplog):
    grant(path)
    car = Looker(path)
    car.step()
    path.write_bytes(damage)
    step = car.step()
    assert (step.silent, step.consented, step.ended) == (BOTH, NOBODY, {TRACK})
    assert told(step) == [(TRACK, "NEVER_ASKED")]
    assert [car.look(), car.look()] == [None, None]
    assert sum("no consent counts" in one.message for one in caplog.records) == 1
    assert path.read_bytes() == damage  # for whoever wants to know why
    grant(path)
    assert next(path.parent.glob("consent.damaged-*")).read_bytes() == damage
    assert told(car.step()) == [(TRACK, "GRANTED")]


def test_file_that_is_taken_away_and_put_back(path):
    grant(path)
    car = Looker(path)
    car.step()
    assert car.look() is None
    away = path.with_name("away")
    path.rename(away)
    assert (told(step := car.step()), step.ended) == ([(TRACK, "NEVER_ASKED")], {TRACK})
    away.rename(path)
    assert told(car.step()) == [(TRACK, "GRANTED")]
    assert car.look() is None


def test_new_book_is_not_taken_for_the_old_one(path):
    grant(path)
    car = Looker(path)
    car.step()
    path.unlink()
    grant(path, IMAGE)
    end(path, State.REFUSED)
    assert told(car.step()) == [(IMAGE, "GRANTED"), (TRACK, "REFUSED")]


def refuse_writing(monkeypatch: pytest.MonkeyPatch, *, full: bool) -> None:
    def write(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(consent_file, "_write", write if full else WRITE)


WRITE = consent_file._write


def test_full_disk_ends_a_consent_all_the_same(path, monkeypatch):
    grant(path)
    car = Looker(path)
    car.step()
    assert car.look() is None
    refuse_writing(monkeypatch, full=True)
    car.now_ns += 30 * DAY_NS
    step = car.step()
    assert (step.silent, step.ended, told(step)) == (BOTH, {TRACK}, [])
    car.now_ns = NOW_NS  # not even now does it come back
    assert car.look() is None
    refuse_writing(monkeypatch, full=False)
    assert told(car.step()) == [(TRACK, "EXPIRED")]
    assert consent_file.read(path).state(TRACK) is State.EXPIRED


def test_command_that_holds_the_file_does_not_hold_up_the_agent(path):
    grant(path, days=1)
    car = Looker(path)
    car.step()
    assert car.look() is None
    with consent_file.edit(path, wait=True):
        car.now_ns += DAY_NS
        step = car.step()
        assert (step.silent, told(step)) == (BOTH, [])
    assert told(car.step()) == [(TRACK, "EXPIRED")]


def test_looking_at_the_same_file_reads_it_once(path, monkeypatch):
    grant(path)
    car = Looker(path)
    car.step()
    car.look()
    reads: list[Path] = []
    monkeypatch.setattr(consent_file, "read", reads.append)
    for _ in range(20):
        car.now_ns += 10**9
        assert car.look() is None
    assert reads == []


def test_hour_that_was_seen_counts_after_a_clock_that_was_set_back(path):
    grant(path, days=1)
    car = Looker(path)
    car.step()
    for _ in range(24):
        car.now_ns += 3600 * 10**9 - 1
        car.look()
    assert consent_file.read(path).grants[TRACK].seen_ns > NOW_NS + 22 * 3600 * 10**9
    late = Looker(path)  # a new start, and a clock that says it is the day of the grant
    late.step()
    assert consent_file.read(path).grants[TRACK].seen_ns > NOW_NS + 22 * 3600 * 10**9


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_belongs_to_whom_the_folder_belongs_to(path):
    os.chown(path.parent, 4321, 4321)
    grant(path)
    assert {path.stat().st_uid, path.with_suffix(".lock").stat().st_uid} == {4321}
    assert path.stat().st_mode & 0o777 == 0o600
