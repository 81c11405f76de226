"""`inland transfer`, as it is typed: what is held is asked about twice, an order is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.cli import transfer as command
from agent.cli.main import inland
from agent.errors import ConfigError, OwnerError
from agent.owner import hold, transfer
from agent.pb import sealed_pb2
from agent.vault import parting
from tests.station.conftest import Place, place, template
from tests.vault.world import LEDGER, MIB, RECEIPT, REGION, VEHICLE, Car, Region, draft
from tests.vault.world import hold as hold_piece

__all__ = ["place", "template"]  # fixtures


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A car with a ledger key and something on lane routine; its card is put in by hand."""
    from types import SimpleNamespace

    from cryptography.hazmat.primitives import serialization as s

    card = SimpleNamespace(
        region="urn:inland:region:x", cosign_keys=(), recipient_key=REGION[1],
        receipt_keys=(RECEIPT.public_key().public_bytes_raw(),),
    )  # fmt: skip
    monkeypatch.setattr("agent.region.load_region_card", lambda _: card)
    (tmp_path / "ledger.key").write_bytes(
        LEDGER.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    )
    (tmp_path / "ledger.key").chmod(0o600)
    path = tmp_path / "agent.toml"
    path.write_text(
        f'state = "{tmp_path}/state"\nrun = "{tmp_path}/run"\nregion_card = "{tmp_path}/r.toml"\n'
        f'[vehicle]\nid = "{VEHICLE}"\ncertificate = "{tmp_path}/c"\nkey = "{tmp_path}/k"\n'
        f'ledger_key = "{tmp_path}/ledger.key"\n[limits]\nspool = "16MiB"\n'
    )
    return path


@pytest.fixture
def state(config: Path) -> Path:
    car = Car(config.parent / "state", quota=16 * MIB)
    car.vault.seal(draft(500, recipients=sealed_pb2.OWNER))
    car.vault.close()
    return config.parent / "state"


def held(state: Path) -> None:
    car = Car(state, quota=16 * MIB)
    record = car.vault.seal(draft(300, lane=sealed_pb2.INCIDENT, recipients=sealed_pb2.OWNER))
    hold_piece(car.vault, record, 0, 10**12, upload=False)
    car.vault.close()


def sent(state: Path, lane: int = sealed_pb2.INCIDENT) -> None:
    """An incident that the region has received: nothing in the car holds it any more."""
    car, region = Car(state, quota=16 * MIB), Region()
    car.vault.seal(draft(300, lane=lane, recipients=sealed_pb2.SHARED))
    region.drain(car.vault)
    car.vault.close()


def run(config: Path, *words: object, typed: str = "") -> Result:
    return CliRunner().invoke(
        inland, ["transfer", "--config", str(config), *map(str, words)], input=typed,
        catch_exceptions=False, standalone_mode=False,
    )  # fmt: skip


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_is_terminal", lambda: True)


def test_it_says_what_goes_and_names_the_export_before_it_asks(state, config, at_a_terminal):
    with pytest.raises(OwnerError, match="nothing has changed"):
        run(config, typed="n\n")
    assert transfer.pending(state) is None
    said = run(config, typed="y\n")
    assert "1 contents for owner    on lane routine" in said.stderr
    assert "inland owner export" in said.stderr
    assert command.BY_FILE_SAYS in said.stderr
    assert "ownership 1 ended" in said.output
    assert transfer.certificate_of(state, 1).exists()


def test_what_an_event_holds_is_refused_and_then_asked_twice(state, config, at_a_terminal):
    held(state)
    with pytest.raises(OwnerError, match=r"of incidents are held.*--even-held"):
        run(config, "--yes")
    with pytest.raises(OwnerError, match="nothing has changed"):
        run(config, "--even-held", typed="y\nn\n")
    assert transfer.pending(state) is None
    assert not transfer.certificate_of(state, 1).exists()
    assert "HELD" in run(config, "--even-held", typed="y\ny\n").stderr
    assert transfer.certificate_of(state, 1).exists()


def test_an_incident_that_the_region_has_is_asked_about_twice_as_well(state, config, at_a_terminal):
    """The owner's own copy is what goes: what the region has is not the owner's to read."""
    sent(state)
    with pytest.raises(OwnerError, match=r"1 contents of incidents are held.*--even-held"):
        run(config, "--yes")
    with pytest.raises(OwnerError, match="nothing has changed"):
        run(config, "--even-held", typed="y\nn\n")
    assert "HELD" in run(config, "--even-held", typed="y\ny\n").stderr


def test_what_is_of_no_incident_is_asked_about_once(state, config):
    """The planted bug would be a car that cannot be sold without the second word."""
    sent(state, sealed_pb2.ROUTINE)
    assert "ownership 1 ended" in run(config, "--yes").output


def test_planted_question_about_what_still_waits_alone_misses_what_was_sent(
    state, config, monkeypatch: pytest.MonkeyPatch
):
    sent(state)
    monkeypatch.setattr(parting, "_is_held", lambda shelf, _: shelf in parting.INCIDENTS)
    assert "ownership 1 ended" in run(config, "--yes").output


