"""The car's computer itself: boots with CAN and the agent, outlives power cuts, leaves nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from tests.rig import wait_for
from tests.vehicle import cache
from tests.vehicle.door import DoorError
from tests.vehicle.guest import Guest, GuestError
from tests.vehicle.net import HOST, Net


def processes(mark: str) -> list[str]:
    """Command lines on this machine that mention a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mark in line:
            found.append(line)
    return found


def namespaces() -> set[str]:
    """Network namespaces of this machine in which something runs."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(path.readlink()))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_boots_with_can_and_the_agent(guest: Guest):
    print(guest.sh("systemd-analyze").splitlines()[0])
    (vcan,) = json.loads(guest.sh("ip -j -d link show vcan0"))
    assert vcan["linkinfo"]["info_kind"] == "vcan"
    assert "UP" in vcan["flags"]
    assert vcan["mtu"] == 72
    assert "CAN" in guest.sh("inland --help")
    assert guest.sh("inland --version").startswith("inland ")


def test_doctor_examines_the_guest(guest: Guest):
    """It finds the real CAN interface, and says what keeps capture from reading it."""
    from tests.rig import Rig

    with tempfile.TemporaryDirectory() as folder:
        made = Rig(Path(folder))
        made.bus(name="can0", interface="socketcan", channel="vcan0")
        guest.push(made.car, "/etc/inland")
    words = {
        "ip link set vcan0 mtu 16": ("ok", "socketcan vcan0"),
        "ip link set vcan0 mtu 72": ("warn", "fd = true"),
        "ip link set vcan0 down": ("warn", "ip link set vcan0 up"),
        "ip link del vcan0": ("warn", "no interface vcan0"),
    }
    try:
        for command, (verdict, text) in words.items():
            guest.sh(f"ip link set vcan0 down; {command}; ip link set vcan0 up || :"
                     if "mtu" in command else command)  # fmt: skip
            report = guest.run("inland doctor --config /etc/inland/agent.toml --offline --json")
            assert "Traceback" not in report.err
            found = {one["what"]: one for one in json.loads(report.out)["findings"]}
            assert found["bus can0"]["verdict"] == verdict
            assert text in found["bus can0"]["text"]
    finally:
        guest.sh("ip link add vcan0 type vcan; ip link set vcan0 mtu 72 txqueuelen 1000 up")


def test_a_power_cut_loses_what_was_not_synced_and_the_disk_boots_again(image: Path, payload: Path):
    with Guest(image, payload, data_mb=16) as guest:
        guest.ready()
        # Else the file system would keep it within five seconds, which a slow machine may take.
        guest.sh("mount -o remount,commit=300 /")
        guest.sh("echo kept >/root/kept; echo kept >/data/kept; sync; echo gone >/root/gone; "
                 "echo told >/dev/ttyS1")  # fmt: skip
        guest.kill()
        assert guest.heard().split() == [b"told"]
        with pytest.raises(GuestError):
            guest.run("true")
        guest.start()
        assert guest.ready() == "running"
        assert guest.sh("cat /root/kept /data/kept") == "kept\nkept\n"
        assert guest.run("cat /root/gone").code == 1
        assert "recovery complete" in guest.sh("dmesg | grep EXT4")
        guest.sh("echo gone >/root/gone")
        guest.shutdown()
        guest.start()
        assert guest.sh("cat /root/gone") == "gone\n"


def test_files_are_there_at_the_first_boot_and_travel_both_ways(
    image: Path, payload: Path, tmp_path: Path
):
    big = os.urandom(300_000)
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "big").write_bytes(big)
    unit = b"[Service]\nType=oneshot\nExecStart=/bin/cp /etc/inland/early /run/copied\n"
    files = {"/etc/inland/early": b"early", "/etc/inland/car.key": b"secret",
             "/etc/systemd/system/early.service": unit}  # fmt: skip
    with Guest(image, payload, files=files, data_mb=16) as guest:
        guest.sh("systemctl start early")
        assert guest.read("/run/copied") == b"early"
        assert guest.sh("stat -c '%a %U' /etc/inland/car.key") == "600 root\n"
        guest.push(tmp_path / "folder", "/srv/there")
        guest.pull("/srv/there/deep/big", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == big
        # And a small data disk gets full.
        guest.ready()
        full = guest.run("dd if=/dev/zero of=/data/fill bs=1M count=20")
        assert full.code != 0
        assert "No space left" in full.err


def test_commands_in_the_background(guest: Guest):
    guest.begin("well", "echo done")
    assert (well := guest.finished("well")).code == 0
    assert well.out == "done\n"
    guest.begin("badly", "echo oh >&2; exit 7")
    assert guest.finished("badly").code == 7
    for number, code in (("TERM", 128 + 15), ("KILL", 128 + 9)):
        guest.begin("forever", "echo on; exec sleep infinity")
        guest.until("grep -q on /run/forever.txt")
        ended = guest.end("forever", number=number)
        assert (ended.code, ended.out.splitlines()[0]) == (code, "on")
    assert "forever" not in guest.sh("systemctl list-units --no-legend")
    with pytest.raises(DoorError, match="more than"):
        guest.run("sleep 60", timeout=0.2)
    with pytest.raises(DoorError, match="too many"):
        guest.run("true " + "x" * 5000)


def test_the_network_is_cut_and_mended_and_leads_nowhere(image: Path):
    net = Net()
    try:
        with Guest(image, net=net) as one, Guest(image, net=net) as two:
            assert {one.ready(), two.ready()} == {"running"}
            assert one.address != two.address
            ping, in_vain = "ping -c 1 -W 20 ", "ping -c 1 -W 1 "
            one.sh(ping + HOST)
            one.sh(ping + two.address)
            one.link(False)
            assert one.run(in_vain + HOST).code == 1
            assert one.sh("cat /sys/class/net/vec0/carrier") == "1\n"
            two.sh(ping + HOST)
            one.link(True)
            one.until(ping + HOST)
            two.impair("loss 100%")
            assert two.run(in_vain + HOST).code == 1
            two.impair("delay 300ms")
            assert float(re.search(r"time=([\d.]+)", two.sh(ping + HOST))[1]) >= 300
            two.impair(None)
            two.sh(ping + HOST)
            assert two.run(f"{in_vain} 192.0.2.1").code == 1  # TEST-NET-1: any address outside
    finally:
        net.close()


def test_the_machine_is_suspended_and_goes_on(guest: Guest):
    import threading

    before = float(guest.sh("cat /proc/uptime").split()[0])
    guest.suspend()
    guest.door.tell("guest-get-time")
    with pytest.raises(TimeoutError):
        guest.door._receive(1.5)
    threading.Event().wait(0.5)
    guest.resume()
    guest.door._receive(20)
    assert float(guest.sh("cat /proc/uptime").split()[0]) - before >= 2.0


def test_the_clock_can_be_set(guest: Guest):
    try:
        guest.sh("date -s '2031-05-06 07:08:09'")
        assert guest.sh("date +%Y") == "2031\n"
    finally:
        guest.sh(f"date -s @{time.time():.3f}")


def test_nothing_is_left_on_this_machine(image: Path, payload: Path):
    with Guest(image, payload) as guest:
        mark, namespace = str(guest.folder), guest.net.namespace
        guest.net.start("sleep", "infinity", output=subprocess.DEVNULL)
        assert processes(mark)
        assert namespace in namespaces()
    assert processes(mark) == []
    assert namespace not in namespaces()
    assert not Path(mark).exists()
    mounts = Path("/proc/self/mounts").read_text()
    assert mark not in mounts
    assert namespace not in mounts


def test_a_killed_runner_takes_its_guest_along(image: Path, payload: Path):
    """SIGKILL of the test process: guest, services, namespace die; the next run sweeps."""
    script = f"""
        import subprocess, sys
        from pathlib import Path
        from tests.vehicle.guest import Guest
        guest = Guest(Path({str(image)!r}), Path({str(payload)!r}))
        guest.start()
        guest.net.start("sleep", "infinity", output=subprocess.DEVNULL)
        print(guest.folder, guest.net.namespace, flush=True)
        sys.stdin.read()
    """
    runner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True,
    )  # fmt: skip
    with runner:
        assert runner.stdout is not None
        mark, namespace = runner.stdout.readline().split()
        assert processes(mark)
        assert namespace in namespaces()
        runner.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes(mark), 30, "the guest's processes gone")
    wait_for(lambda: namespace not in namespaces(), 30, "its network namespace gone")
    Guest(image).close()
    assert not Path(mark).exists()


def test_two_builds_at_once_make_one_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And a build that fails or is killed leaves nothing that looks finished."""
    import threading

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(cache.KEEP_DAYS, "thing", 1.0)
    made: list[Path] = []

    def make(place: Path) -> None:
        made.append(place)
        (place / "it").write_text("whole")

    def fail(place: Path) -> None:
        (place / "it").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        cache.get("thing", "a", fail)
    (cache.folder() / "making-thing-killed").mkdir()
    threads = [threading.Thread(target=cache.get, args=("thing", "a", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(p.name for p in cache.folder().iterdir()) == ["thing-a", "thing.lock"]
    assert (cache.folder() / "thing-a" / "it").read_text() == "whole"
    os.utime(cache.folder() / "thing-a", (0, 0))
    cache.get("thing", "b", make)
    assert not (cache.folder() / "thing-a").exists()
