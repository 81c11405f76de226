"""An authority's order at a real station: its window and nothing more, once, and not in secret."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import ConfigError, StationError
from agent.evidence import box
from agent.evidence.disclosures import disclosures_of
from agent.pb import sealed_pb2
from agent.station import disclose as disclose_module
from agent.station import order as order_module
from agent.station import order_keys, serve_order
from agent.station.journal import Journal
from agent.station.order import AuthorityOrder
from agent.station.serve_order import Served
from agent.vault import keys
from tests.station import asking
from tests.station.asking import ANNA, NOW, PeopledCar, S, begins_ns
from tests.station.conftest import Place

POLICE = Ed25519PrivateKey.from_private_bytes(b"p" * 32)
NAME = "Police of Zhengzhou"
BASIS = "Criminal Procedure Law, article 54"
SEGMENTS = (5, 6, 8, 9, 11, 12, 14, 15, 17, 18)
NOW_S = int(NOW.timestamp())
FIRST, LAST = begins_ns(9) + 5 * 10**6, begins_ns(11) + 3 * 10**6


@pytest.fixture
def car(place: Place) -> PeopledCar:
    """Segments for the region: 5, 6, 8, 9, 11, 12, 14, 15, 17, 18; for the owner: 20, 21."""
    order_keys.add(place.region.path, NAME, POLICE.public_key().public_bytes_raw())
    made = asking.new_car(place)
    made.enroll(ANNA)
    made.drive(*[sealed_pb2.REGION] * 5, sealed_pb2.OWNER)
    asking.deliver(place, made)
    return made


def order(place: Place, **more: object) -> AuthorityOrder:
    values: dict[str, object] = {
        "id": os.urandom(16).hex(), "region": place.region.card.region, "reference": "2026/117",
        "basis": BASIS,
        "authority": NAME, "officer": "Wang Min", "vehicle": place.car.vehicle,
        "from_ns": FIRST, "to_ns": LAST, "lanes": (), "issued_s": NOW_S - 60,
        "expires_s": NOW_S + 3600, "tell_from_s": 0,
    }  # fmt: skip
    return AuthorityOrder(**{**values, **more})  # type: ignore[arg-type]


def signed(place: Place, *, key: Ed25519PrivateKey = POLICE, **more: object) -> bytes:
    return order_module.write(order(place, **more), key)


def serve(place: Place, folder: Path, data: bytes) -> Served:
    return serve_order.serve(place.region, data, folder, who="tester", now=NOW)


def openings(place: Place) -> list[dict[str, object]]:
    return Journal(place.store, "cn", place.region.signing_key("openings")).check()[0]


def window(place: Place, folder: Path) -> None:
    """What lies in the folder is of the window, all of it, to the nanosecond."""
    serve(place, folder, signed(place))
    stamps = [
        int(found[1].replace(".", "")) * 1000
        for line in (folder / "frames.log").read_text().splitlines()
        if (found := re.match(r"\((\d+\.\d{6})\)", line))
    ]
    every = [begins_ns(at) + ms * 10**6 for at in SEGMENTS for ms in range(20)]
    assert stamps == [at for at in every if FIRST <= at <= LAST]


def test_exactly_the_window_is_opened(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    window(place, tmp_path / "case")
    assert (tmp_path / "case").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "case" / "signals.csv").read_text().count("\n") == 1  # its head
    assert json.loads((tmp_path / "case" / "order.json").read_text())["officer"] == "Wang Min"


@pytest.mark.parametrize("bug", ["later", "earlier"])
def test_planted_window_that_is_not_cut(
    place: Place, car: PeopledCar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    """Whole segments instead of rows: what lies beside the window goes along."""
    real = disclose_module.open_segments

    def planted(source: object, found: object, request: object, *more: object) -> object:
        wide = {"to_ns": LAST + S} if bug == "later" else {"from_ns": FIRST - S}
        return real(source, found, replace(request, **wide), *more)

    monkeypatch.setattr(disclose_module, "open_segments", planted)
    with pytest.raises(AssertionError):
        window(place, tmp_path / "case")


def test_it_is_entered_before_anything_is_opened(
    place: Place, car: PeopledCar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opener fails; the entry is there all the same, and no folder is."""

    def broken(*_: object) -> None:
        raise ConfigError("more rows than fit")

    monkeypatch.setattr(disclose_module, "open_segments", broken)
    with pytest.raises(ConfigError):
        serve(place, tmp_path / "case", signed(place))
    [entry] = openings(place)
    assert (entry["kind"], entry["authority"], entry["officer"], entry["reason"]) == (
        "order", NAME, "Wang Min", "2026/117",
    )  # fmt: skip
    assert (entry["from"], entry["to"]) == (str(FIRST), str(LAST))
    assert [one.name for one in tmp_path.iterdir() if "case" in one.name] == []


