"""Policies, frames and a straightforward evaluation of both, for the tests of the policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st

from agent.frames import ERROR, EXTENDED, FRAME, FRAME_FD, REMOTE, SIGNAL, FrameBatch
from agent.pb import policy_pb2, sealed_pb2
from agent.policy.compiled import load_policy
from agent.policy.engine import Kept, RuleSet
from agent.policy.model import (
    SIGNED,
    FrameSelector,
    Policy,
    SignalLayout,
    last_bit,
    rule_set_of,
)

REGION = "urn:inland:region:cn"
EXAMPLES = Path(__file__).resolve().parents[2] / "agent" / "policy" / "examples"
DATA = Path(os.environ.get("INLAND_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
NAMES = ("can0", "can1", "can2")

HEAD = """\
policy = "fleet"
version = 7
region = "cn"
not_after = 2027-06-30
dbc = ["car.dbc"]
"""
RULE = """
[[collect]]
id = "one"
category = "battery"
purpose = "regulatory_monitoring"
basis = "law:GB/T 32960"
necessity = "a test"
signals = ["Speed"]
keep = "7d"
recipients = "region"
"""
DBC = """\
VERSION ""
BU_: Car
BO_ 256 Drive: 8 Car
 SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" Car
 SG_ Torque : 23|12@0- (0.5,-10) [0|0] "Nm" Car
 SG_ Both : 40|8@1+ (1,0) [0|0] "" Car
BO_ 2147483904 DriveWide: 8 Car
 SG_ Wide : 7|64@0+ (1,0) [0|0] "" Car
 SG_ Both : 0|8@1- (1,0) [0|0] "" Car
BO_ 512 Multi: 8 Car
 SG_ Mode M : 0|4@1+ (1,0) [0|0] "" Car
 SG_ Sub m1M : 4|4@1+ (1,0) [0|0] "" Car
 SG_ Plain m2 : 8|16@1- (1,0) [0|0] "" Car
 SG_ Deep m3 : 8|16@1+ (1,0) [0|0] "" Car
BO_ 768 Long: 64 Car
 SG_ Real : 0|32@1- (1,0) [0|0] "" Car
 SG_ Double : 71|64@0- (1,0) [0|0] "" Car
 SG_ Far : 447|63@0- (1,0) [0|0] "" Car
