"""A policy under which the agent keeps dying is put back; one that runs is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.digest import sha256
from agent.policy import probation, store
from agent.policy.probation import began, ended_clean, has_proved_itself, proven
from tests.policy.air import policy

OLD, NEW = policy(1), policy(2)
BOOT, OTHER_BOOT = b"\x01" * 16, b"\x02" * 16
S = 10**9


@pytest.fixture
def folder(tmp_path) -> Path:
    """A car that ran OLD for long, and has just got NEW."""
    store.install(tmp_path, OLD)
    began(tmp_path, sha256(OLD), BOOT, 0)
    proven(tmp_path)
    store.install(tmp_path, NEW, proven=has_proved_itself(tmp_path))
    return tmp_path


def starts(folder: Path, *seconds: float, boot: bytes = BOOT, data: bytes = NEW) -> list[bool]:
    return [began(folder, sha256(data), boot, int(one * S)) for one in seconds]


def test_three_deaths_within_ten_minutes_put_it_back_at_the_fourth_start(folder):
    assert starts(folder, 0, 200, 400, 600) == [False, False, False, True]
    assert (store.active(folder), store.floor(folder)) == (OLD, 2)


def test_deaths_further_apart_do_not(folder):
    assert not any(starts(folder, 0, 250, 500, 750, 1000, 1250))
    assert store.active(folder) == NEW


def test_the_policy_that_was_gone_back_to_is_not_on_trial(folder):
    starts(folder, 0, 1, 2, 3)
    assert not any(starts(folder, 4, 5, 6, 7, 8, data=OLD))
    assert store.active(folder) == OLD


def test_a_clean_end_forgets_the_starts_before_it(folder):
    starts(folder, 0, 1, 2)
    ended_clean(folder)
    assert not any(starts(folder, 3, 4, 5))
    assert starts(folder, 6) == [True]


def test_a_policy_that_has_proved_itself_is_left_alone(folder):
    starts(folder, 0)
    proven(folder)
    assert has_proved_itself(folder)
    assert not any(starts(folder, 1, 2, 3, 4, 5))


def test_another_boot_counts_anew(folder):
    starts(folder, 0, 1, 2)
    assert not any(starts(folder, 3, 4, 5, boot=OTHER_BOOT))


def test_another_policy_counts_anew(folder):
    starts(folder, 0, 1, 2)
    store.install(folder, policy(3), proven=has_proved_itself(folder))
    assert not any(starts(folder, 3, 4, 5, data=policy(3)))
    assert starts(folder, 6, data=policy(3)) == [True]
    assert store.active(folder) == OLD, "not to version 2, which never ran well either"


def test_the_first_policy_goes_back_to_none(tmp_path):
    store.install(tmp_path, NEW)
    assert starts(tmp_path, 0, 1, 2, 3) == [False, False, False, True]
    assert (store.active(tmp_path), store.floor(tmp_path)) == (None, 2)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"starts": [true]}', b"[" * 5000, b"\xff"])
def test_a_damaged_note_takes_no_policy_out_of_force(folder, damage):
    starts(folder, 0, 1, 2)
    (folder / probation.FILE).write_bytes(damage)
    assert not any(starts(folder, 3, 4, 5))
    assert starts(folder, 6) == [True]


def test_nothing_is_written_once_it_has_proved_itself(folder):
    starts(folder, 0)
    proven(folder)
    before = (folder / probation.FILE).stat().st_ino
    starts(folder, 1)
    ended_clean(folder)
    proven(folder)
    assert (folder / probation.FILE).stat().st_ino == before


def test_a_power_cut_between_the_note_and_the_deed_is_finished_at_the_next_start(folder):
    starts(folder, 0, 1, 2)
    floor = f"2 {sha256(NEW).hex()} put-back\n".encode()
    (folder / store.FLOOR).write_bytes(floor)
    assert store.active(folder) == NEW
    assert starts(folder, 3, boot=OTHER_BOOT) == [True]
    assert store.active(folder) == OLD


def straightforward(events: list[tuple[str, int]]) -> bool:
    """Whether the policy is put back at some start, by the rule as it is written."""
    dead: list[int] = []
    for what, at in events:
        if what == "clean":
            dead = []
        elif what == "proven":
            return False
        elif len([one for one in dead if at - one <= 600]) >= 3:
            return True
        else:
            dead.append(at)
    return False


HISTORIES = st.lists(
    st.tuples(st.sampled_from(["start", "start", "start", "clean", "proven"]), st.integers(0, 400)),
    max_size=12,
)


@settings(max_examples=30)
@given(HISTORIES)
def test_any_history_goes_by_the_rule(tmp_path_factory, history):
    folder = tmp_path_factory.mktemp("history")
    store.install(folder, NEW)
    at, events, back = 0, [("start", 0)], starts(folder, 0)[0]
    for what, gap in history:
        at += gap
        events.append((what, at))
        if what == "clean":
            ended_clean(folder)
        elif what == "proven":
            proven(folder)
        elif starts(folder, at) == [True]:
            back = True
            break
    assert back == straightforward(events)
