"""The code that the car shows: for one key, three tries, two minutes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from agent.owner import presence, register
from agent.owner.presence import Presence
from agent.pb.hatch_pb2 import Enroll, Present
from agent.pb.hatch_pb2 import Presence as Question
from tests.owner.people import ANNA, BELA, CARL, OwnerKey


class Display:
    """A car with a display, and a clock that the test turns."""

    def __init__(self, folder: Path) -> None:
        self.path, self.people = folder / presence.NAME, folder / "state" / register.FILE
        self.now_s = 1000.0
        self.start()

    def start(self) -> None:
        self.presence = Presence(
            self.path, self.people, 1, boottime_s=lambda: self.now_s, now_ns=lambda: 17,
            rng=os.urandom,
        )  # fmt: skip

    def ask(self, key: OwnerKey, role: str = register.OWNER) -> Present:
        public = key.public
        return self.presence.answer(Question(enroll=Enroll(
            recipient=public.recipient, sign=public.sign, name=public.name, role=role
        )))  # fmt: skip

    def type(self, code: str) -> Present:
        return self.presence.answer(Question(code=code))

    @property
    def code(self) -> str:
        return str(json.loads(self.path.read_text())["code"])

    @property
    def wrong(self) -> str:
        return f"{(int(self.code) + 1) % 10**6:06}"

    def enrolled(self) -> list[str]:
        return [one.id for one in register.read(self.people).people]


@pytest.fixture
def display(tmp_path: Path) -> Display:
    return Display(tmp_path)


def test_the_right_code_enrolls_the_key_that_it_was_shown_for(display: Display):
    assert display.ask(ANNA).seconds == presence.GOOD_S
    shown = json.loads(display.path.read_text())
    assert (shown["role"], shown["key"]) == ("owner", ANNA.public.kid)
    assert stat.S_IMODE(display.path.stat().st_mode) == 0o640
    assert display.type(display.code) == Present(id=ANNA.public.kid)
    assert not display.path.exists()
    found = register.read(display.people)
    assert [(one.id, one.role, one.since_ns) for one in found.people] == [
        (ANNA.public.kid, "owner", 17)
    ]
    assert stat.S_IMODE(display.people.stat().st_mode) == 0o600


def test_a_wrong_code_changes_nothing_and_may_be_corrected(display: Display):
    display.ask(ANNA)
    answer = display.type(display.wrong)
    assert (answer.refused, answer.seconds) == ("that is not the code: 2 tries are left", 120)
    assert display.type(display.wrong).refused == "that is not the code: one try is left"
    assert display.enrolled() == []
    assert display.type(display.code).id == ANNA.public.kid


def test_three_wrong_codes_end_it_for_ten_minutes(display: Display):
    display.ask(ANNA)
    code = display.code
    for _ in range(2):
        display.type(display.wrong)
    answer = display.type(display.wrong)
    assert "3 codes were wrong" in answer.refused
    assert not answer.seconds
    assert not display.path.exists()
    assert "no code is shown" in display.type(code).refused
    assert "try again in 600 s" in display.ask(ANNA).refused.replace("601", "600")
    display.now_s += presence.WAIT_S - 1
    assert "3 codes were wrong" in display.ask(ANNA).refused
    display.now_s += 2
    assert not display.ask(ANNA).refused
    assert display.type(display.code).id == ANNA.public.kid


def test_wrong_codes_are_counted_over_new_codes(display: Display):
    """Who begins anew after two wrong ones has one left, not three."""
    for _ in range(2):
        display.ask(ANNA)
        assert display.type(display.wrong).seconds
    display.ask(ANNA)
    assert "3 codes were wrong" in display.type(display.wrong).refused


def test_planted_count_that_begins_anew_with_each_code_lets_one_guess_on(
    display: Display, monkeypatch: pytest.MonkeyPatch
):
    """The test above would see it."""
    begin = Presence._begin

    def forgetful(self: Presence, asked: Enroll) -> Present:
        self._wrong = 0
        return begin(self, asked)

    monkeypatch.setattr(Presence, "_begin", forgetful)
    for _ in range(6):
        display.ask(ANNA)
        assert display.type(display.wrong).seconds


def test_a_code_is_good_for_two_minutes(display: Display):
    display.ask(ANNA)
    code = display.code
    display.now_s += presence.GOOD_S - 0.1
    display.presence.expire()
    assert display.path.exists()
    display.now_s += 0.2
    assert "its time is over" in display.type(code).refused
    assert display.enrolled() == []


def test_an_old_code_leaves_the_display_by_itself(display: Display):
    """The sealer looks twice a second."""
    display.ask(ANNA)
    display.now_s += presence.GOOD_S
    display.presence.expire()
    assert not display.path.exists()


def test_a_code_is_for_one_key_and_is_used_up(display: Display):
    display.ask(ANNA)
    first = display.code
    display.ask(BELA)
    if display.code != first:
        assert display.type(first).refused
    assert display.type(display.code).id == BELA.public.kid
    assert "no code is shown" in display.type(first).refused
    assert display.enrolled() == [BELA.public.kid]


def test_a_code_that_a_dead_run_left_is_taken_away(display: Display):
    display.ask(ANNA)
    display.start()
    assert not display.path.exists()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Enroll(recipient=b"x", sign=bytes(32), name="A", role="owner"), "1216 bytes"),
        (Enroll(recipient=ANNA.public.recipient, sign=b"", name="A", role="owner"), "Ed25519"),
        (
            Enroll(recipient=ANNA.public.recipient, sign=ANNA.public.sign, role="owner"),
            "not a name",
        ),
        (
            Enroll(recipient=ANNA.public.recipient, sign=ANNA.public.sign, name="A", role="king"),
            "'king' is no role",
        ),
        (Enroll(), "no role"),
    ],
)
def test_what_cannot_be_enrolled_gets_no_code(display: Display, asked: Enroll, said: str):
    assert said in display.presence.answer(Question(enroll=asked)).refused
    assert not display.path.exists()


def test_a_car_has_one_owner_and_room_for_eight_people(display: Display):
    display.ask(ANNA)
    display.type(display.code)
    assert "is enrolled already, as owner" in display.ask(ANNA, register.DRIVER).refused
    assert "a car has one" in display.ask(BELA).refused
    for at in range(7):
        display.ask(OwnerKey(bytes([50 + at]) * 32, "D"), register.DRIVER)
        display.type(display.code)
    assert "no room" in display.ask(CARL, register.DRIVER).refused


def test_a_display_that_cannot_be_written_is_said(display: Display):
    display.path = display.path.parent / "nowhere" / "presence.json"
    display.start()
    assert "cannot be shown" in display.ask(ANNA).refused
    assert "no code is shown" in display.type("000000").refused


def test_codes_are_six_digits_that_do_not_repeat(display: Display):
    codes = set()
    for _ in range(50):
        display.ask(ANNA)
        assert len(display.code) == 6
        assert display.code.isdigit()
        codes.add(display.code)
    assert len(codes) > 45