SG_MUL_VAL_ 512 Sub Mode 1-1;
SG_MUL_VAL_ 512 Plain Mode 2-5, 9-9;
SG_MUL_VAL_ 512 Deep Sub 3-3, 5-7;
SIG_VALTYPE_ 768 Real : 1;
SIG_VALTYPE_ 768 Double : 2;
VAL_ 256 Both 0 "off" 1 "on" ;
"""


def dbc_files() -> list[Path]:
    """Every DBC file of the test data."""
    return sorted(path for path in DATA.rglob("*") if path.suffix.lower() == ".dbc")


def collect(name: str, **more: object) -> policy_pb2.Collect:
    """A rule that is fine but for what `more` says."""
    fields: dict[str, object] = {
        "id": name, "category": "battery", "purpose": "regulatory_monitoring",
        "basis": "law:GB/T 32960", "necessity": "a test", "recipients": sealed_pb2.REGION,
        "lane": sealed_pb2.ROUTINE, "keep_s": 3600, "resolution_ns": 1000, "flush_ns": 10**9,
    }  # fmt: skip
    return policy_pb2.Collect(**(fields | more))


def compiled(
    rules: Iterable[policy_pb2.Collect], layouts: Sequence[SignalLayout] = (), **more: object
) -> bytes:
    """Compiled bytes of some rules and signals."""
    words = policy_pb2.Dictionary(
        signal=[
            policy_pb2.Signal(name=f"S{at}", message="M", factor=1.0, kind=one.kind)
            for at, one in enumerate(layouts)
        ]
    )
    fields: dict[str, object] = {
        "name": "test", "version": 1, "region": REGION, "not_after_unix": 2_000_000_000,
        "dictionary": words.SerializeToString(), "collect": list(rules),
        "decode": [decode(one) for one in layouts],
    }  # fmt: skip
    return policy_pb2.Policy(**(fields | more)).SerializeToString(deterministic=True)


def decode(one: SignalLayout) -> policy_pb2.Decode:
    """A layout on the wire."""
    return policy_pb2.Decode(
        id=one.arbitration_id, extended=one.extended, start=one.start, bits=one.bits,
        big_endian=one.big_endian, free_bits=one.free_bits,
        mux=[
            policy_pb2.Mux(
                start=mux.start, bits=mux.bits, big_endian=mux.big_endian,
                range=[policy_pb2.MuxRange(first=a, last=b) for a, b in mux.ranges],
            )
            for mux in one.mux
        ],
    )  # fmt: skip


def loaded(data: bytes) -> Policy:
    """The policy of compiled bytes."""
    return load_policy(data, region=REGION, now_ns=0)


def frames(rows: Iterable[tuple[int, int, int, int, bytes]], *, wide: bool = False) -> FrameBatch:
    """A batch of (timestamp_ns, id, channel, flags, data)."""
    listed = list(rows)
    batch = np.zeros(len(listed), FRAME_FD if wide else FRAME)
    for at, (stamp, arbitration_id, channel, flags, data) in enumerate(listed):
        row = batch[at]
        row["timestamp_ns"], row["arbitration_id"] = stamp, arbitration_id
        row["channel"], row["flags"], row["length"] = channel, flags, len(data)
        if not flags & REMOTE:
            row["data"][: len(data)] = list(data)
    return batch


# --- the straightforward evaluation -----------------------------------------------------------


def field(data: bytes, start: int, bits: int, *, big_endian: bool) -> int | None:
    """The unsigned value of a field, bit by bit; None if the data is too short."""
    if last_bit(start, bits, big_endian=big_endian) > 8 * len(data):
        return None
    if not big_endian:
        return int.from_bytes(data, "little") >> start & (1 << bits) - 1
    value, at = 0, start
    for _ in range(bits):
        value = value << 1 | data[at // 8] >> at % 8 & 1
        at = at - 1 if at % 8 else at + 15
    return value


def carries(layout: SignalLayout, arbitration_id: int, flags: int) -> bool:
    """Whether a frame is one that a signal stands in."""
    if flags & (ERROR | REMOTE) or bool(flags & EXTENDED) != layout.extended:
        return False
    return all(
        layout.free_bits >> bit & 1 or arbitration_id >> bit & 1 == layout.arbitration_id >> bit & 1
        for bit in range(32)
    )


def value(data: bytes, layout: SignalLayout) -> int | None:
    """The raw value of a signal as a signed 64-bit number, None if it is absent."""
    for mux in layout.mux:
        chosen = field(data, mux.start, mux.bits, big_endian=mux.big_endian)
        if chosen is None or not any(a <= chosen <= b for a, b in mux.ranges):
            return None
    raw = field(data, layout.start, layout.bits, big_endian=layout.big_endian)
    if raw is None:
        return None
    bits = layout.bits if layout.kind == SIGNED else 64
    return raw - (1 << bits) if raw >> (bits - 1) else raw


def rounded(raw: int, grain: int, layout: SignalLayout) -> int:
    """The raw value down to a multiple of the grain; what 64 bits cannot hold is their lowest."""
    if layout.kind == SIGNED:
        return max(-(2**63), raw // grain * grain)
    down = raw % 2**64 // grain * grain
    return down - 2**64 if down >> 63 else down


def names_frame(one: FrameSelector, channel: str, arbitration_id: int, flags: int) -> bool:
    """Whether a selector names a frame."""
    if one.channel not in ("*", channel):
        return False
    if one.every_id:
        return True
    if flags & ERROR or bool(flags & EXTENDED) != one.extended:
        return False
    return one.first_id <= arbitration_id <= one.last_id


class Straightforward:
    """One frame at a time, in plain Python: what the engine must equal."""

    def __init__(self, policy: Policy, names: tuple[str, ...]) -> None:
        self.policy, self.names = policy, names
        self.last: dict[tuple[str, int, int], int] = {}

    def decide(self, batch: FrameBatch) -> dict[RuleSet, tuple[list[int], list[tuple]]]:
        """Return, of each rule set, the kept rows and (timestamp, signal, channel, raw)."""
        kept: dict[RuleSet, tuple[list[int], list[tuple]]] = {
            rule_set_of(rule): ([], []) for rule in self.policy.rules
        }
        for at, row in enumerate(batch):
            samples: dict[RuleSet, set[tuple]] = {rule_set: set() for rule_set in kept}
            for rule in self.policy.rules:
                rule_set = rule_set_of(rule)
                where = (
                    self.names[row["channel"]], int(row["arbitration_id"]), int(row["flags"])
                )  # fmt: skip
                wanted = any(names_frame(one, *where) for one in rule.frames)
                if wanted and at not in kept[rule_set][0]:
                    kept[rule_set][0].append(at)
                samples[rule_set] |= self.samples(rule, row, where)
            for rule_set, some in samples.items():
                kept[rule_set][1].extend(sorted(some, key=lambda one: one[1]))
        return {rule_set: both for rule_set, both in kept.items() if both[0] or both[1]}

    def samples(self, rule, row, where) -> set[tuple]:
        channel, arbitration_id, flags = where
        some: set[tuple] = set()
        for place, one in enumerate(rule.signals):
            layout = self.policy.layouts[one.signal]
            if one.channel not in ("*", channel):
                continue
            if not carries(layout, arbitration_id, flags):
                continue
            raw = value(bytes(row["data"][: row["length"]]), layout)
            if raw is None:
                continue
            if one.grain:
                raw = rounded(raw, one.grain, layout)
            stamp = int(row["timestamp_ns"])
            track = (rule.id, place, int(row["channel"]))
            news = raw if rule.on_change else stamp // rule.every_ns if rule.every_ns else None
            if news is None or self.last.get(track) != news:
                some.add((stamp, one.signal, int(row["channel"]), raw))
            if news is not None:
                self.last[track] = news
        return some


def as_lists(kept: list[Kept], batch: FrameBatch) -> dict[RuleSet, tuple[list, list[tuple]]]:
    """What the engine kept, in the form of the straightforward evaluation (frames as values)."""
    return {
        one.rule_set: (
            [row.tobytes() for row in one.frames],
            [(r["timestamp_ns"], r["signal"], r["channel"], r["raw"]) for r in _plain(one.signals)],
        )
        for one in kept
    }


def _plain(samples: np.ndarray) -> list[dict]:
    assert samples.dtype == SIGNAL
    names = ("timestamp_ns", "signal", "channel", "raw")
    return [dict(zip(names, (int(row[name]) for name in names), strict=True)) for row in samples]


# --- random policies and frames ---------------------------------------------------------------

STANDARD_IDS = (0x100, 0x101, 0x7FF)
EXTENDED_IDS = (0x100, 0x101, 0x18FEF100)
J1939_IDS = (0x18FEF100, 0x0CFEF117, 0x18FEF203, 0x18EA0403, 0x0CEAFF03, 0x18EA0417, 0x19EA0403)


def random_layout(rng: Random, *, width: int = 8) -> SignalLayout:
    """A signal anywhere in a frame of one of a few ids."""
    extended = rng.random() < 0.5
    chosen, free = rng.choice(EXTENDED_IDS if extended else STANDARD_IDS), 0
    if extended and rng.random() < 0.6:
        chosen = rng.choice(J1939_IDS)
        free = random_free_bits(rng, chosen)
    return SignalLayout(
        arbitration_id=chosen & ~free, extended=extended, kind=rng.randrange(2), mux=(),
        free_bits=free, **random_field(rng, width),
    )  # fmt: skip


def random_free_bits(rng: Random, arbitration_id: int) -> int:
    """Free bits that a J1939 id can have, or none: priority, with source and destination or not."""
    free = rng.choice((0, 0x1C00_0000, 0x1C00_00FF))
    addressed = arbitration_id >> 16 & 0xFF < 240
    return free | 0xFF00 if free and addressed and rng.random() < 0.5 else free


def random_field(rng: Random, width: int = 8, most: int = 64) -> dict[str, Any]:
    """Start, bits and byte order of a field within some bytes."""
    big_endian = rng.random() < 0.5
    start = rng.randrange(8 * width)
    room = 8 * width - last_bit(start, 0, big_endian=big_endian)
    return {"start": start, "bits": rng.randint(1, min(most, room)), "big_endian": big_endian}


def random_selector(rng: Random) -> policy_pb2.FrameSelector:
    """A frame selector that may meet the ids above."""
    channel = rng.choice(("*", "can0", "can1", "can9"))
    if rng.random() < 0.1:
        return policy_pb2.FrameSelector(channel=channel, any=True, last_id=0x1FFFFFFF)
    first, last = sorted(rng.choices((*STANDARD_IDS, 0x102, 0x7F0), k=2))
    return policy_pb2.FrameSelector(
        channel=channel, first_id=first, last_id=last, extended=rng.random() < 0.5
    )


def random_policy(rng: Random) -> Policy:
    """A policy with up to five rules and up to five signals."""
    signals = [random_layout(rng) for _ in range(rng.randrange(6))]
    rules = []
    named: set[int] = set()
    for number in range(rng.randint(1, 4)):
        chosen = rng.choices(range(len(signals)), k=rng.randrange(1, 4)) if signals else []
        some = [random_selector(rng) for _ in range(rng.randrange(4))] if rng.random() < 0.5 else []
        thin = {} if some else rng.choice(({}, {"every_ns": 10**6}, {"on_change": True}))
        if not chosen and not some:
            continue
        named.update(chosen)
        rules.append(
            collect(
                f"r{number}", frames=some,
                signals=[_signal_selector(rng.choice(("*", "can0", "can2")), s) for s in chosen],
                recipients=rng.choice((sealed_pb2.REGION, sealed_pb2.OWNER)),
                **(thin if chosen else {}),
            )
        )  # fmt: skip
    rest = [_signal_selector("*", at) for at in range(len(signals)) if at not in named]
    if rest:
        rules.append(collect("rest", signals=rest))
    return loaded(compiled(rules, signals))


def _signal_selector(channel: str, signal: int) -> policy_pb2.SignalSelector:
    return policy_pb2.SignalSelector(channel=channel, signal=signal)


def random_batch(rng: Random, most: int = 40) -> FrameBatch:
    """Frames of a few ids, kinds, channels and lengths, with times that mostly rise."""
    stamp, rows = 10**15, []
    for _ in range(rng.randrange(most + 1)):
        stamp += rng.choice((0, 1000, 300_000, 300_000, 700_000, -2_000_000))
        flags = rng.choice((0, 0, 0, EXTENDED, EXTENDED, EXTENDED, REMOTE, ERROR))
        ids = EXTENDED_IDS + J1939_IDS if flags & EXTENDED else (*STANDARD_IDS, 0x900)
        data = rng.choice((bytes(8), bytes(8), rng.randbytes(8), rng.randbytes(rng.randrange(8))))
        rows.append((stamp, rng.choice(ids), rng.randrange(len(NAMES)), flags, data))
    return frames(rows, wide=rng.random() < 0.5)


# Drawn by seed: hypothesis would take a second for what takes a millisecond, and lean to zeros.
RANDOMS = st.integers(0, 2**32 - 1).map(Random)


def over_seeds(check: Callable[[Random], None], count: int = 300) -> None:
    """Run a check over seeds; for planted bugs, which must fail it."""
    for seed in range(count):
        check(Random(seed))
