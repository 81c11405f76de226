"""What only real drivers show, on emulated hardware: see `hardware.py`. One boot for all of it.

What QEMU's CAN controllers do not model, and what therefore nothing here claims: acknowledgement (a
frame is sent although everybody only listens), bit timing (controllers of different bit rates hear
each other), error frames of the wire, bus-off and the restart after it. Figures: pytest -s.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.owner.keyfile import OwnerKey
from agent.owner.tpm import INDEX
from tests.rig import wait_for
from tests.vehicle.car import CONFIG, RUN, STATE, Car
from tests.vehicle.hardware import TTY, Adapter, Heard, Watch, bus, hardware_car, numbered, numbers
from tests.vehicle.machine_qemu import Qemu
from tests.vehicle.outcome import Drive, Table, catalogue, tidy, waiting

NOTICED_S = 8.0  # the kernel takes a second, two looks two; the machine is an emulated one
OVERRUN = "20000204#0001000000000000"  # CAN_ERR_CRTL_RX_OVERFLOW
EXPOSURE = 1.5  # of systemd-analyze security, at most


@pytest.fixture(scope="module")
def stand(
    tmp_path_factory: pytest.TempPathFactory, qemu: None, image: Path, payload: Path
) -> Iterator[tuple[Car, Qemu, Watch]]:
    with hardware_car(tmp_path_factory.mktemp("car"), image, payload) as (made, machine):
        began = time.monotonic()
        made.guest.until("systemctl is-active -q inland-capture inland-uplink", timeout=120)
        watch = Watch(made.guest)
        watch.until(lambda s: s["link"]["connected"] and s["policy"]["version"] == 1, 60, "a link")
        print(f"connected {time.monotonic() - began:.1f} s after the end of the boot")
        yield made, machine, watch


@pytest.fixture
def made(stand: tuple[Car, Qemu, Watch]) -> Iterator[Car]:
    """The car, connected, and no drive left over."""
    made, machine, watch = stand
    watch.until(lambda s: s["link"]["connected"], 60, "a link")
    yield made
    tidy(made)
    machine.carrier(True)


@pytest.fixture
def machine(stand: tuple[Car, Qemu, Watch]) -> Qemu:
    return stand[1]


@pytest.fixture
def watch(stand: tuple[Car, Qemu, Watch]) -> Watch:
    return stand[2]


def delivered(watch: Watch, seconds: float) -> dict[str, Any]:
    """Wait until everything that was read is kept, sealed and receipted."""

    def there(s: dict[str, Any]) -> bool:
        frames = s["frames"]
        # What a controller lost is lost, and was never received.
        gone = frames["received"] - frames["kept"]
        return gone in (0, frames["lost"]) and not frames["waiting"] and not waiting(s)

    return watch.until(there, seconds, "everything delivered")


def everything(watch: Watch, before: dict[str, Any], heard: Heard) -> dict[str, int]:
    """Wait until all that the driver of can0 handed on is delivered; return the agent's counts."""

    def there(s: dict[str, Any]) -> bool:
        return bool(s["frames"]["received"] - before["frames"]["received"] >= sum(heard.counts()))

    watch.until(there, 60, "all that the driver handed on")
    status = delivered(watch, 60)
    frames = {name: status["frames"][name] - before["frames"][name]
              for name in ("received", "kept", "lost")}  # fmt: skip
    assert frames["received"] == sum(heard.counts())
    return frames


def check(drive: Drive, heard: Heard, *, least: int) -> None:
    """Assert that the region has what the driver handed on of a drive: once, in order."""
    found = drive.numbers()
    assert all(one < after for one, after in itertools.pairwise(found)), "twice, or out of order"
    assert len(found) == heard.counts()[0] >= least


def counters(made: Car, name: str) -> dict[str, Any]:
    (link,) = json.loads(made.guest.sh(f"ip -j -s -d link show {name}"))
    return dict(link)


def sent_by(made: Car, name: str) -> int:
    """Frames that an interface sent, or was to send."""
    tx = counters(made, name)["stats64"]["tx"]
    return int(tx["packets"] + tx["dropped"] + tx["errors"])


def bus_states(made: Car, name: str) -> list[str]:
    """What the ledger says of a bus, oldest first."""
    return re.findall(rf"bus {name} (\S+)$", made.inland("ledger --last 10000"), re.MULTILINE)


def restarts(made: Car) -> list[str]:
    return made.guest.sh("systemctl show -P NRestarts inland-capture inland-uplink").split()


