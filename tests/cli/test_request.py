"""What is asked of a region, as it is typed: request, answer, order, and who got what."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import station_view
from agent.cli.main import inland
from agent.errors import ConfigError, SealError, StationError, UndecidedError
from agent.owner import keyfile
from agent.pb import sealed_pb2
from tests.station import asking, test_order
from tests.station.asking import ANNA
from tests.station.conftest import Place, place, template

__all__ = ["place", "template"]  # fixtures
PHRASE = "four words of nothing"


def run(*words: object) -> Result:
    return CliRunner().invoke(
        inland, list(map(str, words)), catch_exceptions=False, standalone_mode=False
    )


@pytest.fixture
def ask(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The words of a request of Anna's, whose car is known to the region."""
    monkeypatch.setattr(keyfile, "_N", 2**10)
    (tmp_path / "phrase").write_text(PHRASE)
    keyfile.save(tmp_path / "owner.key", ANNA, PHRASE, bytes)
    car = asking.new_car(place)
    car.enroll(ANNA)
    car.drive(sealed_pb2.SHARED, sealed_pb2.REGION)
    asking.deliver(place, car)
    return ["owner", "request", "--region", "cn", "--vehicle", place.car.vehicle, "--key",
            tmp_path / "owner.key", "--passphrase-file", tmp_path / "phrase", "--purpose", "mine",
            "-o", tmp_path / "ask.json"]  # fmt: skip


def test_a_request_is_signed_at_home_and_answered_once(
    place: Place, ask: list[object], tmp_path: Path
) -> None:
    region, file = place.region.path, tmp_path / "ask.json"
    assert "answers with `inland station request`" in run(*ask).output
    asked = json.loads(file.read_bytes())
    other = tmp_path / "other.json"
    told = json.loads(run(*ask[:-1], other, "--json").output)
    assert told["request"] == str(other)
    assert told["id"] == json.loads(other.read_bytes())["id"] != asked["id"]
    assert (told["kid"], told["vehicle"]) == (ANNA.public.kid, place.car.vehicle)
    assert file.stat().st_mode & 0o777 == 0o600
    told = json.loads(run("station", "request", region, file, "-o", tmp_path, "--json").output)
    assert (told["role"], told["bodies"], told["verdict"], told["opening"]) == ("owner", 2, 0, 0)
    assert told["later"] == 0
    assert "intact" in run("verify", told["bundle"]).output
    said = run("owner", "ledger", told["bundle"]).output
    assert f"request of owner {ANNA.public.kid}\n  by      served at the region by user" in said
    assert "  reason  mine\n  got     2 parts, sealed: the region opened nothing\n" in said
    known = json.loads(run("owner", "ledger", told["bundle"], "--json").output)
    assert known["openings"][0]["reason"] == "mine"
    assert f"request  {ANNA.public.kid}" in run("station", "ls", region, "--openings").output
    with pytest.raises(StationError, match="it was served before"):
        run("station", "request", region, file, "-o", tmp_path / "cn")
    with pytest.raises(ConfigError, match="is there already; name another with -o"):
        run(*ask)  # a file that is there is not replaced
    for more, why in (
        (("--expires", "2026-01-01"), "--expires: is over already"),
        (("--from", "2026-12-02", "--to", "2026-12-01"), "--to: ends before it begins"),
    ):
        with pytest.raises(ConfigError, match=why):
            run(*ask[:-1], tmp_path / "never.json", *more)
    assert not (tmp_path / "never.json").exists()


def test_what_is_newer_than_the_last_co_signature_is_told(
    place: Place, ask: list[object], tmp_path: Path
) -> None:
    """The bundle ends there, and nothing in it says that there is more."""
    car = asking.new_car(place)
    car.log = bytes(15) + b"2"
    car.entries.clear(), car.bodies.clear()
    car.genesis()
    car.enroll(ANNA)
    asking.deliver(place, car)
    car.drive(sealed_pb2.SHARED)
    asking.deliver(place, car, cosign=False)
    run(*ask)
    done = run("station", "request", place.region.path, tmp_path / "ask.json", "-o", tmp_path)
    assert "3 newer entries are not in it" in done.stderr


