"""What is kept is counted by heading and month: every count once, whatever cuts in between."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from agent.capture.accounts import KEY, MonthBook, Use, Uses
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.vocabulary import CATEGORIES, PURPOSES
from agent.vault.memory import MAX_VALUE
from tests.capture import driving


def at(year: int, month: int, day: int = 1, hour: int = 0) -> int:
    return int(datetime.datetime(year, month, day, hour, tzinfo=datetime.UTC).timestamp()) * 10**9


class CutError(BaseException):
    """The power is gone."""


class Vault:
    """What a book needs of a vault; it may end before any of its calls."""

    def __init__(self) -> None:
        self.entries: list[ledger_pb2.Kept] = []
        self.kept: dict[str, bytes] = {}
        self.calls_left = 10**6

    def _call(self) -> None:
        if not self.calls_left:
            raise CutError
        self.calls_left -= 1

    def record(self, what: ledger_pb2.Kept) -> int:
        self._call()
        copy = ledger_pb2.Kept()
        copy.CopyFrom(what)
        self.entries.append(copy)
        return len(self.entries)

    def remember(self, key: str, value: bytes) -> None:
        self._call()
        self.kept[key] = value

    def remembered(self, key: str) -> bytes | None:
        return self.kept.get(key)


RULES = (
    driving.rule("speed", keep_s=60),
    driving.rule("doors", keep_s=3600),
    driving.rule("soc", category="battery", purpose="diagnostics_repair"),
    driving.rule("mine", recipients=sealed_pb2.OWNER),
)
POLICY = driving.policy(rules=RULES)


def book(vault: Vault) -> Any:
    return MonthBook(vault)  # type: ignore[arg-type]


def test_rules_of_one_heading_are_one_amount():
    vault = Vault()
    uses = {
        "speed": Use(frames=3), "doors": Use(samples=4), "soc": Use(1, 2), "mine": Use(frames=5),
        "recorder": Use(frames=6), "brake": Use(records=7),
    }  # fmt: skip
    book(vault).enter(POLICY, uses, at(2027, 1, 31, 23))
    book(vault).enter(POLICY, {"doors": Use(samples=1)}, at(2027, 2))
    (kept,) = vault.entries
    assert (kept.month, kept.number) == ("2027-01", 1)
    assert [
        (one.category, one.purpose, one.recipients, one.frames, one.samples, one.records,
         one.shortest_keep_s, one.longest_keep_s) for one in kept.amount
    ] == [
        ("vehicle.state", "safety_event", sealed_pb2.REGION, 3, 4, 0, 60, 3600),
        ("battery", "diagnostics_repair", sealed_pb2.REGION, 1, 2, 0, 86_400, 86_400),
        ("vehicle.state", "safety_event", sealed_pb2.OWNER, 5, 0, 0, 86_400, 86_400),
        ("event.record", "safety_event", sealed_pb2.REGION, 6, 0, 7, 0, 86_400),
    ]  # fmt: skip
    told = str(kept) + str(ledger_pb2.Kept.FromString(vault.kept[KEY]))
    assert not any(name in told for name in ("speed", "doors", "soc", "mine", "brake"))


def test_a_month_in_which_nothing_is_kept_is_no_entry():
    vault = Vault()
    months = book(vault)
    months.enter(POLICY, {}, at(2027, 1))
    months.enter(POLICY, {}, at(2027, 2))
    months.enter(POLICY, {"soc": Use(1)}, at(2027, 2, 2))
    months.enter(POLICY, {}, at(2027, 5))
    months.enter(POLICY, {"soc": Use(1)}, at(2027, 5, 2))
    months.enter(POLICY, {"soc": Use(1)}, at(2027, 3))  # the clock was set back
    assert [one.month for one in vault.entries] == ["2027-02", "2027-05"]
    numbers = [one.number for one in vault.entries]
    assert numbers == sorted(set(numbers))


def test_a_crash_anywhere_counts_nothing_twice():
    """Every count that was booked is in one entry by its number, or in the month so far."""
    for cut in range(6):
        vault = Vault()
        months = book(vault)
        months.enter(POLICY, {"soc": Use(frames=1)}, at(2027, 1))
        vault.calls_left = cut
        booked = 1
        try:
            months.enter(POLICY, {"soc": Use(frames=10)}, at(2027, 2))
            booked += 10
            months.enter(POLICY, {"soc": Use(frames=100)}, at(2027, 3))
            booked += 100
        except CutError:
            assert cut < 4
        vault.calls_left = 10**6
        months = book(vault)
        months.enter(POLICY, {"soc": Use(frames=1000)}, at(2027, 4))
        present = ledger_pb2.Kept.FromString(vault.kept[KEY])
        by_number = {one.number: one for one in (*vault.entries, present)}
        assert sum(a.frames for one in by_number.values() for a in one.amount) == booked + 1000
        for one in vault.entries:
            assert by_number[one.number] == one  # the second is the first, once more


def test_damaged_counts_begin_anew(caplog: pytest.LogCaptureFixture):
    vault = Vault()
    vault.kept[KEY] = b"\xff"
    book(vault).enter(POLICY, {"soc": Use(1)}, at(2027, 1))
    assert ledger_pb2.Kept.FromString(vault.kept[KEY]).amount[0].frames == 1
    assert "damaged" in caplog.text


def test_a_month_of_everything_there_is_can_be_remembered():
    month = ledger_pb2.Kept(month="2027-01", number=2**32)
    for category in CATEGORIES:
        for purpose in PURPOSES:
            for recipients in (1, 2, 3, 4):
                month.amount.add(
                    category=category, purpose=purpose, recipients=recipients, frames=10**12,
                    samples=10**12, records=10**6, shortest_keep_s=10**7, longest_keep_s=10**8,
                )  # fmt: skip
    assert month.ByteSize() <= MAX_VALUE


def test_uses_add_up_and_begin_anew():
    uses = Uses()
    uses.add({"a": (1, 2), "b": (0, 0)})
    uses.add({"a": (3, 4)})
    uses.note("c", 5)
    assert uses.take() == {"a": Use(4, 6, 0), "c": Use(0, 0, 5)}
    assert uses.take() == {}