def test_a_link_that_goes_away_is_noticed_and_everything_delivered(
    made: Car, machine: Qemu, watch: Watch, table: Table
):
    """The network card's carrier, not a black hole: the guest knows at once, so does uplink."""
    before, heard = watch.now(), Heard(made)
    drive = Drive(made, "301", gap_ms=10, interface="can1")
    drive.begin()
    heard.more(50)
    cut = float(made.guest.sh("date +%s.%N"))
    machine.carrier(False)
    made.guest.until("[ $(cat /sys/class/net/eth0/carrier) = 0 ]")
    said = watch.until(lambda s: not s["link"]["connected"], 40, "noticed")
    noticed_s = max(0.0, watch.not_yet - cut)
    heard.more(100)
    kept = watch.until(lambda s: waiting(s) > 5, 30, "what waits")
    plugged = float(made.guest.sh("date +%s.%N"))
    machine.carrier(True)
    back = watch.until(lambda s: s["link"]["connected"], 60, "a new link")
    drive.end()
    frames = everything(watch, before, heard)
    table.row("carrier lost", sent=drive.sent, heard=heard.counts()[0], **frames,
              noticed_s=noticed_s, told_s=said["at"] - cut, waited=waiting(kept),
              reconnected_s=back["at"] - plugged)  # fmt: skip
    assert "the car's own network is gone" in said["link"]["last_error"]
    assert noticed_s <= NOTICED_S
    assert frames["lost"] == 0
    check(drive, heard, least=150)
    held = catalogue(made)
    assert (held["missing"], held["conflicts"], held["losses"]) == ([], 0, 0)


def test_a_usb_adapter_is_pulled_and_plugged_in_again(
    made: Car, machine: Qemu, watch: Watch, table: Table
):
    """Pulled in the middle of a burst. What came before and comes after is there, once."""
    assert bus(watch.now(), "usb0")["state"] == "missing"
    with Adapter(machine.usb_line) as adapter:
        adapter.wait_open(60)
        assert adapter.listen_only
        watch.until(lambda s: bus(s, "usb0")["state"] == "up", 20, "the adapter found")
        adapter.send(numbered(0x401, 0, 500))
        watch.until(lambda s: bus(s, "usb0")["received"] == 500, 30, "all of the first drive")
        adapter.flood(0x402)
        watch.until(lambda s: bus(s, "usb0")["received"] > 800, 30, "a flood")
        pulled = time.monotonic()
    sent = adapter.flooded
    watch.until(lambda s: bus(s, "usb0")["state"] == "down", 20, "it gone")
    gone_s = time.monotonic() - pulled
    assert made.guest.run(f"test -e {TTY}").code
    plugged = time.monotonic()
    with Adapter(machine.usb_line) as adapter:
        adapter.wait_open(30)
        opened_s = time.monotonic() - plugged
        adapter.send(numbered(0x403, 0, 500))
        # Not by a count: what was read of the flood may be counted after the bus was called down.
        wait_for(lambda: len(numbers(made, "usb0", "403")) >= 500, 60, "what came after")
    status = delivered(watch, 60)
    before, cut, after = (numbers(made, "usb0", name) for name in ("401", "402", "403"))
    table.row("USB adapter pulled", sent_before=500, before=len(before), sent_in_the_cut=sent,
              in_the_cut=len(cut), sent_after=500, after=len(after), noticed_s=gone_s,
              read_again_s=opened_s)  # fmt: skip
    assert before == after == list(range(500))
    assert 300 < len(cut) < sent
    assert cut == list(range(len(cut)))  # up to the pull, and nothing made up behind it
    assert status["frames"]["lost"] == 0
    assert bus_states(made, "usb0")[:4] == ["missing", "up", "down", "up"]
    assert restarts(made) == ["0", "0"], made.said("capture")


def test_a_real_controller_is_only_listened_to(made: Car, watch: Watch, table: Table):
    """An SJA1000 and its driver. The witness is the other controller on the wire."""
    link = counters(made, "can0")
    data = link["linkinfo"]["info_data"]
    assert "LISTEN-ONLY" in data["ctrlmode"]
    assert (data["bittiming"]["bitrate"], data["restart_ms"]) == (500_000, 100)
    assert data["state"] == "ERROR-ACTIVE"
    assert "kvaser_pci" in made.guest.sh("readlink /sys/class/net/can0/device/driver")
    kinds = ["501#1122334455667788", "502#", "18FEF100#AA", "1FFFFFF1#0102"]
    before, heard_before = watch.now(), Heard(made)
    made.guest.sh("; ".join(f"cansend can1 {frame}" for frame in kinds))
    everything(watch, before, heard_before)
    heard, drive = Heard(made), Drive(made, "505", gap_ms=10, interface="can1")
    drive.begin()
    heard.more(200)
    drive.end()
    everything(watch, before, heard_before)
    check(drive, heard, least=200)
    lines = [line.split(" ")[2] for line in made.region.opened() if " can0 " in line]
    assert [one for one in lines if one in kinds] == kinds
    witness = counters(made, "can1")["stats64"]["rx"]["packets"]
    table.row("SJA1000", sent=counters(made, "can1")["stats64"]["tx"]["packets"],
              heard_by_can0=counters(made, "can0")["stats64"]["rx"]["packets"],
              sent_by_can0=sent_by(made, "can0"), heard_by_can1=witness)  # fmt: skip
    assert sent_by(made, "can0") == 0
    assert witness == 0


