"""The boot service on a real systemd: walls that hold, a watchdog, an order, a way out again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.owner import keyfile
from tests.owner.people import ANNA, BELA, enroll
from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import STATE, Car, serviced_car

UNITS = ("inland-capture", "inland-uplink")
EXPOSURE = 1.5  # of systemd-analyze security, at most


def shown(made: Car, unit: str, name: str) -> str:
    return made.guest.sh(f"systemctl show -P {name} {unit}").strip()


def runs(made: Car, unit: str) -> bool:
    return shown(made, unit, "ActiveState") == "active"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path) -> Iterator[Car]:
    with serviced_car(tmp_path_factory.mktemp("region"), image, payload) as made:
        yield made


@pytest.fixture
def drop_in(made: Car) -> Iterator[Path]:
    """A place for a drop-in of one unit; afterwards both run as they were installed."""
    yield Path("/run/systemd/system")
    made.guest.sh("rm -rf /run/systemd/system/inland-*.service.d; systemctl daemon-reload; "
                  "systemctl reset-failed 'inland-*'; "
                  f"systemctl restart {' '.join(UNITS)}", timeout=120)  # fmt: skip


def test_both_halves_run_and_carry_a_frame_home(made: Car):
    sent = ["123#DEADBEEF01", "7FF##3AA55"]

    def both() -> bool:
        """Send them until they come: a silent bus gets a new policy's filter within 250 ms."""
        made.guest.sh("; ".join(f"cansend vcan0 {one}" for one in sent))
        home = [line.split(" ")[2] for line in made.region.opened()]
        return sent in (home[at : at + 2] for at in range(len(home)))

    wait_for(both, 60, "two frames at the station")
    for unit in UNITS:
        assert runs(made, unit)
        assert shown(made, unit, "NRestarts") == "0"
    words = made.said("capture") + made.said("uplink")
    assert "Traceback" not in words


@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_low(made: Car, unit: str):
    said = made.guest.sh(f"systemd-analyze security --no-pager {unit}")
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level is not None, said
    print(unit, level[1])
    assert float(level[1]) <= EXPOSURE


def test_each_is_a_user_of_its_own_without_rights(made: Car):
    users = {}
    for unit in UNITS:
        pid = shown(made, unit, "MainPID")
        status = made.guest.sh(f"cat /proc/{pid}/status")
        found = dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))
        users[unit] = found["Uid"].split()[0]
        assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    assert "0" not in users.values()
    assert len(set(users.values())) == 2


def test_uplink_sees_neither_the_spool_nor_a_key_of_capture(made: Car):
    """Looked at from inside its own mount namespace, as its own user."""
    inside = f"nsenter -t {shown(made, 'inland-uplink', 'MainPID')} -m"
    as_uplink = f"{inside} setpriv --reuid=inland-uplink --regid=inland --clear-groups"
    for path in (f"{STATE}/spool/spool.db", "/etc/inland/ledger.key", "/etc/inland/vehicle.key",
                 "/run/credentials/inland-capture.service/ledger.key"):  # fmt: skip
        assert made.guest.run(f"test -e {path}").code == 0, f"{path} is not there for anybody"
        seen = made.guest.run(f"{as_uplink} cat {path}")
        assert seen.code, f"uplink reads {path}"
    assert made.guest.run(f"{as_uplink} touch /run/inland/mine /var/tmp/../lib/mine").code


def test_uplink_without_its_wall_does_not_start(made: Car, drop_in: Path):
    """The planted gap: the address list of the unit is emptied. The wall's own proof finds it."""
    _gap(made, drop_in, "inland-uplink", "IPAddressDeny=")
    assert "127.77.0.1" in made.said("uplink"), made.said("uplink")


def test_capture_that_could_open_an_internet_socket_does_not_start(made: Car, drop_in: Path):
    _gap(made, drop_in, "inland-capture", "RestrictAddressFamilies=")
    assert "AF_INET" in made.said("capture"), made.said("capture")


def _gap(made: Car, drop_in: Path, unit: str, setting: str) -> None:
    made.guest.write(f"{drop_in}/{unit}.service.d/gap.conf", f"[Service]\n{setting}\n".encode())
    made.guest.sh("systemctl daemon-reload")
    assert made.guest.run(f"systemctl restart {unit}", timeout=120).code
    assert shown(made, unit, "ExecMainStatus") == "2"
    assert shown(made, unit, "ActiveState") == "failed"
    assert "Traceback" not in made.said(unit.removeprefix("inland-"))


