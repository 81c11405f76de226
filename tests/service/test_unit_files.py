"""What the units say: of one car, and by systemd's own judgement of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.capture.early import BUFFER_BYTES
from agent.errors import ConfigError
from agent.service import boot, premises
from agent.service.crew import STALLED_S
from agent.service.names import CAPTURE_UNIT, TARGET_UNIT, UPLINK_UNIT
from agent.service.unit_files import (
    RMEM_MAX,
    SYSCTL,
    SYSUSERS,
    TMPFILES,
    UNITS,
    Credential,
    Site,
    allowed,
    serial_device,
    state_and_run,
    unit_files,
)
from tests.service.sites import SITE

TPM = replace(SITE, tpm="/dev/tpmrm0")
SERIAL = replace(SITE, lines=("/dev/ttyACM0",), serial_group="dialout")
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)
WORST = 1.5


def texts(site: Site = SITE) -> dict[str, str]:
    """The units by name."""
    files = unit_files(boot.templates(), site)
    return {path.name: text for path, text in files.items() if path.parent == UNITS}


def values(unit: str, key: str) -> list[str]:
    """What a key is set to, each time."""
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def exposure(folder: Path, name: str, text: str) -> float:
    """What systemd holds a unit's exposure for: 0 none, 10 all."""
    path = folder / name
    path.write_text(text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    match = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    return float(match[1])


@needs_analyze
@pytest.mark.parametrize("site", [SITE, SERIAL, TPM], ids=["socketcan", "slcan", "tpm"])
@pytest.mark.parametrize("name", [CAPTURE_UNIT, UPLINK_UNIT])
def test_exposure_is_small(tmp_path: Path, name: str, site: Site):
    assert exposure(tmp_path, name, texts(site)[name]) <= WORST


@needs_analyze
@pytest.mark.parametrize(
    "line",
    ["CapabilityBoundingSet=", "SystemCallFilter=@system-service", "NoNewPrivileges=yes"],
)
def test_a_planted_hole_shows_in_the_exposure(tmp_path: Path, line: str):
    unit = texts()[CAPTURE_UNIT]
    assert f"\n{line}\n" in unit
    whole = exposure(tmp_path, CAPTURE_UNIT, unit)
    if line.startswith("SystemCallFilter"):
        unit = re.sub(r"^SystemCallFilter=.*$", "", unit, flags=re.MULTILINE)
    assert exposure(tmp_path, CAPTURE_UNIT, unit.replace(f"\n{line}\n", "\n")) > whole


@needs_analyze
def test_systemd_understands_every_line(tmp_path: Path):
    """A key that it does not know is only a warning to it, and a wall that is not there."""
    for site in (SITE, SERIAL, replace(SITE, state=Path("/data/inland"))):
        for name, text in texts(site).items():
            runnable = text.replace("/opt/inland/bin/python", "/bin/true")
            (tmp_path / name).write_text(runnable, "utf-8")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / one) for one in texts())],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        ours = [line for line in done.stderr.splitlines() if "inland" in line]
        assert (done.returncode, ours) == (0, [])


