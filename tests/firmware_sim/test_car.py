"""What the car sends, against cantools, which reads the same DBC without our code."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from random import Random

import cantools
import pytest

import firmware_sim
from firmware_sim import layout, signals
from firmware_sim.camera import CameraController
from firmware_sim.car import LOADS, Car, Options
from firmware_sim.frames import candump_text
from firmware_sim.layout import MessageLayout, Packer, crc8
from firmware_sim.scenarios import SCENARIOS
from firmware_sim.vehicle import STEP_NS, Vehicle

DBC = Path(firmware_sim.__file__).parent / "car.dbc"
OPTIONS = Options("hard-brake", seed=7, brake_at_s=2, load="half", fd=True)


@pytest.fixture(scope="module")
def oracle():
    return cantools.database.load_file(DBC, strict=True)


@pytest.fixture(scope="module")
def frames():
    return list(Car(OPTIONS).frames_until(4_000_000_000))


def test_layout_is_what_cantools_reads(oracle):
    for mine in layout.load():
        theirs = oracle.get_message_by_name(mine.name)
        assert (
            mine.arbitration_id,
            mine.extended,
            mine.fd,
            mine.length,
            mine.cycle_ms or None,
        ) == (
            theirs.frame_id,
            theirs.is_extended_frame,
            theirs.is_fd,
            theirs.length,
            theirs.cycle_time,
        )
        by_name = {signal.name: signal for signal in theirs.signals}
        assert by_name.keys() == {signal.name for signal in mine.signals}
        for signal in mine.signals:
            other = by_name[signal.name]
            assert (signal.signed, signal.factor, signal.offset) == (
                other.is_signed,
                other.scale,
                other.offset,
            )
            assert signal.limits == (signal.minimum, signal.maximum), f"{signal.name} does not fit"


def test_signal_names_are_unique_and_each_kind_of_message_is_there(oracle):
    names = [s.name for m in oracle.messages for s in m.signals]
    assert len(names) == len(set(names))
    kinds = [s for m in oracle.messages for s in m.signals]
    assert any(s.is_signed for s in kinds)
    assert any(s.byte_order == "big_endian" for s in kinds)
    assert any(m.is_multiplexed() for m in oracle.messages)
    assert any(m.is_extended_frame for m in oracle.messages)
    assert any(m.is_fd and m.length == 64 for m in oracle.messages)


def broken(self, little, big):
    """Planted bug: big-endian fields one bit off."""
    return Packer._unbroken(self, little, big << 1)


def check_values(oracle) -> None:
    """Every message, packed from a car's values, decodes to them within half a step."""
    vehicle = Vehicle(SCENARIOS["commute"], brake_at_s=0, rng=Random(1))
    camera = CameraController(10)
    for _ in range(900):
        vehicle.step()
    values = signals.values(vehicle, camera)
    values |= {"CameraId": 1, "TriggerReason": 2, "TriggerState": 1, "ClipId": 0xABCD}
    values |= {f"Load{kind}{n:02d}": n for n in range(16) for kind in ("Sequence", "Noise")}
    for message in layout.load():
        packer, theirs = Packer(message), oracle.get_message_by_name(message.name)
        seen = set()
        for count in range(18):
            decoded = theirs.decode(packer.pack(values), decode_choices=False)
            seen |= decoded.keys()
            for name, value in decoded.items():
                if name.endswith("Counter"):
                    assert value == count % 16
                elif name == "CellGroup":
                    assert value == count % 4
                elif not name.endswith("Checksum"):
                    step = theirs.get_signal_by_name(name).scale
                    assert value == pytest.approx(float(values[name]), abs=step * 0.501), name
        assert seen == {signal.name for signal in message.signals}


def test_every_message_decodes_to_the_simulated_values(oracle):
    check_values(oracle)


def test_the_check_of_values_finds_a_planted_bug(oracle, monkeypatch):
    monkeypatch.setattr(Packer, "_unbroken", Packer._finish, raising=False)
    monkeypatch.setattr(Packer, "_finish", broken)
    with pytest.raises((AssertionError, OverflowError)):
        check_values(oracle)


def test_values_beyond_the_limits_are_packed_as_the_limits(oracle):
    for message in layout.load():
        theirs = oracle.get_message_by_name(message.name)
        for huge, limit in ((1e12, "maximum"), (-1e12, "minimum")):
            values = defaultdict(lambda huge=huge: huge)
            decoded = theirs.decode(Packer(message).pack(values), decode_choices=False)
            for name, value in decoded.items():
                signal = theirs.get_signal_by_name(name)
                if not name.endswith(("Counter", "Checksum")) and not signal.is_multiplexer:
                    assert value == pytest.approx(getattr(signal, limit), abs=signal.scale)


def test_each_frame_of_a_drive_is_in_the_dbc(oracle, frames):
    assert {f.arbitration_id for f in frames} == {m.frame_id for m in oracle.messages}
    for frame in frames[::7]:
        message = oracle.get_message_by_frame_id(frame.arbitration_id)
        assert (message.is_extended_frame, message.is_fd) == (frame.extended, frame.fd)
        message.decode(frame.data)


