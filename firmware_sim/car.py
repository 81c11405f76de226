"""The car's bus: which frame is sent when, with which bytes.

A discrete event simulation. Rules:
- Each message of car.dbc with a cycle time is due every cycle, at an offset and with a jitter that
  come from the seed; camera triggers are due when they happen.
- The bus carries one frame at a time for as long as the frame takes (`wire_ns`). Of those waiting
  the lowest id goes first, as arbitration decides it. A stamp is the start of a frame.
- A unit that is due again before its frame was sent overwrites it: one frame, the newer values.
- Load frames fill what is left, up to the rate asked for; they lose every arbitration. In a flood
  they fill all of it, with ids that car.dbc does not have.
- The car moves in steps of 10 ms; a frame carries the values of the last step before its start.
- The same arguments give the same bytes, however the time is cut into calls.

Pure: time is an argument, randomness comes from the seed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from random import Random
from typing import Final

from firmware_sim import layout, signals
from firmware_sim.camera import CameraController
from firmware_sim.frames import Frame, wire_ns
from firmware_sim.layout import MessageLayout, Packer
from firmware_sim.scenarios import OFF, SCENARIOS
from firmware_sim.vehicle import STEP_NS, Vehicle

BITRATE: Final = 500_000
DATA_BITRATE: Final = 2_000_000
LOADS: Final = {"normal": 0, "half": 2_000, "full": 1_000_000}  # frames/s in all; full: no gap
LOAD_NAME: Final = "Load"
TRIGGER_NAME: Final = "CameraTrigger"
JITTER_NS: Final = 120_000  # a unit's task does not always start on time
MAX_STANDARD: Final = 0x7FF
_STEP: Final = -1  # in place of an id: the car moves on, before any frame of that moment


@dataclass(frozen=True, slots=True)
class Options:
    """What is simulated.

    Attributes:
        scenario: key of SCENARIOS.
        seed: source of all randomness.
        start_ns: moment of the first step, ns since the Unix epoch.
        brake_at_s: when the scenario's braking begins.
        load: key of LOADS.
        fd: the bus runs CAN FD; adds the 64-byte frames.
    """

    scenario: str
    seed: int = 0
    start_ns: int = 0
    brake_at_s: float = 10.0
    load: str = "normal"
    fd: bool = False


class _Sender:
    """What the bus knows of one message: its packer, its period, how long it occupies the bus."""

    __slots__ = ("due_ns", "extended", "fd", "id", "name", "packer", "period_ns", "wire_ns")

    def __init__(self, message: MessageLayout, due_ns: int) -> None:
        self.id, self.name = message.arbitration_id, message.name
        self.extended, self.fd = message.extended, message.fd
        self.packer = Packer(message)
        self.period_ns = message.cycle_ms * 1_000_000
        self.due_ns = due_ns
        self.wire_ns = wire_ns(
            length=message.length,
            extended=message.extended,
            fd=message.fd,
            bitrate=BITRATE,
            data_bitrate=DATA_BITRATE,
        )


class Car:
    """A driving car with everything that sends on its bus.

    Args:
        options: what is simulated.

    Raises:
        KeyError: no such scenario or load.
    """

    def __init__(self, options: Options) -> None:
        scenario = SCENARIOS[options.scenario]
        self.start_ns = options.start_ns
        self.vehicle = Vehicle(
            scenario, brake_at_s=options.brake_at_s, rng=_random(options.seed, "vehicle")
        )
        self.camera = CameraController(scenario.clip_s)
        self._timing = _random(options.seed, "timing")
        self._noise = _random(options.seed, "load")
        self._values: Mapping[str, float] = {}
        self._free_ns = 0
        self._set_up(options, flood=scenario.flood)

    def _set_up(self, options: Options, *, flood: bool) -> None:
        messages = [m for m in layout.load() if options.fd or not m.fd]
        cyclic = [m for m in messages if m.cycle_ms]
        senders = [_Sender(m, int(self._timing.random() * m.cycle_ms * 1e6)) for m in cyclic]
        trigger = next(_Sender(m, 0) for m in messages if m.name == TRIGGER_NAME)
        self._trigger_priority = _priority(trigger.id, trigger.extended)
        self._senders = {_priority(s.id, s.extended): s for s in senders}
        self._senders[self._trigger_priority] = trigger
        # Waiting for their moment: (due, priority). Waiting for the bus: priority -> sender.
        self._later = [(s.due_ns, _priority(s.id, s.extended)) for s in senders] + [(0, _STEP)]
        heapify(self._later)
        self._pending: list[int] = []
        self._trigger_values: list[dict[str, float]] = []
        loads = [m for m in messages if m.name.startswith(LOAD_NAME)]
        self._load_ids = [m.arbitration_id for m in loads]
        self._load_wire_ns = _Sender(loads[0], 0).wire_ns
        self._load_count, self._load_due_ns = 0, 0
        wanted = LOADS["full" if flood else options.load]
        known = {m.arbitration_id for m in layout.load()}
        self._flood_ids = [one for one in range(MAX_STANDARD + 1) if one not in known and flood]
        own = sum(1000 / m.cycle_ms for m in cyclic)
        self._load_period_ns = int(1e9 / max(1.0, wanted - own)) if wanted else None

    @property
    def values(self) -> Mapping[str, float]:
        """The physical value of every signal now, by its name in car.dbc."""
        return self._values

    def frames_until(self, end_ns: int) -> Iterator[Frame]:
        """Yield the frames that start before a moment, in order of time.

        Args:
            end_ns: ns since the start of the drive; calls with rising values continue the drive.
        """
        while True:
            start = self._free_ns
            if not self._pending:
                start = max(start, self._next_due_ns())
            if start >= end_ns:
                return
            self._arrive(start)
            if self._pending:
                yield self._send(self._senders[heappop(self._pending)], start)
            elif self._load_period_ns is not None and self._load_due_ns <= start:
                yield self._send_load(start)

    def _next_due_ns(self) -> int:
        due = self._later[0][0]
        return due if self._load_period_ns is None else min(due, self._load_due_ns)

    def _arrive(self, now_ns: int) -> None:
        """Move what is due to the queue for the bus."""
        while self._later[0][0] <= now_ns:
            due, priority = heappop(self._later)
            if priority == _STEP:
                self._step(due)
                heappush(self._later, (due + STEP_NS, _STEP))
                continue
            sender = self._senders[priority]
            if priority not in self._pending:
                heappush(self._pending, priority)
            sender.due_ns += sender.period_ns
            jitter = int(self._timing.random() * JITTER_NS)
            heappush(self._later, (sender.due_ns + jitter, priority))

    def _step(self, now_ns: int) -> None:
        self.vehicle.step()
        leg = self.vehicle.leg
        triggers = self.camera.step(
            now_ns / 1e9, self.vehicle.acceleration,
            awake=leg.ignition != OFF, motion=leg.motion,
        )  # fmt: skip
        self._values = signals.values(self.vehicle, self.camera)
        for values in triggers:
            self._trigger_values.append(values)
            heappush(self._pending, self._trigger_priority)

    def _send(self, sender: _Sender, now_ns: int) -> Frame:
        values = self._values
        if sender.name == TRIGGER_NAME:
            values = self._trigger_values.pop(0)
        self._free_ns = now_ns + sender.wire_ns
        return Frame(
            self.start_ns + now_ns,
            sender.id,
            sender.packer.pack(values),
            sender.extended,
            fd=sender.fd,
            brs=sender.fd,
        )

    def _send_load(self, now_ns: int) -> Frame:
        number = self._load_count
        self._load_count += 1
        self._load_due_ns += self._load_period_ns or 0
        self._free_ns = now_ns + self._load_wire_ns
        data = struct.pack("<II", number & 0xFFFFFFFF, self._noise.getrandbits(32))
        ids = self._flood_ids or self._load_ids
        place = self._noise.randrange(len(ids)) if self._flood_ids else number % len(ids)
        arbitration_id = ids[place]
        return Frame(self.start_ns + now_ns, arbitration_id, data)


def _priority(arbitration_id: int, extended: bool) -> int:
    """Return a number that orders frames as arbitration does: lower goes first.

    The first 11 bits decide; a standard frame wins against an extended one that shares them.
    """
    if extended:
        return (arbitration_id >> 18) << 19 | 1 << 18 | arbitration_id & 0x3FFFF
    return arbitration_id << 19


def _random(seed: int, purpose: str) -> Random:
    # A simulation must repeat; nothing here is a secret. One generator for each purpose, so that
    # more of one (load frames) does not change another (the drive).
    return Random(f"{seed}/{purpose}")  # noqa: S311