@needs_analyze
def test_a_planted_mistake_is_told_by_systemd(tmp_path: Path):
    path = tmp_path / CAPTURE_UNIT
    text = texts()[CAPTURE_UNIT].replace("/opt/inland/bin/python", "/bin/true")
    path.write_text(text.replace("ProtectHome=", "ProtectHomes="), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "ProtectHomes" in done.stderr


def test_each_half_has_its_own_families_and_keys_and_nothing_of_the_other():
    capture, uplink = texts()[CAPTURE_UNIT], texts()[UPLINK_UNIT]
    assert values(capture, "RestrictAddressFamilies") == ["AF_CAN AF_UNIX"]
    assert values(uplink, "RestrictAddressFamilies") == ["AF_INET AF_INET6 AF_UNIX"]
    assert values(capture, "LoadCredential") == ["ledger.key:/etc/inland/ledger.key"]
    assert values(uplink, "LoadCredential") == ["vehicle.key:/etc/inland/vehicle.key"]
    assert values(capture, "User") == ["inland-capture"]
    assert values(uplink, "User") == ["inland-uplink"]
    assert values(uplink, "InaccessiblePaths") == ["-/var/lib/inland -/dev/shm -/dev/mqueue"]
    assert "StateDirectory" not in uplink


def test_uplink_reaches_the_region_and_its_resolver_alone():
    uplink, capture = texts()[UPLINK_UNIT], texts()[CAPTURE_UNIT]
    for unit in (uplink, capture):
        assert values(unit, "IPAddressDeny") == ["any"]
    assert values(uplink, "IPAddressAllow") == ["203.0.113.0/24", "127.0.0.53/32"]
    assert allowed(uplink) == SITE.allowed
    assert allowed(capture) == ()
    assert "~listen accept accept4" in values(uplink, "SystemCallFilter")


def test_both_prove_their_wall_and_are_watched():
    for unit, command in ((texts()[CAPTURE_UNIT], "capture"), (texts()[UPLINK_UNIT], "uplink")):
        (start,) = values(unit, "ExecStart")
        assert start.endswith(f" -m agent.cli {command} --wall --config /etc/inland/agent.toml")
        assert values(unit, "Type") == ["notify"]
        assert values(unit, "Restart") == ["always"]
        assert values(unit, "StartLimitIntervalSec") == ["0"]
        assert values(unit, "RestartPreventExitStatus") == ["2"]  # ConfigError, WallError
        assert values(unit, "LimitCORE") == ["0"]
        assert values(unit, "MemorySwapMax") == ["0"]
        assert values(unit, "WantedBy") == []  # the target's business
        # A crew that has stalled is not fed; it must have been seen before systemd looks.
        assert int(values(unit, "WatchdogSec")[0]) / 2 > STALLED_S


def test_the_environment_names_no_proxy_no_certificates_and_no_code():
    for name in (CAPTURE_UNIT, UPLINK_UNIT):
        unset = " ".join(values(texts()[name], "UnsetEnvironment")).split()
        for one in ("https_proxy", "SSL_CERT_FILE", "SSLKEYLOGFILE", "PYTHONPATH", "LD_PRELOAD"):
            assert one in unset
        first, *rest = values(texts()[name], "Environment")
        assert first == "OPENSSL_CONF=/dev/null"
        # Of capture alone: how malloc keeps house.
        assert bool(rest) == (name == CAPTURE_UNIT)
        assert all(one.startswith("MALLOC_") for one in " ".join(rest).split())


def test_one_target_starts_both_at_boot():
    assert values(texts()[TARGET_UNIT], "Wants") == [f"{CAPTURE_UNIT} {UPLINK_UNIT}"]
    for name in (CAPTURE_UNIT, UPLINK_UNIT):
        assert values(texts()[name], "PartOf") == [TARGET_UNIT]


def test_the_network_waits_for_capture_and_nobody_for_the_network():
    capture, uplink = texts()[CAPTURE_UNIT], texts()[UPLINK_UNIT]
    assert "network-pre.target" in " ".join(values(capture, "Before")).split()
    assert values(capture, "Wants") == ["network-pre.target"]
    assert values(capture, "DefaultDependencies") == ["no"]
    for unit in (capture, uplink):
        assert "network" not in " ".join(values(unit, "After") + values(unit, "Requires"))


def test_a_state_folder_below_var_lib_is_the_service_managers():
    capture = texts()[CAPTURE_UNIT]
    assert values(capture, "StateDirectory") == ["inland"]
    assert values(capture, "RuntimeDirectory") == ["inland"]
    assert values(capture, "ReadWritePaths") == []
    assert unit_files(boot.templates(), SITE)[TMPFILES] == ""


def test_a_state_folder_elsewhere_is_made_and_opened_for_capture_alone():
    files = unit_files(boot.templates(), replace(SITE, state=Path("/data/inland")))
    assert "d /data/inland 0700 inland-capture inland -\n" in files[TMPFILES]
    capture, uplink = files[UNITS / CAPTURE_UNIT], files[UNITS / UPLINK_UNIT]
    assert values(capture, "ReadWritePaths") == ["/data/inland"]
    assert "StateDirectory=" not in capture
    assert values(uplink, "InaccessiblePaths") == ["-/data/inland -/dev/shm -/dev/mqueue"]


def test_an_encrypted_credential_needs_no_file():
    keys = (Credential("car", encrypted=True), Credential("zones.key"))
    capture = texts(replace(SITE, capture_keys=keys))[CAPTURE_UNIT]
    assert values(capture, "LoadCredentialEncrypted") == ["car"]
    assert values(capture, "LoadCredential") == ["zones.key"]


def test_without_serial_lines_there_are_no_devices():
    capture = texts()[CAPTURE_UNIT]
    assert values(capture, "PrivateDevices") == ["yes"]
    assert values(capture, "DeviceAllow") == values(capture, "SupplementaryGroups") == []


def test_a_tpm_is_for_capture_alone():
    """The device and its group; nothing of it where the network is."""
    capture, uplink = texts(TPM)[CAPTURE_UNIT], texts(TPM)[UPLINK_UNIT]
    for line in ("DeviceAllow=/dev/tpmrm0 rw", "SupplementaryGroups=tss", "PrivateDevices=no"):
        assert line in capture.splitlines()
    assert "tpmrm0" not in uplink
    assert "tss" not in uplink
    assert "tpmrm0" not in texts(SITE)[CAPTURE_UNIT]


def test_with_a_tpm_captures_user_may_open_it_outside_of_the_service():
    """A transfer that root begins acts as this user, with the groups that it has everywhere."""
    member = "m inland-capture tss"
    assert member in unit_files(boot.templates(), TPM)[SYSUSERS].splitlines()
    assert member not in unit_files(boot.templates(), SITE)[SYSUSERS].splitlines()


def test_a_serial_line_is_opened_for_capture_and_no_other_device():
    capture, uplink = texts(SERIAL)[CAPTURE_UNIT], texts(SERIAL)[UPLINK_UNIT]
    assert values(capture, "PrivateDevices") == ["no"]
    assert values(capture, "DevicePolicy") == ["closed"]
    assert values(capture, "DeviceAllow") == ["char-166 rw"]
    assert values(capture, "SupplementaryGroups") == ["dialout"]
    assert values(uplink, "PrivateDevices") == ["yes"]


@pytest.mark.parametrize(
    ("line", "devices"),
    [
        ("/dev/ttyACM3", ("char-166",)),
        ("/dev/ttyUSB0", ("char-188",)),
        ("/dev/ttyS1", ("/dev/ttyS1",)),
        ("/dev/ttymxc2", ("/dev/ttymxc2",)),
        ("/dev/serial/by-id/usb-CANable-if00", ("char-166", "char-188")),
    ],
)
def test_an_adapter_that_is_not_there_yet_is_named_by_its_driver(line: str, devices):
    assert serial_device(line) == devices


@pytest.mark.parametrize(
    "change",
    [
        {"state": Path("/var/lib/in land")},
        {"config": Path("/etc/50%/agent.toml")},
        {"capture_keys": (Credential("a", Path('/etc/"a"')),)},
        {"lines": ("/dev/tty\n",)},
        {"start": ("/opt/$HOME/python",)},
    ],
)
def test_a_path_that_a_unit_cannot_name_is_refused(change: dict[str, object]):
    with pytest.raises(ConfigError, match="a unit cannot name this path"):
        replace(SITE, **change)


def test_the_units_say_what_an_uninstallation_has_to_know():
    assert state_and_run(texts()[CAPTURE_UNIT]) == (SITE.state, SITE.run)
    assert state_and_run("") == (None, None)


def test_users_and_buffers():
    files = unit_files(boot.templates(), SITE)
    lines = [line.split()[:3] for line in files[SYSUSERS].splitlines() if line[0] != "#"]
    assert lines == [
        ["g", "inland", "-"],
        ["u", "inland-capture", "-:inland"], ["u", "inland-uplink", "-:inland"],
    ]  # fmt: skip
    assert f"net.core.rmem_max = {BUFFER_BYTES}\n" in files[SYSCTL]
    assert RMEM_MAX == BUFFER_BYTES
    assert unit_files(boot.templates(), replace(SITE, raise_rmem=False))[SYSCTL] == ""


def test_no_placeholder_stays():
    for site in (SITE, SERIAL, replace(SITE, state=Path("/data/x"), allowed=())):
        for text in unit_files(boot.templates(), site).values():
            assert not re.search(r"@[A-Z_]+@", text)


def test_every_template_is_in_the_package():
    """A file that is not in package-data is missing in the car only."""
    import tomllib

    root = Path(__file__).parents[2]
    data = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    patterns = data["tool"]["setuptools"]["package-data"]["agent"]
    packed = {path for pattern in patterns for path in (root / "agent").glob(pattern)}
    assert set((root / "agent/service/units").iterdir()) <= packed
    assert premises.START[0] == "-I"