def test_a_half_that_hangs_is_killed_by_the_watchdog_and_comes_back(made: Car, drop_in: Path):
    for unit in UNITS:
        made.guest.write(f"{drop_in}/{unit}.service.d/quick.conf", b"[Service]\nWatchdogSec=5\n")
    made.guest.sh("systemctl daemon-reload; systemctl restart inland-capture inland-uplink",
                  timeout=120)  # fmt: skip
    both = " ".join(UNITS)  # at once: a busy machine may have made the dog bark by itself before
    stopped = f"show=$(systemctl show -P MainPID {both}); kill -STOP $show && echo $show"
    before = dict(zip(UNITS, made.guest.sh(stopped).split(), strict=True))
    for unit in UNITS:
        wait_for(
            lambda unit=unit: (
                runs(made, unit) and shown(made, unit, "MainPID") not in ("0", before[unit])
            ),
            120, f"another {unit}",
        )  # fmt: skip
        assert (
            "watchdog" in made.guest.sh(f"journalctl -b --no-pager -u {unit} | tail -n 40").lower()
        )
    wait_for(lambda: (made.status() or {}).get("link", {}).get("connected"), 60, "the link again")


def test_installing_again_changes_nothing(made: Car):
    before = [shown(made, unit, "MainPID") for unit in UNITS]
    said = made.install_service()
    assert "wrote" not in said
    assert [shown(made, unit, "MainPID") for unit in UNITS] == before


def test_after_a_boot_capture_is_there_before_the_network(made: Car):
    """And nobody had to start it: the frames of the first second are kept."""
    made.stop("uplink", "capture")
    made.guest.shutdown()
    made.guest.start()
    made.guest.ready()
    for unit in UNITS:
        assert runs(made, unit)
    began = {
        unit: int(shown(made, unit, "ActiveEnterTimestampMonotonic"))
        for unit in ("inland-capture.service", "network.target", "network-online.target")
    }
    online = [began[unit] for unit in ("network.target", "network-online.target") if began[unit]]
    print({unit: f"{us / 1e6:.2f} s" for unit, us in began.items()})
    assert online, "this guest has no network target"
    assert began["inland-capture.service"] <= min(online)


def check_memory(made: Car) -> None:
    for unit, bar in zip(UNITS, (48, 32), strict=True):
        pid = shown(made, unit, "MainPID")
        peak = int(
            made.guest.sh(f"sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{pid}/status")
        )
        print(f"{unit}: {peak / 1024:.1f} MiB")
        assert peak <= bar * 1024


def test_memory_of_the_services_is_within_the_bars(made: Car):
    check_memory(made)


def test_an_owner_without_a_right_on_the_computer_sees_what_the_kernel_stamps(
    made: Car, tmp_path: Path
):
    """As `nobody`, in no group: the key alone lets in; frames of vcan0, and how old they are."""
    home = tmp_path / "home"
    home.mkdir()
    enroll(home / "owners.json", ANNA)
    keyfile.save(home / "owner.key", ANNA, "four words of nothing", os.urandom)
    keyfile.save(home / "stranger.key", BELA, "four words of nothing", os.urandom)
    (home / "phrase").write_text("four words of nothing\n")
    made.guest.push(home, "/run/home")
    made.guest.sh(f"install -o inland-capture -g inland -m 600 /run/home/owners.json {STATE}/ && "
                  "chown -R nobody /run/home && chmod 700 /run/home")  # fmt: skip
    made.drive("cangen vcan0 -g 2 -L 8 -D i")  # its receipts bring the news of a policy
    made.region.publish(EVERYTHING.replace('recipients = "region"', 'recipients = "shared"'), 2)
    wait_for(lambda: made.policy_version() == 2, 90, "the policy over the air")
    who = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    command = "inland owner live --passphrase-file phrase --frames --key"
    look = f"cd /run/home && exec {who} {command} "
    refused = made.guest.run(f"{look} stranger.key", timeout=120)
    assert "nobody with this key is enrolled here" in refused.err
    assert refused.out == ""
    made.guest.begin("live", f"{look} owner.key 2>/run/live.err")
    made.guest.until("[ $(wc -l </run/live.txt) -gt 2000 ]", timeout=120)
    seen = made.guest.end("live", number="INT").out
    made.park()
    assert len(seen.splitlines()) > 2000
    said = made.guest.read("/run/live.err").decode()
    print(said.splitlines()[-1])
    # The oldest of all is held to the second in tests/test_live.py; here it tells how busy the
    # machine under the guest is.
    age = re.search(r"half within (\d+) ms", said)
    assert age is not None, said
    assert int(age[1]) <= 1000
    check_memory(made)  # nor after a second policy, 500 frames a second and somebody who looked


def test_uninstalled_it_is_gone_and_the_data_stays(made: Car):
    spool = f"{STATE}/spool/spool.db"
    made.guest.sh(f"test -s {spool}")
    said = made.guest.sh("inland service uninstall", timeout=120)
    assert STATE in said
    for unit in UNITS:
        assert shown(made, unit, "LoadState") == "not-found"
    left = made.guest.sh("ls /etc/systemd/system /etc/sysusers.d /etc/sysctl.d | grep inland || :")
    assert not left.strip(), left
    made.guest.sh(f"test -s {spool}")
    assert made.guest.run("pgrep -f 'agent.cli (capture|uplink)'").code == 1
    again = made.install_service()
    assert "wrote" in again
    before = made.region.version
    wait_for(lambda: made.policy_version() == before, 60, "the policy that was there before")
    assert made.told()["policy"]["why"] == "started"