def test_planted_refusal_that_looks_at_nothing_erases_what_is_held(
    state, config, monkeypatch: pytest.MonkeyPatch
):
    """The test above would see it."""
    held(state)
    monkeypatch.setattr(command, "_survey", lambda _: None)
    assert "ownership 1 ended" in run(config, "--yes").output


def test_an_order_is_kept_and_holds(state, config, tmp_path: Path):
    now_s = command._now_s(command_config(config))
    order = tmp_path / "order.json"
    order.write_text(hold.sign(VEHICLE, "3 Js 17/26", now_s + 1000, LEDGER))
    with pytest.raises(OwnerError, match="not signed by a key of this region"):
        run(config, "--hold", order)
    order.write_text(hold.sign(VEHICLE, "3 Js 17/26", now_s + 1000, RECEIPT))
    assert "held by order 3 Js 17/26" in run(config, "--hold", order).output
    with pytest.raises(OwnerError, match="the order '3 Js 17/26' holds it"):
        run(config, "--yes")
    run(config, "--yes", "--even-held")
    assert not (state / hold.FILE).exists()


def test_the_region_signs_an_order_that_its_car_obeys(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From `station hold` to the refusal at the sale, with the region's own key and card."""
    from agent.region import load_region_card

    vehicle, order = place.car.vehicle, tmp_path / "hold.json"
    words = ["station", "hold", str(place.region.path), vehicle, "--reference", "3 Js 17/26"]

    def sign(*more: str) -> Result:
        return CliRunner().invoke(
            inland, [*words, "-o", str(order), *more], catch_exceptions=False,
            standalone_mode=False,
        )  # fmt: skip

    with pytest.raises(ConfigError, match="for more than 180 days"):
        sign("--until", "2199-01-01")
    with pytest.raises(ConfigError, match="it is over"):
        sign("--until", "2026-01-01")
    assert not order.exists()
    assert "inland transfer --hold hold.json" in sign().output
    with pytest.raises(ConfigError, match="is there already; name another with -o"):
        sign()
    order.unlink()
    told = json.loads(sign("--json").output)
    assert (told["hold"], told["vehicle"]) == (str(order), vehicle)
    assert 89 < (told["until_s"] - time.time()) / 86_400 <= 90
    words[3] = "v-nobody"
    with pytest.raises(ConfigError, match="no vehicle 'v-nobody'"):
        sign()
    card = load_region_card(place.region.path / "region.toml")
    state = tmp_path / "state"
    state.mkdir()
    now_s = int(time.time())
    known = {"vehicle": vehicle, "receipt_keys": card.receipt_keys, "now_s": now_s}
    assert hold.register(state, order, **known).reference == "3 Js 17/26"
    found = hold.standing(state, **known)
    assert found is not None
    assert found.until_s == pytest.approx(now_s + 90 * 86_400, abs=60)
    assert hold.standing(state, **known | {"now_s": found.until_s}) is None
    with pytest.raises(OwnerError, match="for another car"):
        hold.register(state, order, **known | {"vehicle": "v-other"})


def test_an_order_that_was_altered_in_the_car_holds_all_the_same(state, config):
    (state / hold.FILE).write_text("{}")
    with pytest.raises(OwnerError, match="an order that cannot be checked"):
        run(config, "--yes")
    assert "ownership 1 ended" in run(config, "--yes", "--even-held").output


def command_config(path: Path):
    from agent.config import load_config

    return load_config(path)


def test_the_certificate_goes_where_it_is_asked_for(state, config, tmp_path: Path):
    place = tmp_path / "erased.json"
    told = json.loads(run(config, "--yes", "--json", "--certificate", place).stdout)
    assert json.loads(place.read_text()) == told
    assert place.stat().st_mode & 0o777 == 0o644
    with pytest.raises(ConfigError, match="File exists"):
        run(config, "--yes", "--certificate", place)
    with pytest.raises(ConfigError, match="No such file"):
        run(config, "--yes", "--certificate", tmp_path / "nowhere" / "x.json")


def test_a_refusal_leaves_no_empty_certificate(state, config, tmp_path: Path):
    held(state)
    with pytest.raises(OwnerError):
        run(config, "--yes", "--certificate", tmp_path / "erased.json")
    assert not (tmp_path / "erased.json").exists()


def test_an_agent_that_does_not_end_is_said(state, config, monkeypatch: pytest.MonkeyPatch):
    """One of an older version, or a hung one: the transfer is begun, and the next start ends it."""
    monkeypatch.setattr(command, "WAIT_S", 0.3)
    car = Car(state, quota=16 * MIB)
    with pytest.raises(OwnerError, match="the running agent has not ended") as error:
        run(config, "--yes")
    assert error.value.exit_code == 75
    car.vault.close()
    said = run(config)  # nobody is asked again
    assert "was begun and is completed now" in said.stderr
    assert "ownership 1 ended" in said.output


def test_a_car_that_never_ran_can_be_sold(config: Path):
    assert "erased: 0 contents" in run(config, "--yes").output