def refusal(place: Place, tmp_path: Path, data: bytes) -> str:
    before = openings(place)
    with pytest.raises(StationError) as caught:
        serve(place, tmp_path / "refused", data)
    assert [one.name for one in tmp_path.iterdir() if "refused" in one.name] == []
    assert openings(place) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_forged_expired_and_misdirected_orders_are_refused(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    for data, why in [
        (signed(place, key=ANNA.signing), "its signature does not fit"),
        (signed(place).replace(b"2026/117", b"2026/118"), "its signature does not fit"),
        (signed(place, authority="Nobody"), "no key is trusted for 'Nobody'"),
        (signed(place, region="urn:inland:region:eu"), "it is for urn:inland:region:eu"),
        (signed(place, expires_s=NOW_S - 1), "it has expired"),
        (signed(place, from_ns=LAST, to_ns=FIRST), "its window ends before it begins"),
        (signed(place, lanes=("camera",)), "no lane 'camera'"),
        (signed(place, officer=""), "officer: not 1 to 200"),
        (signed(place, tell_from_s=NOW_S + 2 * order_module.MAX_SILENCE_S), "more than a year"),
        (asking.signed(place, ANNA), "not an object of"),
        (b"\xff\xfe", "Expecting value"),
    ]:
        assert why in refusal(place, tmp_path, data)


def test_an_order_is_served_once(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    data = signed(place)
    serve(place, tmp_path / "case", data)
    assert "it was served before, as opening 0" in refusal(place, tmp_path, data)


def test_an_authority_that_is_not_trusted_any_more_orders_nothing(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    data = signed(place)
    order_keys.remove(place.region.path, NAME)
    assert "no key is trusted" in refusal(place, tmp_path, data)
    with pytest.raises(ConfigError):
        order_keys.remove(place.region.path, NAME)


def test_keys_of_authorities_are_never_replaced_unseen(place: Place, car: PeopledCar) -> None:
    with pytest.raises(ConfigError, match="has a key already"):
        order_keys.add(place.region.path, NAME, b"k" * 32)
    path = place.region.path / order_keys.FILE
    assert order_keys.trusted(place.region.path) == {NAME: POLICE.public_key().public_bytes_raw()}
    path.write_text(path.read_text().replace("order keys 1", "order keys 2"))
    with pytest.raises(ConfigError, match="are damaged"):
        order_keys.trusted(place.region.path)
    with pytest.raises(ValueError, match="not an Ed25519"):
        order_keys.public_key(base64.b64encode(b"short").decode())


def test_the_owner_is_told_unless_the_order_bars_it_until_a_day(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    serve(place, tmp_path / "open", signed(place))
    serve(place, tmp_path / "barred", signed(place, reference="secret", tell_from_s=NOW_S + 100))
    seen = []
    for after_s in (50, 100):
        now = NOW.fromtimestamp(NOW_S + after_s, NOW.tzinfo)
        data = asking.signed(place, ANNA)
        done = asking.answered(place, tmp_path, data, now=now)
        told = disclosures_of(done.folder)
        assert told is not None
        seen.append([one["reason"] for one in told.openings])
        assert ("secret" in (done.folder / "disclosures.json").read_text()) == (after_s >= 100)
    assert seen == [
        ["2026/117", "my accident"], ["2026/117", "secret", "my accident", "my accident"],
    ]  # fmt: skip


def test_what_an_order_with_a_key_gets_is_sealed_to_it(
    place: Place, car: PeopledCar, tmp_path: Path
) -> None:
    """Nothing readable stays at the region, and the box holds what the folder would."""
    serve(place, tmp_path / "open", signed(place))
    private, public = keys.generate_recipient()
    data = signed(place, recipient=public)
    served = serve(place, tmp_path / "case", data)
    assert served.place == tmp_path / "case.sealed"
    assert {one.name for one in tmp_path.iterdir()} == {"car", "cn", "open", "case.sealed"}
    assert served.place.stat().st_mode & 0o777 == 0o600
    lines = (tmp_path / "open" / "frames.log").read_bytes().splitlines()
    assert not any(line in served.place.read_bytes() for line in lines)
    told = box.unseal(served.place, {keys.kid(public): private}, tmp_path / "mine")
    assert told == hashlib.sha256(data).digest()
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        path.name for path in (tmp_path / "open").iterdir()
    }
    for path in (tmp_path / "open").iterdir():
        if path.name != serve_order.ORDER:
            assert (tmp_path / "mine" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "mine" / serve_order.ORDER).read_bytes() == data
    with pytest.raises(ConfigError, match="is there already"):
        serve(place, tmp_path / "case", signed(place, recipient=public))


def test_planted_serving_that_forgets_the_key_leaves_a_readable_folder(
    place: Place, car: PeopledCar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_module, "_recipient", lambda _: b"")
    served = serve(place, tmp_path / "case", signed(place, recipient=keys.generate_recipient()[1]))
    assert (served.place / "frames.log").exists()


def test_a_key_that_is_none_is_refused(place: Place, car: PeopledCar, tmp_path: Path) -> None:
    with pytest.raises(StationError, match="its recipient"):
        serve(place, tmp_path / "case", signed(place, recipient=b"short"))
    assert list(tmp_path.glob("*case*")) == []
