"""The simulated car's drives under the China fleet's policy: what the region opens of them.

In virtual time, with real parts from the frame on: engine, conditions, gate, recorder, vault. The
car's frames come from firmware_sim's log; the clocks follow their stamps, so a drive of minutes
takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cantools
import numpy as np
import pytest

from agent.capture.gate import read_gate
from agent.capture.logs import read_log
from agent.capture.queue import Arrival
from agent.capture.slot import Change
from agent.frames import EXTENDED, FrameBatch, concatenate
from agent.pb import sealed_pb2
from agent.policy import consent_file
from agent.policy.build import build_text
from agent.policy.compiled import load_policy
from agent.policy.terms import terms
from agent.policy.zone_file import open_zones, seal_zones
from agent.policy.zones import Zone, Zones, metres_between, pack_zones
from firmware_sim.__main__ import command as simulate
from firmware_sim.scenarios import SCENARIOS
from tests.capture.driving import Car
from tests.policy.making import EXAMPLES

REGION = "urn:inland:region:cn"
STEP_NS = 100_000_000
S = 10**9
DBC = cantools.database.load_file(EXAMPLES.parents[2] / "firmware_sim" / "car.dbc")
KEY = bytes(range(32))
RAW = """
[[collect]]
id = "everything"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "the test looks for places in raw frames as well"
frames = ["*:*"]
keep = "1d"
recipients = "region"
"""


class Drive(Car):
    """A car whose frames come from a log, and whose clocks follow the log's stamps."""

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(folder)
        data = build_text(text, where="the test's policy", folder=EXAMPLES)
        self.policy = load_policy(data, region=REGION, now_ns=0)
        self.slot.next = Change(self.policy, data, "installed")

    def play(self, frames: FrameBatch) -> Iterator[FrameBatch]:
        """Let the frames arrive step by step; yield each step's after it was decided about."""
        at_ns = int(frames["timestamp_ns"][0])
        begin = 0
        while begin < len(frames):
            at_ns += STEP_NS
            end = int(np.searchsorted(frames["timestamp_ns"], at_ns))
            piece = frames[begin:end]
            begin = end
            self.boot_ns += STEP_NS
            self.unix_ns += STEP_NS
            if len(piece):
                self.queue.put(Arrival(0, piece))
            self.sealer.step()
            yield piece

    @property
    def gate(self) -> tuple[bool, str]:
        """What the cameras read."""
        view = read_gate(self.folder / "camera-gate.json", self.boot_ns)
        return view.open, view.reason


def log_of(folder: Path, scenario: str, seconds: float, *more: str, channels: Car) -> FrameBatch:
    """The frames of a drive, as the simulator writes them."""
    log = folder / f"{scenario}.log"
    arguments = ["--scenario", scenario, "--seconds", str(seconds), "--log", str(log), *more]
    simulate.main(arguments, standalone_mode=False)

    def broken(where: str, why: str) -> None:
        pytest.fail(f"{where}: {why}")

    batches = list(read_log(log, channels.channels, on_broken=broken))
    frames = concatenate(batches)
    return frames[np.argsort(frames["timestamp_ns"], kind="stable")]


def fleet(*changes: tuple[str, str], more: str = "") -> str:
    """The China fleet's policy with some changes."""
    text = (EXAMPLES / "cn-fleet.toml").read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text + more


def decoded(frame: np.void) -> dict[str, float]:
    """A frame's signals by cantools."""
    identifier = int(frame["arbitration_id"])
    data = bytes(frame["data"][: frame["length"]])
    return DBC.decode_message(identifier, data, decode_choices=False)  # type: ignore[return-value]


def positions(frames: FrameBatch) -> list[tuple[int, float, float]]:
    """(stamp, latitude, longitude) of every position frame."""
    identifier = DBC.get_message_by_name("PositionFix").frame_id
    chosen = frames[(frames["arbitration_id"] == identifier) & ((frames["flags"] & EXTENDED) != 0)]
    found = []
    for frame in chosen:
        values = decoded(frame)
        found.append((int(frame["timestamp_ns"]), values["Latitude"], values["Longitude"]))
    return found