def test_both_counters_would_see_a_frame_of_the_agents(made: Car):
    """The planted frame: listening only, the driver drops and counts it; else it is on the wire."""
    made.guest.run("cansend can0 7FF#01")
    made.guest.until("[ $(cat /sys/class/net/can0/statistics/tx_dropped) -gt 0 ]")
    assert counters(made, "can1")["stats64"]["rx"]["packets"] == 0
    change = (
        "ip link set can0 down && ip link set can0 type can listen-only {} && ip link set can0 up"
    )
    made.guest.sh(change.format("off"))
    made.guest.sh("cansend can0 7FF#02")
    made.guest.until("[ $(cat /sys/class/net/can1/statistics/rx_packets) = 1 ]")
    made.guest.sh(change.format("on"))


def test_ownership_is_counted_in_the_tpm_behind_the_wall(made: Car):
    """Capture reaches the device as its own user, in its sandbox, which is as tight as before."""
    state = json.loads(made.guest.sh("cat /var/lib/inland/epoch.json"))
    counter = tpm_counter(made)
    assert (state["custody"], state["epoch"], state["counter"]) == ("tpm", 1, counter)
    assert counter >= 1
    said = made.guest.sh("systemd-analyze security --no-pager inland-capture")
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level is not None
    assert float(level[1]) <= EXPOSURE, said
    shown = made.guest.sh("systemctl show -P DeviceAllow inland-capture")
    assert "/dev/tpmrm0 rw" in shown


def test_overruns_of_the_controller_are_heard_as_its_driver_tells_them(
    made: Car, watch: Watch, table: Table
):
    """The model's receive buffer is filled for good: each remote frame leaves its length behind.

    Each overrun is an error frame of the driver's, and the first ones are a loss in the ledger at
    once. (After this, can0 hears nothing any more.)
    """
    before, heard, known = watch.now(), Heard(made), told_overruns(made)
    made.guest.sh("for _ in {1..20}; do cansend can1 508#R8; done")
    sent = 20
    while heard.counts()[1] <= 100:  # a driver that is late tells two as one
        made.guest.sh("cangen can1 -p 1000 -g 10 -n 100 -I 509 -L 8 -D i")
        sent += 100
        assert sent < 3000
    everything(watch, before, heard)
    told, (got, overruns) = told_overruns(made) - known, heard.counts()
    table.row("overruns of the SJA1000", sent=sent, heard=got, overruns=overruns, told=told)
    assert told == overruns > 100
    lost = re.findall(r"at least ([\d,]+) .* of can0 lost: the bus controller ran over",
                      made.inland("ledger --last 10000"))  # fmt: skip
    assert 1 <= sum(int(count.replace(",", "")) for count in lost) <= overruns


def told_overruns(made: Car) -> int:
    return sum(line.endswith(f" can0 {OVERRUN}") for line in made.region.opened())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_after_a_sale_an_old_disk_starts_nothing(made: Car, machine: Qemu, table: Table):
    """Enrolled, sold, and the disk of the time before is put back: the TPM says no."""
    guest, key = made.guest, OwnerKey(bytes([1]) * 32, "anna")
    guest.write("/root/anna.pub", key.public.text().encode())
    shown = f"{RUN}/presence.json"
    code = r's/.*"code": *"\([0-9]*\).*/\1/'
    typed = f"until test -s {shown}; do sleep 0.1; done; sed '{code}' {shown}"
    guest.sh(f"({typed}) | inland owner enroll /root/anna.pub --config {CONFIG}", timeout=120)
    assert json.loads(guest.sh(f"cat {STATE}/owners.json"))["people"]
    before = tpm_counter(made)
    guest.shutdown()
    shutil.copy2(guest.disk, guest.folder / "old")
    guest.start()
    guest.ready()
    guest.until("systemctl is-active -q inland-capture", timeout=120)
    assert tpm_counter(made) == before
    made.inland("transfer --yes", timeout=300)
    state = json.loads(guest.sh(f"cat {STATE}/epoch.json"))
    assert (state["epoch"], state["counter"]) == (2, before + 1)
    assert tpm_counter(made) == before + 1
    guest.until("systemctl is-active -q inland-capture", timeout=120)
    guest.shutdown()
    guest.disk.rename(guest.folder / "present")
    (guest.folder / "old").rename(guest.disk)
    guest.start()
    guest.ready()
    assert guest.sh("systemctl show -P ExecMainStatus inland-capture").strip() == "2"
    assert guest.run("systemctl is-active -q inland-capture").code
    assert "older than the last transfer" in made.said("capture")
    assert made.status() is None
    assert "older than the last transfer" in made.inland("transfer --yes", code=2, timeout=120)
    table.row("sold", counter_before=before, counter_after=tpm_counter(made))
    guest.kill()
    (guest.folder / "present").rename(guest.disk)
    guest.start()
    guest.until("systemctl is-active -q inland-capture", timeout=180)
    assert tpm_counter(made) == before + 1


def tpm_counter(made: Car) -> int:
    read = f"tpm2_nvread -T device:/dev/tpmrm0 -C {INDEX} -s 8 {INDEX} | od -An -tx1"
    return int(made.guest.sh(read).replace(" ", "").strip(), 16)