def test_what_no_request_can_say_is_one_line(ask: list[object], tmp_path: Path) -> None:
    for more, why in [
        (("--category", "weather"), "no category 'weather'"),
        (("--purpose", "two\nlines"), "purpose: not 1 to 200"),
        (("--from", "2026-11-22", "--to", "2026-11-21"), "--to: ends before it begins"),
        (("--expires", "soon"), "'soon' is no moment"),
        (("--key", tmp_path / "none"), "no such key"),
    ]:
        with pytest.raises(ConfigError, match=why):
            run(*ask, *more)
    assert not (tmp_path / "ask.json").exists()


def test_an_order_is_served_for_an_authority_that_was_added(
    place: Place, ask: list[object], tmp_path: Path
) -> None:
    region, file, case = place.region.path, tmp_path / "order.json", tmp_path / "case"
    later = int(time.time()) + 60
    file.write_bytes(test_order.signed(place, from_ns=0, to_ns=1 << 62, expires_s=later))
    with pytest.raises(StationError, match="no key is trusted"):
        run("station", "order", region, file, "-o", case)
    assert "none: no order is served" in run("station", "order-key", "ls", region).output
    public = base64.b64encode(test_order.POLICE.public_key().public_bytes_raw()).decode()
    added = run("station", "order-key", "add", region, test_order.NAME, public).output
    kid = added.split()[-3]
    assert f"{kid}  {test_order.NAME}" in run("station", "order-key", "ls", region).output
    with pytest.raises(ConfigError, match="base64"):
        run("station", "order-key", "add", region, "Other", "no key")
    served = run("station", "order", region, file, "-o", case)
    assert "order 2026/117 of Police of Zhengzhou" in served.output
    assert "4 segments: 80 frames" in served.output
    assert len((case / "frames.log").read_text().splitlines()) == 80
    file.write_bytes(test_order.signed(place, id="ab" * 16, from_ns=0, to_ns=1, expires_s=later))
    none = json.loads(run("station", "order", region, file, "-o", tmp_path / "b", "--json").output)
    assert (none["written"], none["id"], none["frames"]) == (f"{tmp_path}/b", "ab" * 16, 0)
    assert (none["vehicle"], none["reference"]) == (place.car.vehicle, "2026/117")
    run(*ask)
    told = json.loads(
        run("station", "request", region, tmp_path / "ask.json", "-o", tmp_path, "--json").output
    )
    said = run("owner", "ledger", told["bundle"]).output
    lines = said.splitlines()
    at = next(i for i, line in enumerate(lines) if "order of Police of Zhengzhou" in line)
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  order of", lines[at])
    assert lines[at + 1].startswith("  by      Wang Min; served at the region by user ")
    assert lines[at + 2].startswith("  window  1970-01-01T00:00:00")
    assert lines[at + 2].endswith("lanes: all")
    one = {**json.loads(run("owner", "ledger", told["bundle"], "--json").output)["openings"][0],
           "lanes": ["ROUTINE", "EVENT"]}  # fmt: skip
    assert list(station_view.told(one))[2].endswith("lanes: routine, event")
    assert lines[at + 3] == f"  basis   {test_order.BASIS}; file 2026/117"
    assert lines[at + 4] == "  got     4 parts, opened: frames and signals"
    keys = ("station", "order-key")
    told = json.loads(run(*keys, "ls", region, "--json").output)
    assert told == {"authorities": [{"name": test_order.NAME, "kid": kid}]}
    told = json.loads(run(*keys, "remove", region, test_order.NAME, "--json").output)
    assert told == {"name": test_order.NAME}
    told = json.loads(run(*keys, "add", region, test_order.NAME, public, "--json").output)
    assert told == {"name": test_order.NAME, "kid": kid}
    run(*keys, "remove", region, test_order.NAME)
    assert "none" in run("station", "order-key", "ls", region).output


def test_a_bundle_of_a_car_does_not_say_who_got_what(tmp_path: Path) -> None:
    (tmp_path / "x.inland").mkdir()
    with pytest.raises(UndecidedError, match="does not say who got what"):
        run("owner", "ledger", tmp_path / "x.inland")


