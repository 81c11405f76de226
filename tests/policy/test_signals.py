"""Raw values are exactly what a bit-by-bit reading, and cantools, find."""

from __future__ import annotations

import logging
from random import Random

import cantools
import numpy as np
import pytest
from cantools.database import utils
from hypothesis import given, settings

from agent.errors import PolicyError
from agent.frames import FRAME, FRAME_FD
from agent.policy import signals as under_test
from agent.policy.dbc import _Candidate, _found, decode_text
from agent.policy.model import MuxLayout, SignalLayout
from agent.policy.signals import Decoder, Rows
from tests.policy import making


def batch_of(payloads: list[bytes], *, wide: bool) -> np.ndarray:
    return making.frames([(0, 0x100, 0, 0, data) for data in payloads], wide=wide)


def read_all(layouts: list[SignalLayout], batch: np.ndarray) -> list[list[int | None]]:
    """Return the raw value of every signal in every frame."""
    row, signal = (side.reshape(-1) for side in np.mgrid[: len(batch), : len(layouts)])
    raw, present, short = Decoder(layouts).read(Rows(batch), row, signal)
    assert not (present & short).any()
    flat = [int(one) if here else None for one, here in zip(raw, present, strict=True)]
    return [flat[at : at + len(layouts)] for at in range(0, len(flat), len(layouts))]


def random_layout(rng: Random, width: int) -> SignalLayout:
    mux = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        position = making.random_field(rng, width, most=2)
        top = 2 ** position["bits"] - 1
        ranges = rng.choice((((0, 0),), ((top, top), (0, 0)), ((0, top),), ((1, 1),)))
        mux.append(MuxLayout(ranges=ranges, **position))
    one = making.random_layout(rng, width=width)
    return SignalLayout(0x100, False, one.start, one.bits, one.big_endian, one.kind, tuple(mux))


def check(rng: Random) -> None:
    width = rng.choice((8, 64))
    layouts = [random_layout(rng, width) for _ in range(rng.randint(1, 4))]
    payloads = [rng.randbytes(rng.choice((width, width, rng.randrange(width)))) for _ in range(6)]
    expected = [[making.value(data, one) for one in layouts] for data in payloads]
    assert read_all(layouts, batch_of(payloads, wide=width == 64)) == expected


@settings(max_examples=150, deadline=None)
@given(making.RANDOMS)
def test_any_field_reads_as_bit_by_bit(rng):
    check(rng)


@pytest.mark.parametrize("bug", ["ninth byte", "sign", "mux"])
def test_the_check_finds_planted_bugs(bug, monkeypatch):
    if bug == "ninth byte":
        monkeypatch.setattr(Rows, "__init__", _without_ninth_byte(Rows.__init__))
    elif bug == "sign":
        monkeypatch.setattr(under_test, "SIGNED", 99)
    else:
        monkeypatch.setattr(Decoder, "_mux", lambda self, rows, row, *_: (row < 0, row < 0))
    with pytest.raises(AssertionError):
        making.over_seeds(check)


def _without_ninth_byte(original):
    def build(self, batch):
        original(self, batch)
        self.bytes = np.zeros_like(self.bytes)

    return build


def test_frames_shorter_than_the_signal_are_skipped_and_counted():
    layouts = [SignalLayout(0x100, False, 8, 8, False, 0)]
    batch = batch_of([b"\x01", b"\x01\x02"], wide=False)
    raw, present, short = Decoder(layouts).read(Rows(batch), np.array([0, 1]), np.array([0, 0]))
    assert present.tolist() == [False, True]
    assert short.tolist() == [True, False]
    assert raw[1] == 2


def test_own_dbc_reads_as_cantools_does():
    database = cantools.database.load_string(making.DBC, "dbc", strict=False)
    compared, unreadable = compare(database, np.random.default_rng(1), rounds=100)
    assert compared > 1500
    assert unreadable == 0


def test_dbc_files_of_cars_read_as_cantools_does():
    small = [path for path in making.dbc_files() if path.stat().st_size < 20_000]
    compared, files = compare_files(small[::3], rounds=1)
    assert files >= 15
    assert compared > 2_000


@pytest.mark.slow
def test_every_dbc_file_reads_as_cantools_does():
    compared, files = compare_files(making.dbc_files(), rounds=6)
    assert files >= 140
    print(files, "files", compared, "values")
    assert compared > 400_000


