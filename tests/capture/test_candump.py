"""candump logs by columns against the line grammar, python-can and can-utils' own forms."""

from pathlib import Path

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.columns import narrow
from agent.capture.logs import candump, read_log
from agent.capture.logs.candump import parse_block, parse_line
from agent.capture.logs.row import FD_LENGTHS
from agent.capture.logs.source import Reporter
from agent.errors import LogError
from agent.frames import BRS, ERROR, ESI, EXTENDED, FD, FRAME, FRAME_FD, REMOTE, ChannelTable


@st.composite
def frame_lines(draw) -> str:
    seconds = draw(st.one_of(st.integers(0, 2_000_000_000), st.integers(0, 10**11)))
    digits = draw(st.sampled_from([6, 6, 6, 6, 9, 3]))
    fraction = str(draw(st.integers(0, 10**digits - 1))).zfill(digits)
    name = draw(st.sampled_from(["can0", "vcan0", "can0", "slcan12", "c"]))
    extended = draw(st.booleans())
    identifier = draw(st.integers(0, 0x1FFFFFFF if extended else 0x7FF))
    text = f"{identifier:08X}" if extended else f"{identifier:03X}"
    kind = draw(st.sampled_from(["data", "data", "data", "fd", "remote", "error"]))
    size = draw(st.sampled_from(FD_LENGTHS if kind == "fd" else range(9)))
    data = draw(st.binary(min_size=size, max_size=size)).hex().upper()
    if kind == "fd":
        payload = f"##{draw(st.integers(0, 15)):X}{data}"
    elif kind == "remote":
        payload = "#R" + draw(st.sampled_from(["", "0", "8", "8_A"]))
    else:
        payload = "#" + data + ("_B" if size == 8 and draw(st.booleans()) else "")
    if kind == "error":
        text = f"{0x20000000 | draw(st.integers(0, 0x1FF)):08X}"
    before = draw(st.sampled_from(["", "", "", "12 ", " "]))
    behind = draw(st.sampled_from(["", "", "", " R", " T", " RX", " "]))
    sign = draw(st.sampled_from(["", "", "", "-"]))
    line = f"{before}({sign}{seconds:d}.{fraction}) {name} {text}{payload}{behind}"
    return line.lower() if draw(st.integers(0, 9)) == 0 else line


@st.composite
def damaged(draw) -> str:
    line = draw(frame_lines())
    at = draw(st.integers(0, len(line)))
    return draw(
        st.sampled_from(
            [
                line[:at],
                line[at:],
                line[:at] + draw(st.sampled_from("#G\té _.(")) + line[at:],
                line.replace("(", ""),
                *("", "# a note", "(1.000000) can0 800#", "(1.000000) can0 FFFFFFFF#"),
                *("(99999999999.000000) can0 1F0#00", "(1.000000) can0 123#112", "()", "(1.0)"),
            ]
        )
    )


BLOCK = st.lists(
    st.tuples(st.one_of(frame_lines(), frame_lines(), damaged()), st.sampled_from(["\n", "\r\n"])),
    max_size=25,
).map(lambda lines: "".join(line + end for line, end in lines).encode())


class Named:
    def __init__(self) -> None:
        self.at: list[tuple[str, str]] = []

    def reporter(self) -> Reporter:
        return Reporter(Path("x.log"), False, lambda where, why: self.at.append((where, why)))


def by_line(block: bytes, channels: ChannelTable, named: Named) -> np.ndarray:
    batch = np.zeros(block.count(b"\n") + 1, FRAME_FD)
    rows = 0
    for number, line in enumerate(block.split(b"\n"), 1):
        try:
            row = parse_line(line)
        except ValueError as error:
            named.at.append((f"x.log:{number}", str(error)))
            continue
        if row is not None:
            candump._set(batch, rows, row, channels)
            rows += 1
    return narrow(batch[:rows])


def check_block(block: bytes) -> None:
    fast, slow = Named(), Named()
    fast_names, slow_names = ChannelTable(), ChannelTable()
    got = parse_block(block, 1, fast_names, fast.reporter())
    wanted = by_line(block, slow_names, slow)
    assert got.dtype == wanted.dtype
    got_channels = [fast_names.names[n] for n in got["channel"]]
    assert got_channels == [slow_names.names[n] for n in wanted["channel"]]
    got, wanted = got.copy(), wanted.copy()
    got["channel"] = wanted["channel"] = 0  # the order of shapes may number them otherwise
    assert np.array_equal(got, wanted)
    assert fast.at == slow.at


