"""Disks that are full, rot or fail: the urgent is kept, losses are said, nothing is made up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import EVERYTHING, wait_for
from tests.vehicle.car import PYTHON, Car, car
from tests.vehicle.disk import (
    DISK_MB,
    STATE,
    arrived,
    begin,
    events,
    fill,
    logs,
    make_room,
    missing,
    new_file_s,
    opened,
    places,
    readable,
    rot,
    said_s,
    watching,
)
from tests.vehicle.explained import hollow, sealed, unexplained
from tests.vehicle.power import stamp

# Of a minute or two each; those that are not are part of CI.
SLOW = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
QUICK = EVERYTHING.replace("order = true", 'order = true\nflush = "200ms"')  # many small segments
DRIVE = "cangen vcan0 -g 1 -I i -L 8 -D i"
FLOOD = f"{PYTHON} /root/inside/flood.py vcan0"
# Everything goes to the region as routine, and the black box keeps the car's own frames as well.
AFTER_S = 3
BLACK_BOX = (
    EVERYTHING.replace("not_after", f'dbc = ["{ROOT}/firmware_sim/car.dbc"]\nnot_after')
    + """
[recorder]
window = "60s"
frames = ["*:0x000-0x7FF"]
purpose = "safety_event"
basis = "safety"
necessity = "a test brakes hard"
recipients = "region"
flush = "1s"

