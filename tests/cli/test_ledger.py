"""`inland ledger`: the counts of a year against a count by hand, and every entry in words."""

from __future__ import annotations

import datetime
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import ledger, ledger_view
from agent.errors import SpoolError, UndecidedError
from agent.pb import ledger_pb2 as pb
from agent.pb import moment_pb2, sealed_pb2
from agent.service.ledger import Yearly, report
from agent.vault.yearly import LedgerReader
from tests.policy.making import collect, compiled
from tests.vault.world import NOW_NS, Car, Region, draft

YEAR = datetime.datetime.fromtimestamp(NOW_NS // 10**9, datetime.UTC).year
MARKER = b"MARKER-THAT-NOBODY-MAY-READ"


def fleet() -> bytes:
    frames = [{"channel": "*", "first_id": 1, "last_id": 1}]
    return compiled([
        collect("soc", keep_s=3600, frames=frames),
        collect("volt", keep_s=7 * 86_400, frames=frames),
        collect("speed", category="vehicle.state", purpose="owner_access", basis="safety",
                recipients=sealed_pb2.SHARED, frames=frames),
    ])  # fmt: skip


def battery(**counts: int) -> pb.Amount:
    return pb.Amount(
        category="battery", purpose="regulatory_monitoring", recipients=sealed_pb2.REGION, **counts
    )


def speed(**counts: int) -> pb.Amount:
    return pb.Amount(category="vehicle.state", purpose="owner_access",
                     recipients=sealed_pb2.SHARED, **counts)  # fmt: skip


def kept(month: int, number: int, *amounts: pb.Amount, year: int = YEAR) -> pb.Kept:
    return pb.Kept(month=f"{year}-{month:02}", number=number, amount=amounts)


ENTRIES = [
    kept(12, 1, battery(samples=1000), year=YEAR - 1),  # entered in January
    kept(1, 2, battery(samples=10, shortest_keep_s=3600, longest_keep_s=3600), speed(frames=5)),
    kept(2, 3, battery(samples=7, shortest_keep_s=7200, longest_keep_s=7 * 86_400)),
    kept(2, 3, battery(samples=7, shortest_keep_s=7200, longest_keep_s=7 * 86_400)),  # once more
    pb.ConsentChange(category="location.track", state=pb.ConsentChange.GRANTED,
                     until_unix_ns=NOW_NS, each_drive=True),
    pb.ConsentChange(category="location.track", state=pb.ConsentChange.GRANTED,
                     until_unix_ns=NOW_NS, each_drive=True),  # after a crash, once more
    pb.ConsentChange(category="location.track", state=pb.ConsentChange.WITHDRAWN),
    pb.Incident(record=3, held=[pb.Range(first=1, last=4)], upload=True),
    pb.Incident(state=pb.Incident.SUPPRESSED, count=9),
    pb.Incident(record=3, state=pb.Incident.INTERRUPTED),
    pb.Loss(channel="can0", count=3, cause=pb.Loss.KERNEL),
    pb.Loss(count=4, cause=pb.Loss.KERNEL),
    pb.Loss(channel="can1", count=2, cause=pb.Loss.OVERRUN),
    pb.Drop(range=[pb.Range(first=1, last=2), pb.Range(first=9, last=9)],
            reason=pb.Drop.WITHDRAWN),
    pb.Refusal(what="policy", code="rollback", count=2),
    pb.ClockStep(from_unix_ns=NOW_NS, to_unix_ns=NOW_NS - 60 * 10**9),
    pb.BusState(channel="can0", state="error-storm", count=4000),
    pb.Gap(why="corrupt", size=12, salvaged=3),
    pb.PolicyInForce(why="expired"),
    pb.OwnerChange(kid=b"k" * 8, role=pb.OwnerChange.OWNER_OF_CAR, what=pb.OwnerChange.ENROLLED),
    pb.OwnerChange(kid=b"d" * 8, role=pb.OwnerChange.DRIVER_OF_CAR, what=pb.OwnerChange.DRIVES),
    pb.OwnerChange(what=pb.OwnerChange.NOBODY_DRIVES),
    pb.Transfer(from_epoch=1, to_epoch=2, custody="tpm", erased=[pb.Erased(bodies=3)]),
]  # fmt: skip


@pytest.fixture(scope="module")
def car(tmp_path_factory):
    """A car whose ledger has every kind of entry, and which goes on running."""
    car = Car(tmp_path_factory.mktemp("car") / "state")
    car.vault.decide_by(pb.PolicyInForce(name="test", version=1, why="installed"), fleet())
    for entry in ENTRIES:
        car.vault.record(entry)
    for size in (500, 5000):
        assert car.vault.seal(draft(size, data=MARKER * (size // 20))) is not None
    car.vault.seal(draft(100, lane=sealed_pb2.INCIDENT))
    Region().drain(car.vault)
    car.vault.seal(draft(100))
    present = kept(3, 4, battery(records=3), pb.Amount(category="diag.dtc", purpose="ota"))
    car.vault.remember("kept", present.SerializeToString())
    yield car
    car.shut()


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(ledger.command, [*arguments, "--state", str(folder)])


def good(folder: Path, *arguments: str) -> str:
    result = run(folder, *arguments)
    assert result.exit_code == 0, result.exception
    return result.output


@pytest.fixture(scope="module")
def told(car):
    return json.loads(good(car.folder, "--year", str(YEAR), "--json"))


def test_amounts_are_added_up_by_category_purpose_and_recipients(told):
    rows = {(one["category"], one["purpose"], one["recipients"]): one for one in told["kept"]}
    battery = rows["battery", "regulatory_monitoring", "region"]
    assert (battery["samples"], battery["rules"]) == (17, ["soc", "volt"])
    assert battery["records"] == 3  # of the month that is not over
    assert battery["keep_s"] == [3600, 7 * 86_400]
    assert rows["vehicle.state", "owner_access", "shared"]["frames"] == 5
    assert (
        rows["diag.dtc", "ota", "recipients_unspecified"]["rules"] == []
    )  # of no policy that decided


def test_a_month_that_is_entered_late_counts_for_its_own_year(car):
    told = json.loads(good(car.folder, "--year", str(YEAR - 1), "--json"))
    assert [one["samples"] for one in told["kept"]] == [1000]
    assert (told["entries"], told["first"]) == (0, None)


def test_counts_of_the_month_that_are_damaged_are_left_out(tmp_path):
    car = Car(tmp_path / "state")
    car.vault.remember("kept", b"\xff\xff")
    assert json.loads(good(car.folder, "--year", str(YEAR), "--json"))["kept"] == []
    car.shut()


def test_everything_else_is_counted(told, car):
    segments = [one.bytes for one in car.what("segment") if one.lane == sealed_pb2.ROUTINE]
    assert told["segments"]["routine"] == {"count": 3, "bytes": sum(segments)}
    assert told["segments"]["incident"]["count"] == 1
    assert told["consents"] == {"location.track": {"granted": 1, "withdrawn": 1}}
    assert told["incidents"] == {
        "complete": 1, "interrupted": 1, "entries held": 4, "suppressed": 9, "uploaded": 1,
    }  # fmt: skip
    assert told["losses"] == {"kernel": 7, "overrun": 2}
    assert told["drops"] == {"withdrawn": 3}
    assert told["refusals"] == {"policy: rollback": 2}
    assert told["clock_steps"] == {"count": 1, "largest_s": 60.0}
    assert told["gaps"] == 1
    assert told["starts"] == {"count": 1, "unclean": 0}
    assert [(one["name"], one["why"]) for one in told["policies"]] == [
        ("test", "installed"), (None, "expired"),
    ]  # fmt: skip


def test_frame_of_the_report(told, car):
    size = len(car.entries())
    assert (told["year"], told["vehicle"], told["region"]) == (
        YEAR, "car-00000001", "urn:inland:region:x",
    )  # fmt: skip
    assert told["entries"] == size
    assert (told["first"]["entry"], told["last"]["entry"]) == (0, size - 1)
    assert told["uploads"] == {"confirmed": size - 1, "waiting": 1}


def test_another_year_has_nothing_of_it(car):
    told = json.loads(good(car.folder, "--year", str(YEAR - 2), "--json"))
    assert (told["entries"], told["kept"], told["first"]) == (0, [], None)
    assert "no entries of this year" in good(car.folder, "--year", str(YEAR - 2))


def test_report_for_a_person_has_every_figure(car):
    text = good(car.folder, "--year", str(YEAR))
    for words in (
        "battery, regulatory_monitoring, region: 0 frames, 17 samples, 3 records, kept 1h to 7d",
        "location.track       granted 1, withdrawn 1", "suppressed 9", "lost          kernel 7",
        "dropped       withdrawn 3", "refused       policy: rollback 2", "the largest 60 s",
        "gaps          1", "1 waiting", "test version 1 (installed)",
    ):  # fmt: skip
        assert words in text


def test_last_entries_in_words(car):
    lines = good(car.folder, "--last", "1000").splitlines()
    assert len(lines) == len(car.entries())
    text = "\n".join(lines)
    for words in (
        "ledger begun for car-00000001", "agent test started", "policy test version 1 decides",
        "consent to location.track: granted until", "or until the drive ends",
        "contents of entries 1-2, 9 dropped: the consent to them has ended",
        "9 events counted and not recorded", "event of entry 3: entries 1-4 held, for the region",
        "3 frames or samples of can0 lost: the kernel's buffer ran over", "jumped by -60 s",
        "at least 2 frames or samples of can1 lost: the bus controller ran over",
        "bus can0 error-storm, 4,000 error frames", "of 12 entries could not be continued",
        f"owner {'6b' * 8} is enrolled", f"driver {'64' * 8} drives",
        "nobody who is enrolled drives",
        "transferred: ownership 1 ended and 2 began, 3 contents erased (tpm custody)",
        "sealed to region", "bytes sealed on lane incident", "no policy decides",
        f"kept in {YEAR}-01: 5 frames, 10 samples, 0 records", "(by its clock)",
    ):  # fmt: skip
        assert words in text
    assert len(good(car.folder).splitlines()) == 20
    rows = [json.loads(one) for one in good(car.folder, "--last", "3", "--json").splitlines()]
    assert [one["entry"] for one in rows] == [len(lines) - 3, len(lines) - 2, len(lines) - 1]
    assert set(rows[0]) == {"entry", "at", "clock", "what", "words"}


def test_no_contents_and_no_keys_are_shown(car):
    everything = good(car.folder, "--last", "1000") + good(car.folder, "--year", str(YEAR))
    assert MARKER.decode() not in everything
    assert MARKER.hex() not in everything


def test_every_kind_of_entry_has_words():
    kinds = pb.Entry.DESCRIPTOR.oneofs_by_name["what"].fields
    for field in kinds:
        entry = pb.Entry()
        getattr(entry, field.name).SetInParent()
        assert "does not know" not in ledger_view.words(entry), field.name
    assert "does not know" in ledger_view.words(pb.Entry())


def strange(kind: str) -> pb.Entry:
    """An entry of a newer car: every cause, state and lane in it is one that nobody here knows."""
    entry = pb.Entry()
    what = getattr(entry, kind)
    what.SetInParent()
    for one in what.DESCRIPTOR.fields:
        if one.enum_type is not None:
            setattr(what, one.name, 99)
    entry.at.quality = 99
    return entry


@pytest.mark.parametrize(
    "kind", [one.name for one in pb.Entry.DESCRIPTOR.oneofs_by_name["what"].fields]
)
def test_what_a_newer_car_wrote_is_its_number(kind: str):
    entry = strange(kind)
    Yearly(1970, dict[bytes, bytes]().get).add(entry)
    assert ledger_view.said(entry)["clock"] == "99"
    assert kind not in ("loss", "drop", "segment", "session") or "99" in ledger_view.line(entry)


def test_writer_is_not_held_up(tmp_path):
    """While a report is being read, the agent writes, and may copy its log back."""
    car = Car(tmp_path / "state")
    with LedgerReader(car.folder) as reader:
        entries = reader.entries()
        next(entries)
        before = len(car.entries())
        car.vault.record(pb.BusState(channel="can9", state="up"))
        busy = car.vault._spool.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        assert busy == 0
        assert sum(1 for _ in entries) == before - 1  # as far as they went at the start
    car.shut()
    assert "bus can9 up" in good(car.folder)  # and it can be read when nobody writes


def test_nothing_can_be_written_by_a_reader(car):
    with LedgerReader(car.folder) as reader, pytest.raises(Exception, match="readonly"):
        reader._connection.execute("DELETE FROM ledger")


def test_without_a_ledger_it_cannot_be_said(tmp_path):
    error = run(tmp_path, "--year", "2026").exception
    assert isinstance(error, UndecidedError)
    assert "there is no ledger yet" in str(error)
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_one_line(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "spool.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    error = run(tmp_path).exception
    assert isinstance(error, SpoolError)
    assert "\n" not in str(error)


# --- the same counts by a straightforward way -------------------------------------------------


def random_entries(rng: random.Random) -> list[pb.Entry]:
    entries = []
    for index in range(rng.randrange(60)):
        year = rng.choice((YEAR - 1, YEAR, YEAR + 1))
        at = datetime.datetime(year, rng.randint(1, 12), 1, tzinfo=datetime.UTC).timestamp()
        entry = pb.Entry(index=index, at=moment_pb2.Moment(unix_ns=int(at) * 10**9))
        kind = rng.choice(("kept", "loss", "drop"))
        if kind == "kept":
            purpose = rng.choice(("ota", "insurance", "navigation"))
            month = datetime.datetime.fromtimestamp(at, datetime.UTC).month
            amount = pb.Amount(purpose=purpose, frames=rng.randrange(9))
            entry.kept.CopyFrom(kept(month, index + 1, amount, year=year))
        elif kind == "loss":
            entry.loss.CopyFrom(pb.Loss(count=rng.randrange(9), cause=rng.choice((1, 2))))
        else:
            first = rng.randrange(9)
            ranges = [pb.Range(first=first, last=first + rng.randrange(3))]
            entry.drop.CopyFrom(pb.Drop(range=ranges, reason=rng.choice((1, 6))))
        entries.append(entry)
    return entries


def counts_agree(entries: list[pb.Entry], year: int) -> bool:
    yearly = Yearly(year, lambda index, digest: None)
    for entry in entries:
        yearly.add(entry)
    told = report(yearly.finish(pb.Kept()), 0)
    lost, dropped, frames = Counter(), Counter(), Counter()
    first = datetime.datetime(YEAR, 1, 1, tzinfo=datetime.UTC).timestamp() * 10**9
    after = datetime.datetime(YEAR + 1, 1, 1, tzinfo=datetime.UTC).timestamp() * 10**9
    for entry in entries:
        if first <= entry.at.unix_ns < after:
            for one in entry.kept.amount:
                frames[one.purpose] += one.frames
            if entry.HasField("loss"):
                lost[pb.Loss.Cause.Name(entry.loss.cause).lower()] += entry.loss.count
            for one in entry.drop.range:
                name = pb.Drop.Reason.Name(entry.drop.reason).lower()
                dropped[name] += len(range(one.first, one.last + 1))
    return (told["losses"], told["drops"]) == (lost, dropped) and frames == {
        one["purpose"]: one["frames"] for one in told["kept"]
    }


def test_counts_agree_with_a_count_one_by_one():
    assert all(counts_agree(random_entries(random.Random(seed)), YEAR) for seed in range(100))


def test_a_planted_bug_is_found():
    """The year before, in place of the one that was asked for."""
    assert not all(
        counts_agree(random_entries(random.Random(seed)), YEAR - 1) for seed in range(100)
    )
