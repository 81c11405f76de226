"""A region that is made: its certificates, its card, who can read its files."""

from __future__ import annotations

import datetime as dt
import os
import stat
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.config import load_config
from agent.errors import ConfigError
from agent.files import read_private_file
from agent.region import load_region_card
from agent.station import certificates
from agent.station.authority import create_region, ending_soon, load_region, renew_certificates
from agent.station.chores import Chores
from agent.station.enrollment import enroll_vehicle
from agent.station.store import Store
from agent.vault import checkpoint, keys
from tests.station.conftest import VEHICLE, Place, make_region

NOW = dt.datetime.now(dt.UTC)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_ca_may_issue_for_one_host_and_no_further_ca(place: Place) -> None:
    ca = certificate(place.region.path / "ca.pem")
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    names = ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert names.critical
    assert names.value.permitted_subtrees == [x509.DNSName("broker.cn.test")]
    assert place.region.card.spki == (certificates.spki_pin(ca),)


def test_the_broker_proves_one_host_and_one_region(place: Place) -> None:
    broker = certificate(place.region.path / "broker.pem")
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.cn.test"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:inland:region:cn"]
    use = broker.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [ExtendedKeyUsageOID.SERVER_AUTH]
    broker.verify_directly_issued_by(certificate(place.region.path / "ca.pem"))


def test_the_card_carries_the_public_halves(place: Place) -> None:
    card, folder = place.region.card, place.region.path
    assert card == load_region_card(folder / "region.toml")
    private = read_private_file(folder / "recipient.key", "the recipient key")
    assert keys.public_of(private) == card.recipient_key
    receipt = place.region.signing_key("receipt").public_key().public_bytes_raw()
    assert card.receipt_keys == (receipt,)
    vkey = checkpoint.parse_vkey(card.cosign_keys[0])
    assert (vkey.name, vkey.kind) == ("inland-region-cn", checkpoint.COSIGNATURE_V1)
    assert vkey.public == place.region.signing_key("cosign").public_key().public_bytes_raw()


def test_private_files_are_private(place: Place) -> None:
    for folder in (place.region.path, place.bundle):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in folder.glob("*.key"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_region_is_never_overwritten(place: Place) -> None:
    before = (place.region.path / "ca.key").read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        make_region(place.region.path)
    assert (place.region.path / "ca.key").read_bytes() == before


def test_a_region_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> tuple[bytes, bytes]:
        raise OSError("no entropy")

    monkeypatch.setattr(keys, "generate_recipient", broken)
    with pytest.raises(OSError, match="no entropy"):
        make_region(tmp_path / "cn")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"region_id": "CN"}, "--region"),
        ({"region_id": "../x"}, "--region"),
        ({"host": "Broker"}, "--host"),
        ({"host": "203.0.113.7"}, "--host"),
        ({"host": 'x"\n'}, "--host"),
        ({"port": 0}, "--port"),
        ({"prefixes": ()}, "--prefix"),
        ({"prefixes": ("10.0.0.1/8",)}, "--prefix"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, change: dict, option: str) -> None:  # type: ignore[type-arg]
    good = {"region_id": "cn", "host": "b.cn.test", "port": 8883, "prefixes": ("10.0.0.0/8",)}
    with pytest.raises(ConfigError, match=option):
        create_region(tmp_path / "cn", now=NOW, **{**good, **change})
    assert list(tmp_path.iterdir()) == []


def test_no_region_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="station init"):
        load_region(tmp_path)


def test_a_bundle_is_what_the_agent_reads(place: Place) -> None:
    settings = tomllib.loads((place.bundle / "agent.toml").read_text())
    assert settings["vehicle"]["id"] == VEHICLE
    assert (place.bundle / settings["region_card"]).is_file()
    key = load_pem_private_key(
        (place.bundle / settings["vehicle"]["ledger_key"]).read_bytes(), None
    )
    assert isinstance(key, Ed25519PrivateKey)
    assert place.store.vehicle(VEHICLE).ledger_key == key.public_key().public_bytes_raw()  # type: ignore[union-attr]
    client = certificate(place.bundle / settings["vehicle"]["certificate"])
    [name] = client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == VEHICLE
    use = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(use) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def enroll(place: Place, bundle: Path, vehicle: str | None, group: str = "default") -> str:
    return enroll_vehicle(
        place.region, place.store, bundle, vehicle=vehicle, group=group, now=NOW, rng=os.urandom
    )


@pytest.mark.parametrize("group", ["a", "a" * 32, "0-", "fleet-b"])
def test_a_car_is_of_its_group(place: Place, tmp_path: Path, group: str) -> None:
    vehicle = enroll(place, tmp_path / "new", None, group)
    assert load_config(tmp_path / "new" / "agent.toml").vehicle.group == group
    assert place.store.vehicle(vehicle).group == group


def test_a_random_pseudonym_is_new_each_time(place: Place, tmp_path: Path) -> None:
    names = {enroll(place, tmp_path / str(number), None) for number in range(3)}
    assert len(names) == 3


@pytest.mark.parametrize("vehicle", ["short", "WVWZZZ1JZXW000001", "a+b/#cdefg", "x" * 41, VEHICLE])
def test_a_name_that_cannot_be_used_leaves_nothing(
    place: Place, tmp_path: Path, vehicle: str
) -> None:
    with pytest.raises(ConfigError, match="--vehicle"):
        enroll(place, tmp_path / "new", vehicle)
    assert not (tmp_path / "new").exists()


def test_a_bundle_is_never_overwritten(place: Place) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        enroll(place, place.bundle, None)


def test_a_store_of_a_newer_version_is_refused(place: Place) -> None:
    place.store.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Exception, match="newer inland"):
        Store(place.store.path)


def test_renewed_certificates_are_of_the_same_authority(place: Place) -> None:
    folder = place.region.path
    before = [certificate(folder / f"{name}.pem") for name in ("broker", "station")]
    renew_certificates(place.region, NOW + dt.timedelta(days=300))
    ca = certificate(folder / "ca.pem")
    for name, old in zip(("broker", "station"), before, strict=True):
        new = certificate(folder / f"{name}.pem")
        new.verify_directly_issued_by(ca)
        assert new.subject == old.subject
        assert new.not_valid_after_utc > old.not_valid_after_utc
        key = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert key.public_key() == new.public_key()
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    assert list(folder.glob(".*")) == []


def test_a_certificate_near_its_end_is_named(place: Place) -> None:
    assert ending_soon(place.region, NOW) == []
    [warning] = ending_soon(place.region, NOW + dt.timedelta(days=380))
    assert "broker.pem" in warning
    assert "station renew" in warning


def test_a_station_that_runs_for_years_says_once_what_people_have_to_renew(place: Place, caplog):
    now = NOW
    chores = Chores(place.region, lambda: now)
    chores()
    assert caplog.messages == []
    now = NOW + dt.timedelta(days=380)
    chores()
    said = caplog.messages[:]
    assert ["broker.pem" in said[0], "--targets" in said[1], len(said)] == [True, True, 2]
    for day in range(3):
        now = NOW + dt.timedelta(days=380 + day)
        chores()
    assert caplog.messages == said