def test_crc_gives_the_published_check_value():
    """CRC-8/SAE-J1850 of the digits is 4B in every catalogue."""
    assert crc8(b"123456789") == 0x4B
    assert crc8(b"") == 0


def test_counters_rise_and_checksums_hold_in_every_frame(oracle, frames):
    counters: dict[int, int] = {}
    checked = 0
    for frame in frames:
        message = oracle.get_message_by_frame_id(frame.arbitration_id)
        decoded = message.decode(frame.data, decode_choices=False)
        for name, value in decoded.items():
            if name.endswith("Counter"):
                before = counters.get(frame.arbitration_id, -1)
                assert value == (before + 1) % 16, message.name
                counters[frame.arbitration_id] = value
            elif name.endswith("Checksum"):
                covered = frame.arbitration_id.to_bytes(4, "big") + frame.data[:-1]
                assert value == crc8(covered) == frame.data[-1]
                checked += 1
    assert checked > 3000


def test_each_message_keeps_its_cycle(frames):
    stamps = defaultdict(list)
    for frame in frames:
        stamps[frame.arbitration_id].append(frame.timestamp_ns)
    for message in layout.load():
        if not message.cycle_ms:
            continue
        count = len(stamps[message.arbitration_id])
        assert abs(count - 4000 / message.cycle_ms) <= 1, message.name
        for one, other in pairwise(stamps[message.arbitration_id]):
            assert abs(other - one - message.cycle_ms * 1e6) < 5e6, message.name


@pytest.mark.parametrize(
    ("load", "least", "most"), [("normal", 750, 900), ("half", 1950, 2050), ("full", 3900, 4200)]
)
def test_load_is_what_it_promises(load, least, most):
    frames = list(Car(Options("commute", load=load)).frames_until(1_000_000_000))
    assert least <= len(frames) <= most
    # One bus: no frame starts before the one before it is over (8 bytes: 246 us).
    gaps = [b.timestamp_ns - a.timestamp_ns for a, b in pairwise(frames)]
    assert min(gaps) >= 246_000


def test_fd_frames_only_on_fd_buses():
    assert not any(f.fd for f in Car(Options("commute")).frames_until(300_000_000))
    assert any(f.fd and len(f.data) == 64 for f in Car(OPTIONS).frames_until(300_000_000))


def test_same_seed_gives_the_same_bytes_however_time_is_cut(frames):
    car, pieces = Car(OPTIONS), []
    for end in range(0, 4_000_000_001, 3_999_999):
        pieces += car.frames_until(end)
    pieces += car.frames_until(4_000_000_000)
    assert candump_text(pieces, "can0") == candump_text(frames, "can0")


def test_another_seed_gives_another_drive():
    one, other = (list(Car(Options("commute", seed=s)).frames_until(10**8)) for s in (1, 2))
    assert one != other


def test_load_changes_nothing_about_the_drive():
    """The load frames have a generator of their own."""
    drives = []
    for load in LOADS:
        car = Car(Options("hard-brake", seed=3, load=load))
        assert list(car.frames_until(2_000_000_000))
        drives.append((car.vehicle.speed, car.vehicle.latitude, car.vehicle.soc))
    assert len(set(drives)) == 1


def test_arbitration_lets_the_lower_id_go_first():
    """On a full bus, safety messages wait for one frame at most, load frames for all."""
    car = Car(Options("commute", load="full", seed=1))
    frames = list(car.frames_until(1_000_000_000))
    brakes = [f.timestamp_ns for f in frames if f.arbitration_id == 0xA2]
    assert all(abs(b - a - 10_000_000) < 500_000 for a, b in pairwise(brakes))
    assert Counter(f.arbitration_id >= 0x700 for f in frames)[True] > 3000


def test_values_of_a_frame_are_those_of_the_last_step(oracle):
    car = Car(Options("hard-brake", seed=1))
    motion = oracle.get_message_by_name("VehicleMotion")
    for step in range(1, 50):
        speed = car.values.get("VehicleSpeed")
        frames = list(car.frames_until(step * STEP_NS))
        speed = car.values["VehicleSpeed"]
        for frame in frames:
            if frame.arbitration_id == motion.frame_id:
                assert motion.decode(frame.data)["VehicleSpeed"] == pytest.approx(speed, abs=0.006)


@pytest.mark.parametrize("line", ["BO_ x Name: 8 Unit", " SG_ Broken : 0-8@1+ (1,0) [0|1]"])
def test_line_of_the_dbc_that_is_not_understood_is_named(line):
    with pytest.raises(ValueError, match=r"car\.dbc:2: not a"):
        layout.parse("BO_ 1 First: 8 Unit\n" + line)


def test_missing_value_is_an_error_not_a_zero():
    message = layout.load()[0]
    assert isinstance(message, MessageLayout)
    with pytest.raises(KeyError):
        Packer(message).pack({})
