"""The SLCAN (LAWICEL) adapter as a state machine: bytes in, bytes and events out, no I/O.

What it decides: which commands a host may send in which state, what is answered, and how a frame
of the bus looks in text. Rules:

- A command ends with CR. It is answered with CR (or text and CR), or with BEL if it is unknown,
  malformed, or not allowed now. A refused command changes nothing.
- `COMMANDS` below is the whole protocol: handler, allowed states, allowed lengths. A length that
  depends on the data is checked by the handler.
- An empty line is answered with CR: hosts send some to get rid of half a command.
- A line longer than any command is dropped to its CR and answered with one BEL; memory is bounded
  by MAX_LINE whatever arrives.
- Frames reach the host only while the channel is open, if its bit rate is that of the bus, and if
  the acceptance filter lets them through. A host at another bit rate hears nothing and sees the
  bus error bit in `F`.
- Without `S` or `s` the adapter opens at the bit rate that it keeps as default, as CANable
  firmware does; LAWICEL's own adapters refuse.

    state       C          O           L            frames in    frames out
    CLOSED      BEL        OPEN        LISTEN       no           BEL
    OPEN        CLOSED     BEL         BEL          yes          z / Z
    LISTEN      CLOSED     BEL         BEL          yes          BEL

python-can opens with `C`, `S6`, an empty line, `O`, `O` and reads no answer: BEL, CR, CR, CR, BEL.

Left out: polling (A, P, X), UART rates (U) and automatic start (Q), which need a serial line.
Source: LAWICEL CAN232 manual V3; CAN FD letters d D b B and Y<n> of CANable 2.0 firmware and
python-can; BTR registers and the dual acceptance filter of the NXP SJA1000 at 16 MHz.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from firmware_sim.acceptance import DO_NOT_CARE, accepts
from firmware_sim.frames import EXTENDED_LIMIT, FD_CODES, FD_LENGTHS, STANDARD_LIMIT, Frame

OK: Final = b"\r"
REFUSED: Final = b"\a"
MAX_LINE: Final = 138  # B, 8 digits of id, 1 of length, 64 bytes in hex

_BY_NUMBER: Final = (10, 20, 50, 100, 125, 250, 500, 800, 1000, 83.3)  # kbit/s of S0 to S9
BITRATES: Final = {str(number): round(rate * 1000) for number, rate in enumerate(_BY_NUMBER)}
DATA_BITRATES: Final = {"1": 1_000_000, "2": 2_000_000, "4": 4_000_000, "5": 5_000_000}

FLAG_OVERRUN: Final = 0x08  # SJA1000: data overrun
FLAG_BUS_ERROR: Final = 0x80

_HEX: Final = re.compile(r"[0-9A-Fa-f]*\Z")
_PREFIXES_MAX: Final = 4096  # cached line heads; a bus has far fewer kinds of frames


class State(Enum):
    """Where the channel is."""

    CLOSED = "closed"
    OPEN = "open"
    LISTEN = "listen"  # open, and never transmits


class Opened(NamedTuple):
    """The host opened the channel.

    Attributes:
        bitrate: bit/s that the host chose, or the default.
        listen_only: by `L`.
    """

    bitrate: int
    listen_only: bool


class Closed(NamedTuple):
    """The host closed the channel."""


class Transmitted(NamedTuple):
    """The host sent a frame to the bus; its stamp is 0."""

    frame: Frame


Event = Opened | Closed | Transmitted


class Outcome(NamedTuple):
    """What came of received bytes: the answer for the host, and events in order."""

    replies: bytes
    events: tuple[Event, ...]


class _RefusedError(Exception):
    """The command is answered with BEL."""


class Command(NamedTuple):
    """A row of the protocol.

    Attributes:
        handle: method of Device that takes the text after the letter and returns the reply.
        states: in which it is allowed.
        shortest, longest: characters after the letter.
    """

    handle: Callable[[Device, str, str], bytes]
    states: frozenset[State]
    shortest: int
    longest: int


class Device:
    """One adapter.

    Args:
        bus_bitrate: bit/s of the bus that it is connected to.
        fd: the adapter can do CAN FD; without it FD commands are refused, FD frames not delivered.
        default_bitrate: bit/s if the host opens without choosing one; None refuses that.

    Attributes:
        state: of the channel.
        bus_bitrate: bit/s of the bus.
        bitrate, data_bitrate: bit/s that the host chose.
        timestamps: frames for the host end with a stamp.
    """

    def __init__(
        self,
        *,
        bus_bitrate: int = 500_000,
        fd: bool = True,
        default_bitrate: int | None = 500_000,
    ) -> None:
        self.state = State.CLOSED
        self.bitrate = default_bitrate
        self.data_bitrate: int | None = None
        self.timestamps = False
        self.bus_bitrate = bus_bitrate
        self._fd = fd
        self._flags = 0
        self._code, self._mask = 0, DO_NOT_CARE
        self._line = bytearray()
        self._overlong = False
        self._events: list[Event] = []
        self._prefixes: dict[tuple[int, bool, bool, bool, int], str] = {}

    # from the host

    def receive(self, data: bytes) -> Outcome:
        """Take bytes from the host.

        Args:
            data: any bytes, cut anywhere.

        Returns:
            The reply to every line that ended in these bytes, and what happened.
        """
        replies = bytearray()
        self._events = []
        *ended, rest = data.split(b"\r")
        for part in ended:
            self._collect(part)
            replies += REFUSED if self._overlong else self._run(bytes(self._line))
            self._line.clear()
            self._overlong = False
        self._collect(rest)
        return Outcome(bytes(replies), tuple(self._events))

    def _collect(self, part: bytes) -> None:
        if len(self._line) + len(part) > MAX_LINE:
            self._overlong = True
            self._line.clear()
        if not self._overlong:
            self._line += part

    def _run(self, line: bytes) -> bytes:
        if not line:
            return OK
        text = line.decode("latin-1")  # every byte is a character; the table knows ASCII only
        letter, rest = text[0], text[1:]
        command = COMMANDS.get(letter)
        if (
            command is None
            or self.state not in command.states
            or not command.shortest <= len(rest) <= command.longest
        ):
            return REFUSED
        try:
            return command.handle(self, letter, rest)
        except _RefusedError:
            return REFUSED

    def _setup(self, letter: str, rest: str) -> bytes:
        """S<n>, Y<n>: bit rates by number."""
        table = BITRATES if letter == "S" else DATA_BITRATES
        if rest not in table or (letter == "Y" and not self._fd):
            raise _RefusedError
        if letter == "S":
            self.bitrate = table[rest]
        else:
            self.data_bitrate = table[rest]
        return OK

    def _registers(self, _letter: str, rest: str) -> bytes:
        """s<BTR0><BTR1>: bit rate by the registers of an SJA1000 at 16 MHz."""
        btr0, btr1 = divmod(_number(rest), 256)
        prescaler = 2 * ((btr0 & 0x3F) + 1)
        quanta = 1 + ((btr1 & 0x0F) + 1) + ((btr1 >> 4 & 0x07) + 1)
        self.bitrate = 16_000_000 // (prescaler * quanta)
        return OK

    def _open(self, letter: str, _rest: str) -> bytes:
        """O, L."""
        if self.bitrate is None:
            raise _RefusedError
        self.state = State.LISTEN if letter == "L" else State.OPEN
        self._flags = 0 if self.bitrate == self.bus_bitrate else FLAG_BUS_ERROR
        self._events.append(Opened(self.bitrate, letter == "L"))
        return OK

    def _close(self, _letter: str, _rest: str) -> bytes:
        self.state = State.CLOSED
        self._events.append(Closed())
        return OK

    def _flag_bits(self, _letter: str, _rest: str) -> bytes:
        """F: status bits; reading clears them, but a wrong bit rate keeps causing errors."""
        flags = self._flags
        self._flags = flags & FLAG_BUS_ERROR
        return b"F%02X\r" % flags

    def _filter(self, letter: str, rest: str) -> bytes:
        """M, m: acceptance code and mask, 4 register bytes each."""
        if letter == "M":
            self._code = _number(rest)
        else:
            self._mask = _number(rest)
        return OK

    def _stamps(self, _letter: str, rest: str) -> bytes:
        """Z0, Z1: a millisecond stamp, modulo a minute, after each received frame."""
        if rest not in ("0", "1"):
            raise _RefusedError
        self.timestamps = rest == "1"
        return OK

    def _identify(self, letter: str, _rest: str) -> bytes:
        return b"V1013\r" if letter == "V" else b"NSIM1\r"

    def _transmit(self, letter: str, rest: str) -> bytes:
        """A frame for the bus: t T r R d D b B."""
        extended, remote, fd = letter in "TRDB", letter in "rR", letter in "dDbB"
        if (fd and not self._fd) or self.bitrate != self.bus_bitrate:
            raise _RefusedError
        digits = 8 if extended else 3
        arbitration_id, code = _number(rest[:digits]), _number(rest[digits])
        if arbitration_id > (EXTENDED_LIMIT if extended else STANDARD_LIMIT):
            raise _RefusedError
        if code > 8 and not fd:
            raise _RefusedError
        length, text = FD_LENGTHS[code], rest[digits + 1 :]
        if len(text) != (0 if remote else 2 * length) or not _HEX.match(text):
            raise _RefusedError
        data, requested = bytes.fromhex(text), length if remote else 0
        frame = Frame(0, arbitration_id, data, extended, remote, fd, letter in "bB", requested)
        self._events.append(Transmitted(frame))
        return b"Z\r" if extended else b"z\r"

    # from the bus

    def frame(self, frame: Frame) -> bytes:
        """Return the text for the host of a frame that is on the bus.

        Returns:
            One line with its CR, or nothing if the host does not hear the frame: channel closed,
            another bit rate, filtered, or FD on an adapter without it.
        """
        if self.state is State.CLOSED or self.bitrate != self.bus_bitrate:
            return b""
        if frame.fd and not self._fd:
            return b""
        if self._mask != DO_NOT_CARE and not accepts(frame, self._code, self._mask):
            return b""
        length = frame.length
        key = (frame.arbitration_id, frame.extended, frame.fd, frame.brs, length)
        prefix = self._prefixes.get(key) if not frame.remote else _prefix(frame, length)
        if prefix is None:
            if len(self._prefixes) >= _PREFIXES_MAX:
                self._prefixes.clear()
            prefix = self._prefixes[key] = _prefix(frame, length)
        stamp = f"{frame.timestamp_ns // 1_000_000 % 60_000:04X}" if self.timestamps else ""
        return f"{prefix}{frame.data.hex().upper()}{stamp}\r".encode("ascii")

    def overrun(self) -> None:
        """Note that frames were lost because the host did not read: `F` shows it."""
        self._flags |= FLAG_OVERRUN


def _number(text: str) -> int:
    if not text or not _HEX.match(text):
        raise _RefusedError
    return int(text, 16)


def _prefix(frame: Frame, length: int) -> str:
    letter = "r" if frame.remote else "t"
    if frame.fd:
        letter = "b" if frame.brs else "d"
    if frame.extended:
        return f"{letter.upper()}{frame.arbitration_id:08X}{FD_CODES[length]:X}"
    return f"{letter}{frame.arbitration_id:03X}{FD_CODES[length]:X}"


_CLOSED: Final = frozenset({State.CLOSED})
_OPEN: Final = frozenset({State.OPEN})
_LISTENING: Final = frozenset({State.OPEN, State.LISTEN})
_ANY: Final = frozenset(State)

COMMANDS: Final[dict[str, Command]] = {
    # letter: handler, allowed in, characters after the letter
    "S": Command(Device._setup, _CLOSED, 1, 1),
    "s": Command(Device._registers, _CLOSED, 4, 4),
    "Y": Command(Device._setup, _CLOSED, 1, 1),
    "O": Command(Device._open, _CLOSED, 0, 0),
    "L": Command(Device._open, _CLOSED, 0, 0),
    "C": Command(Device._close, _LISTENING, 0, 0),
    "t": Command(Device._transmit, _OPEN, 4, 20),
    "T": Command(Device._transmit, _OPEN, 9, 25),
    "r": Command(Device._transmit, _OPEN, 4, 4),
    "R": Command(Device._transmit, _OPEN, 9, 9),
    "d": Command(Device._transmit, _OPEN, 4, 132),
    "D": Command(Device._transmit, _OPEN, 9, 137),
    "b": Command(Device._transmit, _OPEN, 4, 132),
    "B": Command(Device._transmit, _OPEN, 9, 137),
    "F": Command(Device._flag_bits, _LISTENING, 0, 0),
    "M": Command(Device._filter, _CLOSED, 8, 8),
    "m": Command(Device._filter, _CLOSED, 8, 8),
    "Z": Command(Device._stamps, _CLOSED, 1, 1),
    "V": Command(Device._identify, _ANY, 0, 0),
    "N": Command(Device._identify, _ANY, 0, 0),
}
