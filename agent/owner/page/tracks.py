"""The curves around an event: which signals, and how a curve is drawn without losing a spike. Pure.

- Speed, brake, steering and accelerator are found by what signals are called and measured in; who
  reads the page can name others.
- A curve is cut into columns of equal time. Of each column the first, the lowest, the highest and
  the last value are drawn: one sample that stands out is in the picture, however long the time is.
- A curve is broken where samples are missing for far longer than they usually are apart. A signal
  with labels, or with hardly any different values, goes in steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from agent.digest import sha256
from agent.owner.presence_matrix import Known, Rows
from agent.policy.model import Policy, SignalInfo
from agent.policy.physical import physical

COLUMNS: Final = 800  # of a curve: twice what a phone has, as many as print needs
STEP_VALUES: Final = 4  # different values, at most, of a signal that goes in steps
BREAK: Final = 8  # times the usual distance of samples
BREAK_NS: Final = 2 * 10**9  # and at least this

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NOT: Final = re.compile(
    r"wh(?:ee)?l_?spe?|motor|engine|fan|wind|rate|counter|checksum|crc|temp|light|torque|target"
    r"|limit|req|cmd|warn|max|min|status|valid|park|regen|accelerat(?!or)|wiper|lamp|switch|turn"
    r"|cruise|gps|sensor|ack$|qf$|not_|set_?sp|rel_?sp|acc_|tsr_|navi|obj|lead|das_|tics|trap",
    re.IGNORECASE,
)


class _Role(NamedTuple):
    """How a well-known signal is called and measured; `plain`: names that need no unit."""

    name: str
    called: re.Pattern[str]
    units: tuple[str, ...]
    plain: re.Pattern[str]


def _role(name: str, called: str, units: str, plain: str) -> _Role:
    both = [re.compile(text, re.IGNORECASE) for text in (called, plain)]
    return _Role(name, both[0], tuple(units.split()), both[1])


_ROLES: Final = (
    _role("speed", r"veh\w*_?(?:speed|spd|velocity)|ui_?speed|^speed|speed$|spd",
          "km/h kph kmh km/hour mph m/s", r"(?:vehicle_?)?speed"),
    _role("brake", r"(?:brake?|brk|mcyl|master_?cyl)\w*_?(?:press(?!ed)|prs|force)",
          "bar kpa mpa psi n", r".*"),
    _role("pedal", r"(?:brake?|brk)\w*_?(?:pedal|pdl|pos|travel|pressed)", "% mm", r".*"),
    _role("steering", r"steer\w*_?ang|str\w*_?ang|swa|wheel_?angle", "deg ° rad degrees degree",
          r"steer(?:ing)?_?(?:wheel_?)?angle"),
    _role("throttle", r"accel\w*_?(?:pedal|pos)|throttle|gas_?pedal|pedal_?pos", "%", r".*"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """All samples of a signal, by stamp."""

    info: SignalInfo
    stamps_ns: Ints
    values: Floats

    def between(self, begin_ns: int, end_ns: int) -> Series:
        """Return the part of a time, both ends inclusive."""
        low = int(np.searchsorted(self.stamps_ns, begin_ns, "left"))
        high = int(np.searchsorted(self.stamps_ns, end_ns, "right"))
        return Series(self.info, self.stamps_ns[low:high], self.values[low:high])

    def at(self, moment_ns: int) -> float | None:
        """Return the last value up to a moment."""
        place = int(np.searchsorted(self.stamps_ns, moment_ns, "right")) - 1
        return float(self.values[place]) if place >= 0 else None

    @property
    def steps(self) -> bool:
        """Whether it goes in steps."""
        return bool(self.info.choices) or len(np.unique(self.values[:10_000])) <= STEP_VALUES


@dataclass(frozen=True, slots=True)
class Track:
    """A curve around an event.

    Attributes:
        role: what it is, a key of the page's words; "" if it was asked for by name.
        series: its samples, None if there are none in this time.
        name: of the signal.
    """

    role: str
    name: str
    series: Series | None


class Signals:
    """Every signal that can be drawn.

    Args:
        policies: by their digest; their dictionaries say where signals stand in raw frames.
        opened: what there is.
        known: signals of DBC files.
    """

    def __init__(
        self, policies: Mapping[bytes, Policy], opened: Rows, known: Iterable[Known] = ()
    ) -> None:
        self._opened = opened
        self._places: dict[str, list[Known]] = {}
        self._numbers: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
        for policy in policies.values():
            dictionary = sha256(policy.dictionary)
            for number, info in enumerate(policy.signals):
                self._add(info.name, (info, policy.layouts[number]))
                key = info.message, info.name
                self._numbers.setdefault(key, []).append((dictionary, number))
        for info, layout in known:
            self._add(info.name, (info, layout))
        self._cache: dict[str, Series | None] = {}

    def _add(self, name: str, one: Known) -> None:
        places = self._places.setdefault(name, [])
        if one not in places:
            places.append(one)

    @property
    def names(self) -> list[str]:
        """All names, each once."""
        return list(self._places)

    def unit(self, name: str) -> str:
        """Return what a signal is measured in."""
        return self._places[name][0][0].unit

    def series(self, name: str) -> Series | None:
        """Return the samples of a signal, from where there are most of them; None: there are none.

        Args:
            name: `Signal` or `Message.Signal`.
        """
        if name not in self._cache:
            found = [self._series(one) for one in self.named(name)]
            best = max(found, key=lambda one: len(one.stamps_ns), default=None)
            self._cache[name] = best if best is not None and len(best.stamps_ns) else None
        return self._cache[name]

    def named(self, name: str) -> list[Known]:
        """Return the signals of a name: several if messages or policies differ; empty: none."""
        if name in self._places:
            return self._places[name]
        message, _, signal = name.rpartition(".")
        return [one for one in self._places.get(signal, []) if one[0].message == message]

    def _series(self, one: Known) -> Series:
        info, layout = one
        framed = self._opened.carriers.samples({0: layout})
        best = framed
        for dictionary, number in self._numbers.get((info.message, info.name), []):
            batches = self._opened.samples.get(dictionary, ())
            mine = [batch[batch["signal"] == number] for batch in batches]
            if sum(map(len, mine)) > len(best):
                best = np.concatenate(mine)
        order = np.argsort(best["timestamp_ns"], kind="stable")
        stamps: Ints = best["timestamp_ns"][order]
        return Series(info, stamps, physical(best["raw"][order], info))


def pick(signals: Signals, plot: Sequence[str], begin_ns: int, end_ns: int) -> list[Track]:
    """Return the curves to draw of a time.

    Args:
        signals: that there are.
        plot: names that were asked for; empty: the well-known ones.
        begin_ns: first moment.
        end_ns: last moment, inclusive.
    """

    def cut(name: str) -> Series | None:
        series = signals.series(name)
        series = series.between(begin_ns, end_ns) if series is not None else None
        return series if series is not None and len(series.stamps_ns) else None

    if plot:
        return [Track("", name, cut(name)) for name in plot]
    tracks = []
    for role in _ROLES:
        for name in _candidates(signals, role):
            series = cut(name)
            if series is not None:
                tracks.append(Track(role.name, name, series))
                break
        else:
            if role.name != "pedal":  # a car that tells the pressure need not tell the pedal
                tracks.append(Track(role.name, "", None))
    return tracks


def _candidates(signals: Signals, role: _Role) -> list[str]:
    """Return the names that fit a role, the likeliest first."""
    ranked = []
    for name in signals.names:
        if not role.called.search(name) or _NOT.search(name):
            continue
        unit = signals.unit(name).lower()
        if unit in role.units:
            exact = role.plain.fullmatch(name) is None
            ranked.append((exact, role.units.index(unit), len(name), name))
        elif not unit and role.plain.fullmatch(name):
            ranked.append((False, len(role.units), len(name), name))
    return [name for *_, name in sorted(ranked)]


def drawn(stamps_ns: Ints, values: Floats, begin_ns: int, end_ns: int) -> tuple[Ints, Floats]:
    """Return the samples of a curve that are drawn: of each column first, lowest, highest, last.

    Values that are no number are left out.

    Args:
        stamps_ns: rising.
        values: beside them.
        begin_ns: left edge of the picture.
        end_ns: its right edge.
    """
    finite = np.isfinite(values)
    stamps, values = stamps_ns[finite], values[finite]
    if len(stamps) <= 2 * COLUMNS:
        return stamps, values
    width = max(1, math.ceil((end_ns - begin_ns + 1) / COLUMNS))
    column = (stamps - begin_ns) // width
    first = np.flatnonzero(np.append(True, column[1:] != column[:-1]))
    last = np.append(first[1:], len(column)) - 1
    # By column and value: the first of each column is its lowest, the last one its highest.
    order = np.lexsort((values, column))
    chosen = np.unique(np.concatenate((first, last, order[first], order[last])))
    return stamps[chosen], values[chosen]


def breaks(stamps_ns: Ints) -> Ints:
    """Return before which samples a curve is broken."""
    if len(stamps_ns) < 3:
        return np.zeros(0, np.int64)
    apart = np.diff(stamps_ns)
    limit = max(BREAK_NS, BREAK * int(np.median(apart)))
    return np.flatnonzero(apart > limit) + 1


def ticks(low: float, high: float, count: int = 2) -> list[float]:
    """Return round numbers that span a range: at least two, the ends included."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= raw * 0.999)
    begin, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * one, 12) for one in range(begin, end + 1)]