@given(BLOCK)
@settings(max_examples=80, deadline=None)
def test_columns_agree_with_the_line_grammar(block) -> None:
    check_block(block)


@pytest.mark.parametrize("victim", ["hex_bytes", "hex_number", "decimal_number", "rows_below"])
def test_column_check_catches_planted_bugs(monkeypatch, victim) -> None:
    right = getattr(candump, victim)
    planted = {
        "rows_below": lambda values, limit: np.ones(len(values), bool),
    }.get(victim, lambda digits: right(digits[:, ::-1]))
    monkeypatch.setattr(candump, victim, planted)
    with pytest.raises(AssertionError):
        check_block(b"(1600000000.123456) can0 123#A1B2\n(1.000000) can0 12G#00\n")


def test_forms_of_can_utils() -> None:
    text = (
        b"(1.5) can0 123#R\n1 (2.000000001) can0 12345678#R8_C\n(3.0) can0 123##F112233 T\n"
        b"(4.000000) can0 20000080#0000000000000000\r\n(5.000000) can0 7FF#11.22.33\n"
        b"(6.000000) can0 100#1122334455667788_F\n(7.000000) can1 100##2\n"
    )
    named = Named()
    names = ChannelTable()
    batch = parse_block(text, 1, names, named.reporter())
    assert named.at == []
    assert batch["flags"].tolist() == [
        REMOTE,
        REMOTE | EXTENDED,
        FD | BRS | ESI,
        ERROR,
        0,
        0,
        FD | ESI,
    ]
    assert batch["timestamp_ns"].tolist()[:2] == [1_500_000_000, 2_000_000_001]
    assert batch["length"].tolist() == [0, 8, 3, 8, 3, 8, 0]
    assert batch["arbitration_id"].tolist()[3] == 0x80
    assert names.names == ("can1", "can0") or names.names == ("can0", "can1")
    assert batch.dtype == FRAME


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("(1.0) can0 800#", "highest 11-bit id"),
        ("(1.0) can0 40000000#", "29-bit id"),
        ("(1.0) can0 123#1", "pairs of hex digits"),
        ("(1.0) can0 123#112233445566778899", "9 bytes"),
        ("(1.0) can0 123##", "flags digit"),
        ("(1.0) can0 123##0" + "11" * 9, "9 bytes"),
        ("(99999999999.0) can0 123#", "no time"),
        ("hello", "expected (seconds"),
    ],
)
def test_broken_lines_say_why(line, why) -> None:
    with pytest.raises(ValueError, match=why.replace("(", r"\(")):
        parse_line(line.encode())


def test_every_truncation_of_the_last_line_is_a_frame_or_named(tmp_path) -> None:
    whole = "(1600000000.000000) can0 123#1122334455667788\n"
    path = tmp_path / "a.log"
    for size in range(1, len(whole)):
        path.write_text(whole + whole[:size])
        named: list = []
        rows = sum(
            len(batch)
            for batch in read_log(
                path, ChannelTable(), on_broken=lambda where, why, at=named: at.append(where)
            )
        )
        assert rows + len(named) == 2
        assert named in ([], [f"{path}:2"])


def test_what_python_can_writes_reads_back_the_same(tmp_path) -> None:
    path = tmp_path / "a.log"
    messages = [
        can.Message(timestamp=1.5, arbitration_id=0x1FFFFFFF, data=b"\1\2", channel="can7"),
        can.Message(
            timestamp=2.5, arbitration_id=1, is_extended_id=False, is_fd=True, data=b"3" * 64
        ),
    ]
    with can.CanutilsLogWriter(path) as writer:
        for message in messages:
            writer(message)
    names = ChannelTable()
    batch = np.concatenate(list(read_log(path, names, strict=True, on_broken=print)))
    assert batch["timestamp_ns"].tolist() == [1_500_000_000, 2_500_000_000]
    assert batch["data"][1].tobytes() == b"3" * 64
    assert set(names.names) == {"can7", "vcan0"}


def test_strict_ends_at_the_first_broken_line(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_text("(1.0) can0 123#11\n(1.0) can0 123#1\n")
    with pytest.raises(LogError, match=r"a\.log:2: the data are no pairs"):
        list(read_log(path, ChannelTable(), strict=True, on_broken=print))


def test_too_many_channels_is_one_line(tmp_path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"(1.000000) can{n} 123#11\n" for n in range(300)))
    with pytest.raises(LogError, match="255 CAN channels"):
        list(read_log(path, ChannelTable(), on_broken=print))
