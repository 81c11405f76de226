"""An owner's request at a real station: who is served, with what, and who is not."""

from __future__ import annotations

import base64
import datetime as dt
import json
from pathlib import Path

import pytest

from agent.errors import StationError
from agent.evidence import signed as signed_module
from agent.evidence.bundle_source import BundleSource
from agent.evidence.disclosures import disclosures_of
from agent.evidence.verifier import lines, verify
from agent.owner.at_home import bring_home, story
from agent.owner.page.file import page_of
from agent.pb import sealed_pb2
from agent.pb.ledger_pb2 import OwnerChange
from agent.station import theirs
from agent.station.journal import Journal
from agent.station.people import Stay
from tests.station import asking
from tests.station.asking import ANNA, BELA, NOW, SETS, START_NS, PeopledCar, S
from tests.station.conftest import Place
from tests.station.conftest import enroll as enroll_car


@pytest.fixture
def car(place: Place) -> PeopledCar:
    """3 Anna is enrolled, 4 to 18 five sessions with two segments each."""
    made = asking.new_car(place)
    made.enroll(ANNA)
    made.drive(*SETS)
    return made


def openings(place: Place) -> list[dict[str, object]]:
    journal = Journal(place.store, "cn", place.region.signing_key("openings"))
    return journal.check()[0]


def refusal(place: Place, tmp_path: Path, data: bytes, **more: object) -> str:
    """Why a request is refused; nothing was given out, and nothing entered."""
    before = openings(place)
    with pytest.raises(StationError) as caught:
        asking.answered(place, tmp_path / "out", data, **more)
    assert list((tmp_path / "out").iterdir()) == []
    assert openings(place) == before
    return str(caught.value)