def test_hard_brake_gives_one_incident_with_all_before_and_after(tmp_path: Path):
    """One event; the region opens every frame of the 8 s before it and the 5 s after it."""
    hold = ('before = "30min", after = "30s"', 'before = "8s", after = "5s"')
    drive = Drive(tmp_path, fleet(hold))
    frames = log_of(tmp_path, "hard-brake", 45, "--brake-at", "20", channels=drive)
    for _ in drive.play(frames):
        pass
    drive.stand(2)
    records = drive.events()
    assert len({record.id for record in records}) == 1
    assert [record.complete for record in records] == [False, True]
    record = records[-1]
    assert (record.rule, record.triggers) == ("hard-brake", 1)
    begun_s = (record.stamp_ns - int(frames["timestamp_ns"][0])) / S
    assert 20 < begun_s < 21.5
    assert record.before_ns == 8 * S
    assert record.after_ns == 5 * S
    sent = [e.index for e, _, lane in drive.entries() if lane == "incident" and len(e.segment.body)]
    held = [p.frames for i, p in drive.opened().items() if i in sent and len(p.frames)]
    opened = np.concatenate(held)
    black_box = frames[(frames["flags"] & EXTENDED) == 0]
    low, high = record.stamp_ns - 8 * S, record.stamp_ns + 5 * S
    stamps = black_box["timestamp_ns"]
    wanted = black_box[(stamps >= low) & (stamps <= high)]
    assert len(wanted) > 8000
    inside = opened[(opened["timestamp_ns"] >= low) & (opened["timestamp_ns"] <= high)]
    for column in ("timestamp_ns", "arbitration_id", "length"):
        np.testing.assert_array_equal(np.sort(inside[column]), np.sort(wanted[column]))
    assert sorted(map(bytes, inside["data"])) == sorted(map(bytes, wanted["data"][:, :8]))
    # Segments are whole: at most one more at each end, and nothing else of the drive.
    assert opened["timestamp_ns"].min() >= low - 4 * S
    assert opened["timestamp_ns"].max() <= high + 4 * S
    drive.vault.close()


def test_the_snapshot_is_the_car_at_the_trigger(tmp_path: Path):
    """Each value is that of the last frame before the trigger, as cantools reads it."""
    drive = Drive(tmp_path, fleet())
    frames = log_of(tmp_path, "hard-brake", 25, "--brake-at", "12", channels=drive)
    for _ in drive.play(frames):
        pass
    (first, *_) = drive.events()
    names = [info.name for info in drive.policy.signals]
    before = frames[frames["timestamp_ns"] <= first.stamp_ns]
    for value in first.snapshot:
        info = drive.policy.signals[value.signal]
        identifier = DBC.get_message_by_name(info.message).frame_id
        last = before[before["arbitration_id"] == identifier][-1]
        assert value.raw * info.factor + info.offset == pytest.approx(decoded(last)[info.name])
    assert {"BrakePressure", "VehicleSpeed"} <= {names[value.signal] for value in first.snapshot}
    drive.vault.close()


def test_a_parked_car_opens_no_camera_and_sends_nothing_of_it(tmp_path: Path):
    """P8: parked surveillance is off: the gate never opens, no trigger is noted, nothing leaves."""
    drive = Drive(tmp_path, fleet())
    frames = log_of(tmp_path, "parked-watch", 60, channels=drive)
    triggers = DBC.get_message_by_name("CameraTrigger").frame_id
    assert np.count_nonzero(frames["arbitration_id"] == triggers) >= 4  # there is something to see
    seen = set()
    for _ in drive.play(frames):
        seen.add(drive.gate)
    assert {is_open for is_open, _ in seen} == {False}
    assert drive.gate == (False, "parked")
    assert drive.triggers() == []
    lanes = {e.segment.lane for e, _, _ in drive.entries() if e.HasField("segment")}
    assert sealed_pb2.EVENT not in lanes
    drive.vault.close()


def around(place: object) -> list[Zone]:
    """The scenario's place as a zone."""
    ring = [(round(lat * 1e6), round(lon * 1e6)) for lat, lon in place.corners]  # type: ignore[attr-defined]
    return [Zone("military", tuple(ring))]


def sealed_fleet(folder: Path) -> tuple[str, Zones]:
    """The fleet's policy with the scenario's zone, sealed, and all frames raw."""
    listed = around(SCENARIOS["military-zone"].place)
    sealed = seal_zones(pack_zones(listed), KEY, bytes(12), REGION)
    (folder / "zones.sealed").write_bytes(sealed)
    named = f'zones_file = "{folder / "zones.sealed"}"'
    named_file = ('# zones_file = "zones.sealed"', named)
    return fleet(named_file, ("each_drive = true", "each_drive = false"), more=RAW), Zones(listed)


def consent(drive: Drive, category: str) -> None:
    """Agree to a category for a year."""
    with consent_file.edit(drive.folder / "consent.json", wait=True) as held:
        held.book = held.book.grant(
            terms(drive.policy, category), now_ns=drive.unix_ns,
            until_ns=drive.unix_ns + 100 * 86_400 * S, each_drive=False,
        )  # fmt: skip


def drive_through(
    drive: Drive, folder: Path, zones: Zones, seconds: float = 130
) -> list[tuple[float, bool, str]]:
    """Drive through the place; (metres to the fence, gate open, reason) at each step."""
    opener: Callable[[bytes], Zones] = lambda sealed: open_zones(sealed, KEY, REGION)  # noqa: E731
    drive.vault.close()
    drive.start(zones=opener)
    consent(drive, "location.track")
    frames = log_of(folder, "military-zone", seconds, channels=drive)
    trace, metres = [], float("inf")
    for piece in drive.play(frames):
        for _, latitude, longitude in positions(piece):
            metres = zones.distance_m(latitude, longitude)
        trace.append((metres, *drive.gate))
    return trace