[[event]]
id = "hard-brake"
when = "VehicleSpeed > 30 and rate(VehicleSpeed, 0.5s) < -25 for 150ms"
hold = { before = "5s", after = "3s" }
upload = true
purpose = "safety_event"
basis = "safety"
necessity = "a test brakes hard"
recipients = "region"
keep = "30d"
"""
)


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, image: Path, payload: Path) -> Iterator[Car]:
    """A booted computer with a small data disk, and a region; each test takes a car of its own."""
    with car(tmp_path_factory.mktemp("region"), image, payload, data_mb=DISK_MB) as made:
        yield made


@pytest.fixture(autouse=True)
def plugged(stand: Car) -> Iterator[None]:
    """Each test begins and ends on a network."""
    yield
    stand.guest.run("systemctl stop drive flood candump")
    stand.guest.link(True)


def restarts(made: Car) -> str:
    return made.guest.sh("systemctl show -P NRestarts inland-capture").strip()


@SLOW
def test_a_full_disk_keeps_the_incident_and_says_what_it_drops(stand: Car):
    """Days without a network, and somebody fills the disk; then there is room again."""
    made = begin(stand, BLACK_BOX, installed=True)
    guest = made.guest
    with watching(guest) as seen:
        guest.begin("flood", f"exec {FLOOD} 1000")
        wait_for(lambda: made.told()["spool"]["stored_bytes"] > 1.5e6, 120, "a filled spool")
        fill(guest)
        for _ in range(3):  # a computer that stalls for a second in between has not braked hard
            made.drive(f"{PYTHON} -m firmware_sim --socketcan vcan0 --scenario hard-brake "
                       "--seconds 24 --brake-at 10")  # fmt: skip
            guest.finished("drive", timeout=120)
            if brakes := events(made):
                break
        fill(guest)  # whatever the spool has given up meanwhile
        full = made.told()
        assert full["spool"]["holds"] == 0  # the incident is complete
        assert full["events"]["recorded"] == brakes == 1
        make_room(guest)
        wait_for(lambda: guest.run(f"test -e {STATE}/ballast").code == 0, 30, "room for ballast")
        guest.end("flood")
        guest.link(True)
        wait_for(lambda: arrived(made), 180, "all that was kept at the region")
        guest.sh("cansend vcan0 123#600D")
        wait_for(lambda: arrived(made) and " 123#600D" in made.region.opened()[-1], 60, "the last")
    assert restarts(made) == "0"
    assert full["frames"]["kept"] > 20_000
    frames, got = made.told()["frames"], made.region.opened("--lane", "routine")
    lacking = missing(seen.lines, got)
    assert frames["received"] + frames["lost"] == len(seen.lines)
    (log,) = logs(made)
    print(f"{len(seen.lines)} frames, {len(lacking)} missing; {log['drops']}, lost {log['losses']}")
    assert (log["missing"], log["conflicts"]) == ([], 0)
    assert lacking
    assert sum(log["drops"].values()) or log["losses"]
    assert unexplained(seen, sealed(made)) <= log["losses"]
    # The incident: every frame of the black box from its end back into the time before it. How far
    # back depends on the flood: until something holds it, the black box goes before routine data.
    held = made.region.opened("--lane", "recorder")
    box = [line for line in seen.lines if len(line.split()[2].partition("#")[0]) == 3]
    first = box.index(held[0])
    assert held == box[first : first + len(held)]
    assert AFTER_S < stamp(held[-1]) - stamp(held[0]) < 14
    assert log["kinds"]["incident"] >= 1


@SLOW
def test_capture_starts_on_a_full_disk(stand: Car):
    """After an orderly end and after a power cut, while others take whatever is given up."""
    made = begin(stand, QUICK, installed=True)
    guest = made.guest
    with watching(guest) as seen:
        made.drive(DRIVE)
        wait_for(lambda: made.told()["segments"] > 50, 60, "segments that wait")
        fill(guest)
        wait_for(lambda: guest.run(f"test -e {STATE}/ballast").code, 60, "the ballast given up")
        made.park()
        fill(guest)
        made.stop("uplink", "capture")
    fill(guest)
    made.start("capture")
    assert made.told()["policy"]["version"] == made.region.version
    fill(guest)
    guest.kill()
    guest.start()
    guest.ready()
    fill(guest)
    guest.link(False)
    made.start("capture")
    assert made.told()["policy"]["version"] == made.region.version
    make_room(guest)
    wait_for(lambda: guest.run(f"test -e {STATE}/ballast").code == 0, 30, "room for ballast")
    guest.sh("cansend vcan0 123#600D")
    guest.link(True)
    made.start("uplink")
    wait_for(lambda: arrived(made) and " 123#600D" in made.region.opened()[-1], 120, "the last")
    (log,) = logs(made)
    assert (log["missing"], log["conflicts"]) == ([], 0)
    segments = sealed(made)
    assert segments.pop().lines == (made.region.opened()[-1],)  # after all that was watched
    assert unexplained(seen, segments) <= log["losses"]


@SLOW
@pytest.mark.parametrize("while_", ["stopped", "running", "under way"])
def test_bodies_that_rot_are_said_and_never_sent(stand: Car, while_: str):
    """A bit of three segments flips on the disk while they wait; all others arrive.

    Or while some are under way on a link that is dead: what was read before may come, as it was.
    """
    made = begin(stand, QUICK)
    if while_ != "under way":
        made.stop("uplink")
    with watching(made.guest) as seen:
        made.drive(DRIVE)
        wait_for(lambda: made.told()["segments"] > 60, 60, "segments that wait")
        made.park()
        wait_for(lambda: not made.told()["frames"]["waiting"], 10, "an empty queue")
    wait_for(lambda: made.told()["segments"] == len(places(made, "bodies 0")), 10, "sealed")
    if while_ == "stopped":
        made.stop("capture")
    rotten = places(made, "bodies 3")
    for one in rotten:
        rot(made.guest, bytes.fromhex(one["bytes"]))
    assert all(was != now for was, now in zip(rotten, places(made, "bodies 3"), strict=True))
    if while_ == "stopped":
        made.start("capture")
    made.guest.link(True)
    if while_ != "under way":
        made.start("uplink")
    wait_for(lambda: arrived(made), 120, "all that is good at the region")
    assert made.told()["spool"]["quarantined"] == 0
    # A rotten body is dropped a second after it was met: the last drop may still be on its way.
    wait_for(lambda: sum(logs(made)[0]["drops"].values()) == hollow(made), 60, "a drop for each")
    (log,) = logs(made)
    print(f"{while_}: {log['drops']}")
    if while_ != "under way":
        assert log["drops"] == {"rotten": 3}
        assert "do not match their hash" in made.said("capture")
    assert (log["missing"], log["conflicts"], log["losses"]) == ([], 0, 0)
    assert hollow(made) == log["drops"].get("rotten", 0)
    assert len(missing(seen.lines, made.region.opened())) < len(seen.lines) / 4
    assert unexplained(seen, sealed(made)) == 0


@pytest.mark.parametrize("while_", [pytest.param("stopped", marks=SLOW), "running"])
def test_an_entry_that_rots_is_never_sent_and_all_the_others_are(stand: Car, while_: str):
    """A bit of the time in a boot entry: to the region it would look forged."""
    made = begin(stand, QUICK)
    with watching(made.guest) as seen:
        made.drive(DRIVE)
        wait_for(lambda: made.told()["segments"] > 20, 60, "segments that wait")
        made.park()
        made.stop("uplink", "capture")
        made.start("capture", "uplink")  # there is an entry of this without a body
        made.guest.sh("cansend vcan0 123#600D")
        wait_for(lambda: made.told()["segments"] == 1, 60, "a segment behind it")
    log = made.told()["spool"]["log"]
    if while_ == "stopped":
        made.stop("uplink", "capture")
    (rotten,) = places(made, "entry")
    rot(made.guest, bytes.fromhex(rotten["bytes"]))
    assert places(made, "entry") != [rotten]
    if while_ == "stopped":
        made.start("capture", "uplink")
    made.guest.link(True)
    wait_for(lambda: (made.status() or {"spool": {"log": log}})["spool"]["log"] != log,
             60, "a new log")  # fmt: skip
    wait_for(lambda: arrived(made), 120, "all that is good at the region")
    assert made.said("capture").count("a new log begins") == 1
    old, new = logs(made)
    assert (old["log"], old["conflicts"], new["conflicts"]) == (log, 0, 0)
    assert old["missing"] == [[rotten["i"], rotten["i"]]]
    assert (new["missing"], new["kinds"]["gap"]) == ([], 1)
    assert missing(seen.lines, opened(made)) == []


@SLOW
@pytest.mark.parametrize(
    ("what", "while_"), [("header", "stopped"), ("page", "stopped"), ("page", "running")]
)
def test_a_page_that_rots_begins_a_new_log_and_what_is_readable_is_delivered(
    stand: Car, tmp_path: Path, what: str, while_: str
):
    """Put aside within 5 s, a gap in the new log, and the frames of that time are all there.

    5 s on a machine that nobody else uses: 4 s, and what a new file costs, twice.
    """
    made = begin(stand, QUICK)
    with watching(made.guest) as seen:
        made.drive(DRIVE)
        wait_for(lambda: made.told()["segments"] > 100, 60, "segments that wait")
        before = made.told()["spool"]["log"]
        if while_ == "stopped":
            made.park()
            made.stop("uplink", "capture")
        (place,) = places(made, what)
        rot(made.guest, bytes.fromhex(place["bytes"]))
        if while_ == "stopped":
            made.start("capture", "uplink")
        made.guest.link(True)
        wait_for(lambda: (made.status() or {"spool": {"log": before}})["spool"]["log"] != before,
                 60, "a new log")  # fmt: skip
        if while_ == "running":
            made.park()
        made.guest.sh("cansend vcan0 123#600D")
        lacks = what == "page"
        wait_for(
            lambda: arrived(made) and " 123#600D" in opened(made, lacks=lacks)[-1], 120, "the last"
        )
    assert restarts(made) == "0"
    damaged_s, done_s = said_s(made, "a new log begins"), said_s(made, "spool put aside")
    new_s = new_file_s(made)
    print(f"{what} {while_}: {done_s - damaged_s:.2f} s to the new log, a file takes {new_s:.2f} s")
    assert 0 <= done_s - damaged_s <= 4 + 2 * new_s
    assert "Traceback" not in made.said("capture")
    old, new = logs(made)
    assert (old["log"], old["conflicts"], new["conflicts"]) == (before, 0, 0)
    assert new["kinds"]["gap"] == 1
    assert new["missing"] == []
    # Whatever SQLite can still read of the old file is at the region, and the rest is told apart.
    intact, lost = readable(made, tmp_path)
    assert intact
    assert bool(lost) == lacks
    assert {i for first, last in old["missing"] for i in range(first, last + 1)} <= lost
    assert old["entries"] >= len(intact)
    lacking = missing(seen.lines, opened(made, lacks=lacks))
    assert len(lacking) < len(seen.lines) / 2
    assert all(stamp(line) < damaged_s for line in lacking)
    if what == "header":
        assert lacking == []
    made.guest.sh(f"test -e {made.state}/quarantine/0001/spool.db")


@SLOW
def test_a_disk_that_takes_nothing_ends_capture_until_it_does(stand: Car):
    """The file system gives up in the middle of a drive: exit 75, one line, and again and again."""
    made = begin(stand, QUICK)
    guest = made.guest
    guest.link(True)
    with watching(guest) as seen:
        made.drive(DRIVE)
        wait_for(lambda: made.told()["segments"] > 20, 60, "segments")
        log, size = (made.told()["spool"][name] for name in ("log", "size"))
        guest.sh("mount -o remount,abort /data")
        guest.until("test $(systemctl show -P NRestarts inland-capture) -ge 2", timeout=60)
        assert guest.sh("systemctl show -P ExecMainStatus inland-capture").strip() in ("0", "75")
        said = made.said("capture")
        assert "status=75" in said
        assert "Traceback" not in said
        assert [line for line in said.splitlines() if line.startswith("error: /data/inland")], said
        # Somebody mends it: between two tries nobody uses the disk.
        guest.until("umount /data", timeout=60)
        guest.sh("e2fsck -fy /dev/disk/by-label/data || test $? -le 2; mount -L data /data",
                 timeout=60)  # fmt: skip
        wait_for(lambda: made.status() is not None, 60, "capture by itself")
        assert made.told()["spool"]["log"] == log
        assert made.told()["spool"]["size"] >= size
        made.park()
        guest.sh("cansend vcan0 123#600D")
        wait_for(lambda: arrived(made) and " 123#600D" in made.region.opened()[-1], 120, "the last")
    (only,) = logs(made)
    assert (only["missing"], only["conflicts"], only["drops"]) == ([], 0, {})
    lacking = missing(seen.lines, made.region.opened())
    down_s = stamp(lacking[0]), stamp(lacking[-1])
    print(f"{len(lacking)} of {len(seen.lines)} frames lacking, {down_s[1] - down_s[0]:.1f} s")
    assert lacking == [line for line in seen.lines if down_s[0] <= stamp(line) <= down_s[1]]


@SLOW
def test_a_read_only_disk_is_said_at_the_start(stand: Car):
    made = begin(stand, QUICK)
    made.stop("uplink", "capture")
    made.guest.sh("mount -o remount,ro /data")
    made.start("capture", wait=False)
    made.guest.until("test $(systemctl show -P NRestarts inland-capture) -ge 1", timeout=60)
    said = made.said("capture")
    assert "status=75" in said
    assert "Read-only file system" in said
    assert "Traceback" not in said
    made.guest.sh("mount -o remount,rw /data")
    wait_for(lambda: made.status() is not None, 60, "capture by itself")
