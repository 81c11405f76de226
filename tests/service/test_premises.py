"""Everything that is wrong with a car is told before anything is written, one line each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from agent.config import load_config
from agent.errors import ConfigError
from agent.service import premises
from agent.service.premises import Wish, survey
from agent.service.unit_files import Credential
from tests.service.sites import Image

TOML = Path("/etc/inland/agent.toml")
CARD = Path("/etc/inland/region.toml")


def test_a_good_car_has_no_mistakes(image: Image):
    site, mistakes = image.survey()
    assert mistakes == []
    assert site is not None
    assert site.start == ("/opt/inland/bin/python", "-I", "-B", "-m", "agent.cli")
    assert (site.config, site.state, site.run) == (
        TOML, Path("/var/lib/inland"), Path("/run/inland"),
    )  # fmt: skip
    assert site.capture_keys == (
        Credential("ledger.key", Path("/etc/inland/ledger.key")),
        Credential("zones.key", Path("/etc/inland/zones.key")),
    )
    assert site.uplink_keys == (Credential("vehicle.key", Path("/etc/inland/vehicle.key")),)
    assert site.allowed == (
        "203.0.113.0/24", "2001:db8:5::/48", "198.51.100.1/32", "2001:db8::1/128",
    )  # fmt: skip
    assert set(site.mounts) >= {Path("/etc/inland"), Path("/var/lib/inland")}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("/var/lib/inland", "/tmp/inland", "'state' is /tmp/inland: not a place for it; write st"),
        ('"/var/lib/inland"', '"state"', "'state' is /etc/inland/state: not a place for it"),
        ("/var/lib/inland", "/var/lib", "'state' is /var/lib: not a place for it"),
        ("/run/inland", "/var/run-inland", 'not a folder below /run; write run = "/run/inland"'),
        ("/run/inland", "/run/user/0/inland", "not a folder below /run"),
        ("socketcan", "socketcand", "[[bus]] 'can0': interface 'socketcand' does not work behind"),
        ('"socketcan"\nchannel = "can0"', '"slcan"\nchannel = "COM3"', "'COM3' is not a serial"),
        ('"region.toml"', '"/root/region.toml"', "/root/region.toml: no region card"),
        ('"vehicle.pem"', '"/home/car/vehicle.pem"', "below /home, which a service does not see"),
        ('"vehicle.key"', '"other.key"', "cannot read the vehicle's key: No such file"),
        ('"ledger.key"', '"vehicle.key"', "not an Ed25519 private key"),
        ('"vehicle.key"', '"ledger.key"', "the vehicle's certificate or key cannot be used"),
        ('"zones.key"', '"no.key"', "cannot read the zones key"),
        (
            '"socketcan"\nchannel = "can0"',
            '"log"\nchannel = "a.log"',
            "[[bus]] 'can0': 'a.log' is no whole path, and a service starts in /; write channel",
        ),
        ('"ledger.key"', '"credential:ledger"', "credential:ledger: the service manager has no su"),
        ("/var/lib/inland", "/data/my car", "/data/my car: a unit cannot name this path"),
    ],
)
def test_each_mistake_is_one_line(image: Image, old: str, new: str, told: str):
    image.edit(old, new)
    site, mistakes = image.survey()
    assert site is None
    assert any(told in one for one in mistakes), mistakes
    assert all("\n" not in one for one in mistakes)


def test_all_mistakes_are_told_at_once(image: Image):
    image.edit("/var/lib/inland", "/tmp/inland")
    image.edit("/run/inland", "/tmp/run")
    image.outside(Path("/etc/inland/ledger.key")).unlink()
    _, mistakes = image.survey()
    assert len(mistakes) == 3


@pytest.mark.parametrize(
    ("path", "mode", "told"),
    [
        (TOML, 0o640, "/etc/inland/agent.toml: closed to inland-capture and inland-uplink; chmod"),
        (CARD, 0o600, "chmod o+r /etc/inland/region.toml"),
        (Path("/etc/inland"), 0o750, "/etc/inland: closed to inland-capture and inland-uplink"),
        (Path("/opt/inland"), 0o700, "chmod o+x /opt/inland"),
        (Path("/etc/inland/ledger.key"), 0o644, "can be read by others (mode 0644)"),
    ],
)
def test_what_the_services_users_cannot_read_and_what_others_can(
    image: Image, path: Path, mode: int, told: str
):
    image.outside(path).chmod(mode)
    site, mistakes = image.survey()
    assert site is None
    assert sum(told in one for one in mistakes) == 1, mistakes


def test_an_unreadable_configuration_ends_the_round(image: Image):
    image.edit("[vehicle]", "[vehikle]")
    with pytest.raises(ConfigError, match="unknown key 'vehikle'"):
        image.survey()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_zones_key_of_an_odd_length_is_a_mistake(image: Image, size: int):
    image.outside(Path("/etc/inland/zones.key")).write_bytes(bytes(size))
    site, mistakes = image.survey()
    assert site is None
    assert [f"a zones key has 32 bytes, not {size}" in one for one in mistakes] == [True]


@pytest.mark.parametrize(
    ("store", "encrypted"),
    [("/etc/credstore.encrypted", True), ("/usr/lib/credstore", False), ("/run/credstore", False)],
)
def test_a_credential_of_the_service_manager_takes_the_place_of_a_file(
    image: Image, store: str, encrypted: bool
):
    image.edit('"ledger.key"', '"credential:car.ledger"')
    image.outside(Path("/etc/inland/ledger.key")).unlink()
    image.put(Path(store, "car.ledger"), "sealed")
    site, mistakes = image.survey()
    assert mistakes == []
    assert site is not None
    assert Credential("car.ledger", None, encrypted) in site.capture_keys


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("# nameserver 1.1.1.1\nsearch x\nnameserver 10.0.0.1\n", ("10.0.0.1/32",)),
        ("nameserver fe80::1%eth0\n", ("fe80::1/128",)),
        ("\n".join(f"nameserver 10.0.0.{i}" for i in range(1, 6)),
         ("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32")),
    ],
)  # fmt: skip
def test_resolvers_are_those_of_resolv_conf(image: Image, text: str, found: tuple[str, ...]):
    image.put(Path("/etc/resolv.conf"), text)
    site, _ = image.survey()
    assert site is not None
    assert site.allowed[2:] == found


def test_systemd_resolved_in_an_image_is_known_by_its_link(image: Image):
    conf = image.outside(Path("/etc/resolv.conf"))
    conf.unlink()
    conf.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    site, _ = image.survey()
    assert site is not None
    assert site.allowed[2:] == ("127.0.0.53/32",)


def test_resolvers_can_be_named(image: Image):
    site, _ = image.survey(resolvers=["192.0.2.53"])
    assert site is not None
    assert site.allowed[2:] == ("192.0.2.53/32",)
    site, mistakes = image.survey(resolvers=["dns.example"])
    assert (site, len(mistakes)) == (None, 1)
    assert "'dns.example' is no address of a resolver" in mistakes[0]


def test_a_serial_adapter_is_found_with_its_group(image: Image):
    image.edit('"socketcan"\nchannel = "can0"', '"slcan"\nchannel = "/dev/ttyACM0@115200"')
    image.put(Path("/etc/group"), "root:x:0:\ndialout:x:20:\n")
    site, mistakes = image.survey()
    assert mistakes == []
    assert site is not None
    assert (site.lines, site.serial_group) == (("/dev/ttyACM0",), "dialout")


def test_on_this_machine_the_interpreter_must_find_this_very_package(tmp_path: Path):
    """From a working directory or PYTHONPATH alone the service would find nothing, or another."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho /somewhere/agent/__init__.py\n", "utf-8")
    other.chmod(0o755)
    with pytest.raises(ConfigError, match="does not find this inland by itself; install it there"):
        premises._check_interpreter(other)
    with pytest.raises(ConfigError, match="does not start"):
        premises._check_interpreter(tmp_path / "none")
    premises._check_interpreter(Path(sys.executable))


def test_on_this_machine_nothing_may_lie_in_a_home_or_a_temporary_folder(image: Image):
    """The bundle of this test lies below one: each file of it is told."""
    config = image.outside(TOML)
    _, mistakes = survey(Wish(config))
    told = [str(one) for one in mistakes if "which a service does not see" in str(one)]
    assert any(str(config) in one for one in told), mistakes
    assert load_config(config).region_card.exists()


@pytest.mark.parametrize(("limit", "ours"), [("212992\n", 1), ("8388608\n", 1), ("16777216\n", 0)])
def test_who_has_raised_the_receive_buffers_further_keeps_that(limit: str, ours: int):
    assert premises.is_modest(limit) == bool(ours)