def test_a_protected_place_closes_before_its_fence_and_leaves_no_trace(tmp_path: Path):
    """P8: 120 km/h: closed 500 m before the fence; no byte that is stored or sent has the place."""
    text, zones = sealed_fleet(tmp_path)
    drive = Drive(tmp_path, text)
    trace = drive_through(drive, tmp_path, zones)
    assert any(is_open for _, is_open, _ in trace)  # the road before it
    assert min(metres for metres, _, _ in trace) == 0
    closing = next(at for at, (metres, is_open, _) in enumerate(trace) if at > 50 and not is_open)
    assert 500 <= trace[closing][0] <= 700
    assert all(not is_open for metres, is_open, _ in trace if metres <= 500)
    assert {why for metres, _, why in trace if metres == 0} == {"zone"}
    frames = log_of(tmp_path, "military-zone", 130, channels=drive)
    inside = {(lat, lon) for _, lat, lon in positions(frames) if zones.distance_m(lat, lon) <= 500}
    assert len(inside) > 250
    kept = []
    for payload in drive.opened().values():
        kept += positions(payload.frames)
        kept += [(0, *place) for place in samples(drive, payload)]
    assert len(kept) > 100  # places on the road there are kept
    assert all(zones.distance_m(lat, lon) > 500 for _, lat, lon in kept)
    identifier = DBC.get_message_by_name("PositionFix").frame_id
    bytes_of = [
        bytes(frame["data"][:8])
        for frame in frames[frames["arbitration_id"] == identifier]
        if tuple(decoded(frame)[name] for name in ("Latitude", "Longitude")) in inside
    ]
    drive.vault.close()
    stored = b"".join(p.read_bytes() for p in (tmp_path / "state").rglob("*") if p.is_file())
    assert not any(data in stored for data in bytes_of)


def samples(drive: Drive, payload: object) -> list[tuple[float, float]]:
    """Pairs of coordinates that the samples of a segment tell."""
    names = {info.name: at for at, info in enumerate(drive.policy.signals)}
    rows = payload.signals  # type: ignore[attr-defined]
    found = [
        rows[rows["signal"] == names[name]]["raw"] * 1e-7 for name in ("Latitude", "Longitude")
    ]
    return list(zip(*found, strict=True)) if len(found[0]) == len(found[1]) else []


@pytest.mark.slow
def test_a_gate_that_ignores_its_zones_would_be_found(tmp_path: Path, monkeypatch):
    """The check above fails where zones protect nothing."""
    text, zones = sealed_fleet(tmp_path)
    drive = Drive(tmp_path, text)
    monkeypatch.setattr("agent.policy.place.PlaceGuard.look", lambda *_: _open_place())
    trace = drive_through(drive, tmp_path, zones, seconds=52)
    assert any(is_open for metres, is_open, _ in trace if metres <= 500)
    drive.vault.close()


def _open_place() -> object:
    from agent.policy.place import OPEN, Place

    return Place(OPEN, "")


def test_without_a_fix_the_gate_closes_within_ten_seconds(tmp_path: Path):
    """P8: a tunnel of 30 s: closed 10 s after the last position that could be trusted."""
    drive = Drive(tmp_path, fleet())
    frames = log_of(tmp_path, "no-fix", 60, channels=drive)
    identifier = DBC.get_message_by_name("PositionQuality").frame_id
    last_fix_ns, closed_ns = 0, 0
    for piece in drive.play(frames):
        for frame in piece[piece["arbitration_id"] == identifier]:
            values = decoded(frame)
            if values["FixQuality"] and values["TimeSinceFix"] < 2 and not closed_ns:
                last_fix_ns = int(frame["timestamp_ns"])
        if drive.gate == (False, "no_fix") and last_fix_ns and len(piece) and not closed_ns:
            closed_ns = int(piece["timestamp_ns"][-1])
    assert 0 < closed_ns - last_fix_ns <= 10.2 * S
    drive.vault.close()


@pytest.mark.slow
def test_a_coarse_track_is_no_finer_than_was_agreed_to(tmp_path: Path):
    """Precision is applied before anything is stored: 1 km and a minute."""
    drive = Drive(tmp_path, fleet())
    consent(drive, "location.track")
    frames = log_of(tmp_path, "commute", 130, channels=drive)
    for _ in drive.play(frames):
        pass
    drive.stand(2)
    kept = [place for p in drive.opened().values() for place in samples(drive, p)]
    assert 2 <= len(kept) <= 4
    true = [(lat, lon) for _, lat, lon in positions(frames)]
    for latitude, longitude in kept:
        assert latitude * 100 == pytest.approx(round(latitude * 100), abs=1e-6)
        assert longitude * 100 == pytest.approx(round(longitude * 100), abs=1e-6)
        assert min(metres_between((latitude, longitude), one) for one in true) < 1600
    drive.vault.close()
