"""The adapter's protocol, by bytes alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from firmware_sim.frames import Frame
from firmware_sim.slcan import (
    COMMANDS,
    MAX_LINE,
    Closed,
    Device,
    Opened,
    Outcome,
    State,
    Transmitted,
)

OK, BEL = b"\r", b"\a"


def opened(how: bytes = b"O\r", **arguments: int) -> Device:
    device = Device(**arguments)
    device.receive(how)
    return device


REFUSALS = [(c, s) for c, row in COMMANDS.items() for s in State if s not in row.states]


@pytest.mark.parametrize(("letter", "state"), REFUSALS)
def test_each_command_in_a_state_where_it_is_not_allowed_is_refused(letter, state):
    device = Device()
    device.state = state
    line = letter.encode() + b"0" * COMMANDS[letter].shortest
    assert device.receive(line + b"\r") == Outcome(BEL, ())
    assert device.state is state


@pytest.mark.parametrize("letter", sorted(COMMANDS))
def test_each_command_of_a_wrong_length_is_refused(letter):
    row = COMMANDS[letter]
    for state in row.states:
        for count in (row.shortest - 1, row.longest + 1):
            if count < 0:
                continue
            device = Device()
            device.state = state
            assert device.receive(letter.encode() + b"0" * count + b"\r") == Outcome(BEL, ())


def test_every_other_letter_is_refused():
    for byte in range(256):
        if byte != 13 and chr(byte) not in COMMANDS:
            assert Device().receive(bytes([byte]) + b"\r") == Outcome(BEL, ())


def test_opening_sequence_of_python_can_opens():
    outcome = Device().receive(b"C\rS6\r\rO\rO\r")
    assert outcome == Outcome(BEL + OK + OK + OK + BEL, (Opened(500_000, listen_only=False),))


@pytest.mark.parametrize(
    ("setup", "bitrate"),
    [
        (b"S0\r", 10_000),
        (b"S5\r", 250_000),
        (b"S8\r", 1_000_000),
        (b"s001C\r", 500_000),
        (b"s0014\r", 1_000_000),
        (b"s031C\r", 125_000),
        (b"", 500_000),
    ],
)
def test_bit_rate_that_the_host_chooses_is_in_force(setup, bitrate):
    outcome = Device().receive(setup + b"L\r")
    assert outcome.events == (Opened(bitrate, listen_only=True),)


@pytest.mark.parametrize("line", [b"S:", b"SA", b"s00G0", b"Y3", b"Z2", b"M0000000G", b"OO", b"V0"])
def test_wrong_argument_is_refused_and_changes_nothing(line):
    device = Device()
    before = {k: v for k, v in vars(device).items() if k != "_events"}
    assert device.receive(line + b"\r") == Outcome(BEL, ())
    assert {k: v for k, v in vars(device).items() if k != "_events"} == before


def test_adapter_without_a_default_refuses_to_open_without_a_bit_rate():
    device = Device(default_bitrate=None)
    assert device.receive(b"O\rS6\rO\r").replies == BEL + OK + OK


SENT = [
    (b"t1230", Frame(0, 0x123, b""), b"z\r"),
    (b"t7FF8" + b"0123456789abCDEF", Frame(0, 0x7FF, bytes.fromhex("0123456789ABCDEF")), b"z\r"),
    (b"T1FFFFFFF1AA", Frame(0, 0x1FFFFFFF, b"\xaa", extended=True), b"Z\r"),
    (b"r1234", Frame(0, 0x123, b"", remote=True, requested=4), b"z\r"),
    (b"R000000018", Frame(0, 1, b"", extended=True, remote=True, requested=8), b"Z\r"),
    (b"d0019" + b"11" * 12, Frame(0, 1, b"\x11" * 12, fd=True), b"z\r"),
    (b"B00000001F" + b"22" * 64, Frame(0, 1, b"\x22" * 64, True, fd=True, brs=True), b"Z\r"),
]


@pytest.mark.parametrize(("line", "frame", "reply"), SENT)
def test_frame_of_the_host_reaches_the_bus(line, frame, reply):
    assert opened().receive(line + b"\r") == Outcome(reply, (Transmitted(frame),))


@pytest.mark.parametrize(("line", "frame", "reply"), SENT)
def test_every_truncation_and_an_extra_digit_are_refused(line, frame, reply):
    for cut in (*range(1, len(line)), None):
        wrong = line[:cut] if cut else line + b"0"
        outcome = opened().receive(wrong + b"\r")
        assert outcome == Outcome(BEL, ()), wrong


@pytest.mark.parametrize(
    "line", [b"t8000", b"T200000000", b"t1239" + b"00" * 9, b"t1231G0", b"t123 "]
)
def test_frame_that_cannot_be_is_refused(line):
    assert opened().receive(line + b"\r") == Outcome(BEL, ())


def test_listen_only_never_transmits():
    assert opened(b"L\r").receive(b"t1230\r") == Outcome(BEL, ())


def test_adapter_without_fd_refuses_and_hides_fd():
    device = opened(fd=False)
    assert device.receive(b"d1230\r") == Outcome(BEL, ())
    assert device.frame(Frame(0, 1, b"", fd=True)) == b""


@pytest.mark.parametrize(("line", "frame", "reply"), SENT)
def test_frame_of_the_bus_has_the_form_that_hosts_send(line, frame, reply):
    """A frame looks the same in both directions, but for the case of hex digits."""
    device = opened()
    assert device.frame(frame) == device.frame(frame) == line[:1] + line[1:].upper() + b"\r"


def test_stamp_is_milliseconds_of_a_minute():
    device = opened(b"Z1\rO\r")
    stamped = Frame(61_002_000_000, 1, b"\x05")
    assert device.frame(stamped) == b"t00110503EA\r"  # 1,002 ms


def test_closed_channel_and_another_bit_rate_hear_nothing():
    frame = Frame(0, 1, b"")
    assert Device().frame(frame) == b""
    wrong = opened(b"S5\rO\r")
    assert wrong.frame(frame) == b""
    assert wrong.receive(b"F\rF\rt1230\r").replies == b"F80\rF80\r" + BEL
    assert wrong.receive(b"C\r") == Outcome(OK, (Closed(),))


def test_overrun_is_shown_once():
    device = opened()
    device.overrun()
    assert device.receive(b"F\rF\r").replies == b"F08\rF00\r"


def test_filter_lets_only_its_ids_through():
    # Both filters for id 0x0A2, mask: id compared, remote bit and data nibble not.
    device = opened(b"M14401440\rm001F001F\rO\r")
    assert device.frame(Frame(0, 0x0A2, b"")) != b""
    assert device.frame(Frame(0, 0x0A3, b"")) == b""
    wide = opened(b"MC798C798\rm00000000\rO\r")
    assert wide.frame(Frame(0, 0x18FEF31C, b"", extended=True)) == b""
    code = f"{0x18FEF31C >> 13:04X}".encode() * 2
    wide = opened(b"M" + code + b"\rm00000000\rO\r")
    assert wide.frame(Frame(0, 0x18FEF31C, b"", extended=True)) != b""


def test_over_long_line_is_one_error_and_bounded():
    device = opened()
    for _ in range(100):
        assert device.receive(b"t" * 1000) == Outcome(b"", ())
        assert len(device._line) <= MAX_LINE
    assert device.receive(b"\rV\r").replies == BEL + b"V1013\r"


def test_prefix_cache_is_bounded():
    device = opened()
    for number in range(5000):
        device.frame(Frame(0, number, b"", extended=True))
    assert len(device._prefixes) <= 4096


COMMAND_TEXT = st.one_of(
    st.sampled_from([b"C", b"O", b"L", b"S6", b"Z1", b"F", b"V", b"", b"t1232AABB", b"R000000018"]),
    st.binary(max_size=12),
    st.binary(min_size=130, max_size=300),
)


class SticksAfterOverlong(Device):
    """Planted bug: forgets to start afresh after a line that is too long."""

    def _collect(self, part: bytes) -> None:
        if self._overlong:
            return
        super()._collect(part)

    def receive(self, data: bytes) -> Outcome:
        was = self._overlong
        outcome = super().receive(data)
        self._overlong = was or self._overlong
        return outcome


def fuzz(make, *, examples=80, phases=tuple(Phase)) -> None:
    @settings(max_examples=examples, deadline=None, database=None, phases=phases)
    @given(st.lists(COMMAND_TEXT, max_size=12), st.lists(st.integers(0, 400), max_size=6))
    def check(lines, cuts):
        wire = b"".join(line + b"\r" for line in lines)
        whole, pieces = make(), make()
        expected = whole.receive(wire)
        edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
        replies, events = b"", ()
        for start, end in pairwise(edges):
            got = pieces.receive(wire[start:end])
            replies, events = replies + got.replies, events + got.events
            assert len(pieces._line) <= MAX_LINE
        assert (replies, events) == expected  # however the bytes are cut
        # One answer a line: each is CR or BEL at its end, and the device still answers.
        assert sum(replies.count(end) for end in (OK, BEL)) == wire.count(b"\r")
        assert pieces.receive(b"V\r").replies == b"V1013\r"

    check()


def test_any_bytes_cut_anywhere_give_the_same_answers():
    fuzz(Device)


def test_fuzzing_finds_a_planted_bug():
    with pytest.raises(AssertionError):
        fuzz(SticksAfterOverlong, examples=1000, phases=(Phase.generate,))