def test_a_request_that_cannot_be_read_is_one_line(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        run("station", "request", place.region.path, tmp_path / "none.json")


def test_an_authority_opens_what_was_sealed_to_its_key(
    place: Place, ask: list[object], tmp_path: Path
) -> None:
    """The key is one of `owner keygen`; the order names it; the region cannot read the box."""
    public = base64.b64encode(test_order.POLICE.public_key().public_bytes_raw()).decode()
    run("station", "order-key", "add", place.region.path, test_order.NAME, public)
    later = int(time.time()) + 60
    order, case = tmp_path / "order.json", tmp_path / "case"
    order.write_bytes(test_order.signed(
        place, from_ns=0, to_ns=1 << 62, expires_s=later, recipient=ANNA.public.recipient,
    ))  # fmt: skip
    said = run("station", "order", place.region.path, order, "-o", case).output
    assert "case.sealed: order 2026/117" in said
    assert "`inland unseal` opens it" in said
    words = ["unseal", tmp_path / "case.sealed", "--key", tmp_path / "owner.key",
             "--passphrase-file", tmp_path / "phrase", "-o", tmp_path / "mine"]  # fmt: skip
    other = tmp_path / "other.json"
    other.write_bytes(test_order.signed(place))
    with pytest.raises(SealError, match="answers another order"):
        run(*words, "--order", other)
    assert "frames.log" in run(*words, "--order", order).output
    assert len((tmp_path / "mine" / "frames.log").read_text().splitlines()) == 80
    with pytest.raises(ConfigError, match="is there already"):
        run(*words)
    told = json.loads(run(*words[:-1], tmp_path / "again", "--json").output)
    names = sorted(one.name for one in (tmp_path / "mine").iterdir())
    assert told == {"folder": str(tmp_path / "again"), "files": names}
    with pytest.raises(ConfigError, match="no such key"):
        run(*words, "--key", tmp_path / "none")


@pytest.fixture
def order_words(ask: list[object], place: Place, tmp_path: Path) -> list[object]:
    """The words of an order of Anna's, who is an authority here."""
    return ["order", "--region", "cn", "--vehicle", place.car.vehicle, "--from", "0", "--to",
            "2100-01-01", "--authority", "Police", "--officer", "Zhao", "--reference", "case 17",
            "--basis", "article 1", *ask[6:10], "-o", tmp_path / "order.json"]  # fmt: skip


def test_an_authority_signs_an_order_and_opens_what_it_gets(
    place: Place, order_words: list[object], tmp_path: Path
) -> None:
    """From the key to the frames with commands alone."""
    file, case = tmp_path / "order.json", tmp_path / "case"
    said = run(*order_words).output
    trust = said.splitlines()[1].removeprefix("trusted there by: inland station order-key add ")
    assert trust.startswith("FOLDER 'Police' ")
    with pytest.raises(StationError, match="no key is trusted for 'Police'"):
        run("station", "order", place.region.path, file, "-o", case)
    run("station", "order-key", "add", place.region.path, "Police", trust.split()[-1])
    run("station", "order", place.region.path, file, "-o", case)
    run("unseal", f"{case}.sealed", *order_words[-6:-2], "--order", file, "-o", case)
    assert len((case / "frames.log").read_text().splitlines()) == 80
    with pytest.raises(ConfigError, match="is there already; name another with -o"):
        run(*order_words)
    plain = tmp_path / "plain.json"
    told = json.loads(run(*order_words[:-1], plain, "--readable", "--json").output)
    assert (told["sealed"], told["public"]) == (False, trust.split()[-1])
    run("station", "order", place.region.path, plain, "-o", tmp_path / "plain")
    assert (tmp_path / "plain" / "frames.log").read_bytes() == (case / "frames.log").read_bytes()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--expires", "2026-01-01"), "--expires: is over already"),
        (("--from", "2100-01-02"), "--to: ends before it begins"),
        (("--tell-from", "2099-01-01"), "for more than a year"),
        (("--basis", ""), "basis: not 1 to 200"),
        (("--officer", "two\nlines"), "officer: not 1 to 200"),
        (("--key", "none"), "no such key"),
    ],
)
def test_what_no_order_can_say_is_one_line(
    order_words: list[object], tmp_path: Path, more: tuple[str, ...], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        run(*order_words, *more)
    assert not (tmp_path / "order.json").exists()