def compare_files(paths, rounds: int) -> tuple[int, int]:
    """Compare all readable files; return (values compared, files)."""
    if not paths:
        pytest.skip("no test data: set INLAND_DATA")
    logging.getLogger("cantools").setLevel(logging.CRITICAL)
    rng = np.random.default_rng(2)
    total = files = odd = 0
    for path in paths:
        text = decode_text(path.read_bytes())
        try:
            database = cantools.database.load_string(text, "dbc", strict=False)
        except cantools.database.UnsupportedDatabaseFormatError:
            continue
        compared, left_out = compare(database, rng, rounds)
        total, files, odd = total + compared, files + 1, odd + left_out
    # Five signals hang on a multiplexer that is not declared as one; cantools never finds them.
    assert odd <= 5
    return total, files


def compare(database, rng, rounds: int = 3) -> tuple[int, int]:
    """Compare every signal of a database; return (values compared, signals left out)."""
    compared = left_out = 0
    for message in database.messages:
        names, layouts, codecs = [], [], {}
        for signal in message.signals:
            try:
                layouts.append(_found(_Candidate("x", message, signal), "x").layout)
                names.append(signal.name)
            except PolicyError:
                left_out += 1
        if not layouts:
            continue
        clean = is_clean(message)
        long = message.length > 8
        sizes = [message.length] * rounds + [rng.integers(0, message.length + 1)]
        payloads = [rng.bytes(size) for size in sizes]
        # Random multiplexers rarely hit: some payloads have small values everywhere.
        payloads += [bytes(rng.integers(0, 4, message.length, np.uint8)) for _ in range(rounds)]
        found = read_all(layouts, batch_of(payloads, wide=long))
        for data, values in zip(payloads, found, strict=True):
            mine = {name: raw for name, raw in zip(names, values, strict=True) if raw is not None}
            theirs = by_cantools(message, data, codecs, clean=clean)
            for name, layout in zip(names, layouts, strict=True):
                if layout.mux and name not in theirs and _cut_name(message, name):
                    continue  # a multiplexer's name cut to 32 characters, which cantools misses
                assert mine.get(name) == theirs.get(name), (message.name, name, data.hex())
                compared += 1
    return compared, left_out


def is_clean(message) -> bool:
    """Whether cantools decodes the message as a whole: nothing overlaps, nothing is multiplexed."""
    try:
        message.refresh(strict=True)
    except cantools.database.Error:
        return False
    return not message.is_multiplexed()


def _cut_name(message, name: str) -> bool:
    signal = message.get_signal_by_name(name)
    return all(one.name != signal.multiplexer_signal for one in message.signals)


def by_cantools(message, data: bytes, codecs: dict, *, clean: bool) -> dict[str, int]:
    """Raw values by cantools, each signal on its own where signals overlap."""
    found: dict[str, int] = {}

    def walk(node) -> None:
        for signal in node["signals"]:
            formats = codecs.get(signal.name)
            if formats is None:
                formats = codecs[signal.name] = utils.create_encode_decode_formats([signal], 64)
            decoded = utils.decode_data(
                data, 64, [signal], formats, decode_choices=False, scaling=False,
                allow_truncated=True, allow_excess=True,
            )  # fmt: skip
            found.update({name: _bits(signal, raw) for name, raw in decoded.items()})
        for name, children in node["multiplexers"].items():
            if found.get(name) in children:
                walk(children[found[name]])

    walk(message._codecs)
    if clean and len(data) == message.length:
        whole = message.decode(data, decode_choices=False, scaling=False)
        signals = {one.name: one for one in message.signals}
        assert found == {name: _bits(signals[name], raw) for name, raw in whole.items()}
    return found


def _bits(signal, raw) -> int:
    if signal.is_float:
        kind = {32: ("<f4", "<u4"), 64: ("<f8", "<i8")}[signal.length]
        return int(np.array(raw, kind[0]).view(kind[1]))
    return raw - 2**64 if raw >= 2**63 else raw


def test_rows_keep_eight_and_sixty_four_bytes_apart():
    assert Rows(np.zeros(2, FRAME)).width == 8
    assert Rows(np.zeros(2, FRAME_FD)).width == 64