def test_an_owner_gets_all_entries_and_what_is_sealed_to_them(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    """The bundle is intact by the region's own co-signature, and opens with the owner's key."""
    asking.deliver(place, car)
    done = asking.answered(place, tmp_path, asking.signed(place, ANNA))
    assert (done.result["verdict"], done.role, done.bodies) == (0, "owner", 8)
    entries, bodies = asking.inside(done.folder)
    assert entries == {0, *range(2, len(car.entries))}  # 2 shows that nothing more is theirs
    assert bodies == {2, *range(7, 19)}  # the policy, and all sessions but the region's
    home = bring_home(done.folder, [ANNA.private], from_ns=0, to_ns=1 << 62)
    assert home.opened.frame_count == 3 * 40  # owner, shared, driver; "both" needs the region too
    assert home.verdict == 0
    assert home.opened.dropped == {"left out: sealed to others": 2}
    told = story(home, made_ns=START_NS)
    shelves = told.told.shelves
    assert (shelves["region", "routine"].closed, shelves["owner", "routine"].here) == (2, 2)
    page = page_of(told, language="en", zone=dt.UTC)
    assert f"the person with the key {ANNA.public.kid}; unopened" in page
    assert "my accident" in page


def test_what_was_asked_for_is_in_it_and_no_more(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    car.add(boot={"version": "2"})
    for _ in range(130):  # an entry may be written 120 s after its rows
        car.loss()
    asking.deliver(place, car)
    data = asking.signed(place, ANNA, from_ns=START_NS + 10 * S, to_ns=START_NS + 13 * S)
    done = asking.answered(place, tmp_path, data)
    entries, bodies = asking.inside(done.folder)
    assert done.result["verdict"] == 0
    assert bodies == {2, 7, *range(10, 19)}  # 7: the session of the neighbour before
    assert min(entries - {0, 2, 7}) == 9
    assert max(entries) == 134


def test_each_answer_is_in_the_ledger_of_openings_before_it_is_given(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    asking.deliver(place, car)
    data = asking.signed(place, ANNA, purpose="für mich")
    done = asking.answered(place, tmp_path, data)
    [entry] = openings(place)
    assert (entry["kind"], entry["kid"], entry["reason"]) == (
        "request",
        ANNA.public.kid,
        "für mich",
    )
    told = disclosures_of(done.folder)
    assert told is not None
    assert list(told.openings) == [entry]
    assert told.checkpoint.startswith("inland/cn/openings\n1\n")
    said = "\n".join(lines(done.result))
    assert "openings by the region: 1, by its own word; nothing proves them" in said


def test_openings_of_other_cars_are_not_told(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    asking.deliver(place, car)
    journal = Journal(place.store, "cn", place.region.signing_key("openings"))
    for vehicle in ("v-other", place.car.vehicle):
        journal.append({"vehicle": vehicle, "at": "t", "who": "w", "from": "begin", "to": "end",
                        "reason": "r", "segments": 1})  # fmt: skip
    done = asking.answered(place, tmp_path, asking.signed(place, ANNA))
    told = disclosures_of(done.folder)
    assert told is not None
    assert [one["i"] for one in told.openings] == [1, 2]


def test_altered_disclosures_are_named(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    asking.deliver(place, car)
    done = asking.answered(place, tmp_path, asking.signed(place, ANNA))
    path = done.folder / "disclosures.json"
    path.write_text(path.read_text().replace("my accident", "no accident"))
    assert verify(done.folder)["verdict"] == 1


# --- who is not served ------------------------------------------------------------------------


def replayed(place: Place, tmp_path: Path) -> None:
    data = asking.signed(place, ANNA)
    asking.answered(place, tmp_path / "first", data)
    later = NOW + dt.timedelta(seconds=5)
    assert "it was served before, as opening 0" in refusal(place, tmp_path, data, now=later)


def test_a_request_is_served_once(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    asking.deliver(place, car)
    replayed(place, tmp_path)


def expired(place: Place, tmp_path: Path) -> None:
    now_s = int(NOW.timestamp())
    assert "it has expired" in refusal(
        place, tmp_path, asking.signed(place, ANNA, expires_s=now_s - 1)
    )
    asking.answered(place, tmp_path, asking.signed(place, ANNA, expires_s=now_s))


def test_a_request_that_has_expired_is_refused(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    asking.deliver(place, car)
    expired(place, tmp_path)


def test_planted_station_without_a_look_at_the_expiry(
    place: Place, car: PeopledCar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.deliver(place, car)
    monkeypatch.setattr(signed_module, "expired", lambda *_: False)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        expired(place, tmp_path)


def test_forged_and_misdirected_requests_are_refused(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    asking.deliver(place, car)
    sound = asking.signed(place, ANNA)
    altered = sound.replace(b"my accident", b"no accident")
    forged = json.loads(sound)
    forged["sign"] = base64.b64encode(BELA.public.sign).decode()
    for data, why in [
        (altered, "its signature does not fit"),
        (json.dumps(forged, sort_keys=True, separators=(",", ":")).encode() + b"\n", "signature"),
        (sound[:-1], "not in its canonical form"),
        (sound.replace(b":", b": ", 1), "not in its canonical form"),
        (sound * 2, "Extra data"),
        (b"[" * 10_000, "nested too deeply"),
        (b"", "Expecting value"),
        (asking.signed(place, ANNA, region="urn:inland:region:eu"), "it is for urn:inland:reg"),
        (asking.signed(place, ANNA, vehicle="v-9999999999"), "nobody with the key"),
        (asking.signed(place, BELA), "nobody with the key"),
        # Anna's kid, which is public, and a key of one's own:
        (asking.owner_request.write(
            asking.ask(place, ANNA, sign=BELA.public.sign), BELA.signing), "it is not signed with"),
    ]:  # fmt: skip
        assert why in refusal(place, tmp_path, data)


def test_an_enrollment_that_is_not_co_signed_counts_for_nothing(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    """An uplink that was taken over can send entries; it has no key that signs checkpoints."""
    asking.deliver(place, car, cosign=False)
    assert "nobody with the key" in refusal(place, tmp_path, asking.signed(place, ANNA))


def test_an_enrollment_of_an_older_agent_names_no_key(place: Place, tmp_path: Path) -> None:
    car = asking.new_car(place)
    car.enroll(ANNA, sign=b"")
    asking.deliver(place, car)
    assert "it is not signed with the key" in refusal(place, tmp_path, asking.signed(place, ANNA))


# --- a car that was sold ------------------------------------------------------------------------


def sold(place: Place) -> tuple[PeopledCar, int]:
    """Anna's until the entry that is returned, then Bela's."""
    car = asking.new_car(place)
    car.enroll(ANNA)
    car.drive(sealed_pb2.SHARED)
    at = car.sold()
    car.enroll(BELA)
    car.drive(sealed_pb2.SHARED)
    asking.deliver(place, car)
    return car, at


def epochs(place: Place, tmp_path: Path) -> None:
    _, at = sold(place)
    done = asking.answered(place, tmp_path / "a", asking.signed(place, ANNA))
    entries, bodies = asking.inside(done.folder)
    assert max(entries) == at
    assert bodies == {2, 4, 5, 6}
    assert done.result["verdict"] == 0
    done = asking.answered(place, tmp_path / "b", asking.signed(place, BELA))
    entries, bodies = asking.inside(done.folder)
    assert min(entries - {0, 2}) == at  # what shows that there is no more
    assert bodies == {2, at + 2, at + 3, at + 4}
    assert done.result["verdict"] == 0


def test_each_owner_gets_their_own_ownership_alone(place: Place, tmp_path: Path) -> None:
    epochs(place, tmp_path)


@pytest.mark.parametrize("bug", ["end", "begin"])
def test_planted_station_that_forgets_whose_time_it_was(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    real = theirs.stays

    def planted(ledger: object, kid: bytes) -> list[Stay]:
        found = real(ledger, kid)  # type: ignore[arg-type]
        if bug == "end":
            return [Stay(one.role, one.sign, one.first, one.from_ns) for one in found]
        return [Stay(one.role, one.sign, 0, 0, one.last, one.to_ns) for one in found]

    monkeypatch.setattr(theirs, "stays", planted)
    with pytest.raises(AssertionError):
        epochs(place, tmp_path)


def test_a_former_owner_has_nothing_of_a_time_after(place: Place, tmp_path: Path) -> None:
    _, at = sold(place)
    data = asking.signed(place, ANNA, from_ns=START_NS + (at + 1) * S)
    assert "was not enrolled at the time" in refusal(place, tmp_path, data)


def test_a_driver_gets_the_time_until_they_were_taken_out(place: Place, tmp_path: Path) -> None:
    car = asking.new_car(place)
    car.enroll(BELA)
    car.drive(sealed_pb2.DRIVER)
    car.enroll(ANNA, role=OwnerChange.DRIVER_OF_CAR)
    mine = car.drive(sealed_pb2.DRIVER)
    out = car.change(ANNA, OwnerChange.REMOVED, role=OwnerChange.DRIVER_OF_CAR)
    car.drive(sealed_pb2.DRIVER)
    asking.deliver(place, car)
    done = asking.answered(place, tmp_path, asking.signed(place, ANNA))
    entries, bodies = asking.inside(done.folder)
    assert (done.role, done.result["verdict"], max(entries)) == ("driver", 0, out)
    assert bodies == {2, mine[0] - 1, *mine}


def test_a_car_of_another_owner_tells_nothing(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    asking.deliver(place, car)
    enroll_car(place.region, tmp_path / "second", "v-2222222222")
    data = asking.signed(place, ANNA, vehicle="v-2222222222")
    (tmp_path / "out").mkdir()
    assert "nobody with the key" in refusal(place, tmp_path, data)


@pytest.mark.parametrize("who", ["together", "alone", "another before"])
def test_who_is_entered_again_in_the_log_after_a_lost_one_has_all_of_it(
    place: Place, car: PeopledCar, tmp_path: Path, who: str
) -> None:
    """But if the new log says that somebody else was there first, it is theirs until then."""
    asking.deliver(place, car)
    after = asking.new_car(place)
    for _ in range(5):
        after.loss()
    if who != "alone":
        after.enroll(BELA)
    if who == "another before":
        after.drive(sealed_pb2.OWNER)
        after.sold()
    first = after.enroll(ANNA)
    asking.deliver(place, after)
    done = asking.answered(place, tmp_path, asking.signed(place, ANNA))
    source = BundleSource(done.folder)
    got = {log: set(source.entries(log)) for log in source.logs()}
    assert got[car.log] == {0, *range(2, len(car.entries))}
    mine = first - 1 if who == "another before" else 2  # 2, or the sale: the neighbour before
    assert got[after.log] - {0, 2} == set(range(mine, first + 1)) - {2}
