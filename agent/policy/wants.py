"""Which samples of a batch of frames are wanted, by whom: one decode pass for all who want some.

- A *want* is a signal on a channel, for one output: a rule set, or the watch points. All wants of
  a frame are read at once; what two rules of an output want is put out once.
- Rounding comes first: `on = "change"` looks at the value as it would be kept, so that not even
  the moment of a change says more than the rule's precision. Where two rules of an output round a
  signal differently, the finer one stands: both were allowed.
- Samples come in the order of the frames, and within a frame by number.
- Ids of 11 bits are looked up in a table, 29-bit ones searched, once for each set of free bits that
  the signals have. So one frame can carry signals of several ids: a J1939 group, and the same group
  from one source.
- A track, of which `every` and `on = "change"` know the last sample, is a want on a channel: what
  several sources send of one J1939 group is one stream.

Pure but for what it remembers of the last samples and what it counts. One thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agent.frames import ERROR, EXTENDED, REMOTE, SIGNAL, FrameBatch, SignalBatch
from agent.policy.model import MAX_STANDARD, UNSIGNED, SignalLayout
from agent.policy.signals import Bools, Decoder, Ints, Rows, spread

PAIRS_AT_ONCE: Final = 1 << 17  # (frame, wanted signal) pairs; bounds the memory of one pass
ALWAYS: Final = 0
EVERY: Final = 1
CHANGE: Final = 2
NOBODY: Final = -1  # a want that no rule counts
_ANY_CHANNEL: Final = -1
_NO_CHANNEL: Final = -2  # a bus that is not open yet
_LEAST: Final = -(2**63)


@dataclass(frozen=True, slots=True)
class Want:
    """A signal that somebody wants.

    Attributes:
        output: where its samples go.
        rule: that counts them; NOBODY: none.
        signal: number in the dictionary: what is read.
        label: number that the samples carry.
        channel: bus name or "*".
        mode: ALWAYS, EVERY or CHANGE.
        period_ns: of EVERY.
        grain: as in SignalSelector.
    """

    output: int
    rule: int
    signal: int
    label: int
    channel: str
    mode: int = ALWAYS
    period_ns: int = 0
    grain: int = 0


class _WideIds:
    """Ids of 29 bits that are wanted, but for the same free bits.

    Args:
        free_bits: of all of them.
        ids: sorted; their free bits are 0.
        first: slot of the first id; the others follow.
    """

    def __init__(self, free_bits: int, ids: Sequence[int], first: int) -> None:
        self._fixed = np.uint32(~free_bits & 0xFFFF_FFFF) if free_bits else None
        self._ids = np.array(ids, np.uint32)
        self._first = first

    def slots(self, ids: npt.NDArray[np.uint32]) -> Ints:
        """Return the slot of each of some ids, -1: it is not wanted."""
        wanted = ids if self._fixed is None else ids & self._fixed
        place = np.minimum(np.searchsorted(self._ids, wanted), len(self._ids) - 1)
        return np.where(self._ids[place] == wanted, place + self._first, -1)


class Sampler:
    """Takes the wanted samples out of batches.

    Args:
        layouts: of the signals, by number.
        wants: of all outputs.
        outputs: how many there are.

    Attributes:
        too_short: wanted samples that are missing because the frame is shorter than its DBC.
    """

    def __init__(
        self, layouts: Sequence[SignalLayout], wants: Sequence[Want], outputs: int
    ) -> None:
        self.too_short = 0
        self._outputs = outputs
        self._decoder = Decoder(layouts)
        self._lay_out(layouts, wants)
        self._fresh: Ints = np.zeros(len(wants), np.int64)  # of the last batch, by want
        self._total: Ints = np.zeros(len(wants), np.int64)  # of those before it

    def _lay_out(self, layouts: Sequence[SignalLayout], wants: Sequence[Want]) -> None:
        """Turn the wants into columns, grouped by the frame they are in."""
        keys = [_key(layouts[want.signal]) for want in wants]
        order = sorted(
            range(len(wants)), key=lambda one: (keys[one], wants[one].signal, wants[one].grain, one)
        )
        self._wants = [wants[one] for one in order]
        slots = sorted(set(keys))
        found = Counter(keys)
        self._count: Ints = np.array([found[slot] for slot in slots], np.int64)
        self._start: Ints = np.cumsum(self._count) - self._count
        self._slot_of_standard = np.full(MAX_STANDARD + 2, -1, np.int64)
        for number, (extended, _, arbitration_id) in enumerate(slots):
            if not extended:
                self._slot_of_standard[arbitration_id] = number
        self._wide = _searches(slots)
        self._signal = _column(one.signal for one in self._wants)
        self._target = _column(one.output << 32 | one.label for one in self._wants)
        self._mode = _column(one.mode for one in self._wants)
        self._period = _column(one.period_ns or 1 for one in self._wants)
        self._grain = _column(one.grain for one in self._wants)
        self._unsigned: Bools = np.array(
            [layouts[one.signal].kind == UNSIGNED for one in self._wants], np.bool_
        )
        self._rounds = bool(self._grain.any())
        self._thins = bool((self._mode != ALWAYS).any())
        self._last: Ints = np.zeros((len(self._wants), 0), np.int64)
        self._seen: Bools = np.zeros((len(self._wants), 0), np.bool_)

    def prepare(self, names: tuple[str, ...], count: int) -> None:
        """Make the tables fit the channels that there are now.

        Args:
            names: by number.
            count: channel numbers to be ready for; at least the number of names.
        """
        if (known := self._last.shape[1]) < count:
            more = ((0, 0), (0, count - known))
            self._last, self._seen = np.pad(self._last, more), np.pad(self._seen, more)
        numbers = {name: number for number, name in enumerate(names)} | {"*": _ANY_CHANNEL}
        self._channel = _column(numbers.get(want.channel, _NO_CHANNEL) for want in self._wants)
        self._everywhere = bool((self._channel == _ANY_CHANNEL).all())

    def take(self, batch: FrameBatch) -> list[SignalBatch]:
        """Return the wanted samples of each output, in arrival order."""
        self._total += self._fresh
        self._fresh[:] = 0
        rows, slots = self._carriers(batch)
        pieces: list[list[SignalBatch]] = [[] for _ in range(self._outputs)]
        for part in _passes(rows, np.cumsum(self._count[slots])):
            samples, bounds = self._pass(batch, rows[part], slots[part])
            for output, mine in enumerate(pieces):
                if bounds[output] < bounds[output + 1]:
                    mine.append(samples[bounds[output] : bounds[output + 1]])
        nothing = np.zeros(0, SIGNAL)
        return [
            nothing if not mine else mine[0] if len(mine) == 1 else np.concatenate(mine)
            for mine in pieces
        ]

    def uncount(self, signals: Bools) -> None:
        """Do not count what the last batch gave of some signals, by number."""
        self._fresh[signals[self._signal]] = 0

    def counts(self) -> dict[int, int]:
        """Return how many samples each rule took since the last call, and begin anew."""
        self._total += self._fresh
        found: Counter[int] = Counter()
        for number in np.flatnonzero(self._total):
            found[self._wants[number].rule] += int(self._total[number])
        self._total[:] = self._fresh[:] = 0
        del found[NOBODY]
        return dict(found)

    def _carriers(self, batch: FrameBatch) -> tuple[Ints, Ints]:
        """Return (row, slot) of the frames that carry wanted signals; rows rise, or stay."""
        if not self._wants:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        ids, flags = batch["arbitration_id"], batch["flags"]
        slots = self._slot_of_standard[np.minimum(ids, MAX_STANDARD + 1)]
        wide = np.flatnonzero(flags & EXTENDED)
        if len(wide):
            slots[wide] = self._wide[0].slots(ids[wide]) if self._wide else -1
        slots[(flags & (ERROR | REMOTE)) != 0] = -1
        rows = np.flatnonzero(slots >= 0)
        slots = slots[rows]
        if len(self._wide) < 2 or not len(wide):
            return rows, slots
        wide = wide[(flags[wide] & (ERROR | REMOTE)) == 0]
        return _merged(rows, slots, wide, [some.slots(ids[wide]) for some in self._wide[1:]])

    def _pass(self, batch: FrameBatch, rows: Ints, slots: Ints) -> tuple[SignalBatch, Ints]:
        """Return the wanted samples of some carriers, output by output, and where each begins."""
        row, want = spread(self._count[slots], self._start[slots])
        if len(self._wide) > 1:  # a frame may be a carrier more than once
            new = np.append(True, rows[1:] != rows[:-1])
            rows, row = rows[new], (np.cumsum(new) - 1)[row]
        batch = batch[rows]
        if not self._everywhere:
            channel = batch["channel"][row]
            here = self._channel[want]
            row, want = (side[(here == _ANY_CHANNEL) | (here == channel)] for side in (row, want))
        raw, present, short = self._decoder.read(Rows(batch), row, self._signal[want])
        if not present.all():
            self.too_short += int(np.count_nonzero(short))
            row, want, raw = row[present], want[present], raw[present]
        if self._rounds:
            self._round(want, raw)
        if self._thins:
            keep = self._news(batch, row, want, raw)
            row, want, raw = row[keep], want[keep], raw[keep]
        self._fresh += np.bincount(want, minlength=len(self._fresh))
        return self._rows(batch, row, want, raw)

    def _round(self, want: Ints, raw: Ints) -> None:
        """Round raw values down to multiples of their grains, in place."""
        some = np.flatnonzero(self._grain[want])
        grain, value = self._grain[want[some]], raw[some]
        plain = value.view(np.uint64)
        down = plain - plain % grain.astype(np.uint64)
        over = value % grain  # never negative: numpy's remainder has the divisor's sign
        # What lies below the lowest multiple that 64 bits can hold is one value as well.
        low = np.where(value < _LEAST + over, _LEAST, value - over)
        raw[some] = np.where(self._unsigned[want[some]], down.view(np.int64), low)

    def _news(self, batch: FrameBatch, row: Ints, want: Ints, raw: Ints) -> Bools:
        """Return which samples are wanted by the time or value of the one before."""
        mode = self._mode[want]
        keep: Bools = mode == ALWAYS
        some = np.flatnonzero(~keep)
        if not len(some):
            return keep
        row, want, raw = row[some], want[some], raw[some]
        cell = batch["timestamp_ns"][row] // self._period[want]
        value = np.where(mode[some] == EVERY, cell, raw)
        track = want * self._last.shape[1] + batch["channel"][row]
        order = np.argsort(track, kind="stable")
        track, value = track[order], value[order]
        first = np.append(True, track[1:] != track[:-1])
        last, seen = self._last.reshape(-1), self._seen.reshape(-1)
        before = np.where(first, last[track], np.append(0, value[:-1]))
        new = (value != before) | (first & ~seen[track])
        final = np.append(first[1:], True)
        last[track[final]] = value[final]
        seen[track[final]] = True
        keep[some[order]] = new
        return keep

    def _rows(
        self, batch: FrameBatch, row: Ints, want: Ints, raw: Ints
    ) -> tuple[SignalBatch, Ints]:
        """Return samples in order, each once an output, and where each output begins and ends."""
        target = self._target[want]
        output, label = target >> 32, target & 0xFFFF
        # Output, row and label of a sample as one number: a batch has far less than 2^32 rows.
        key = ((output << 32) + row << 16) + label
        _, once = np.unique(key, return_index=True)
        row = row[once]
        samples = np.zeros(len(once), SIGNAL)
        samples["timestamp_ns"] = batch["timestamp_ns"][row]
        samples["channel"] = batch["channel"][row]
        samples["signal"] = label[once]
        samples["raw"] = raw[once]
        return samples, np.searchsorted(output[once], np.arange(self._outputs + 1))


def _passes(rows: Ints, pairs: Ints) -> Iterator[slice]:
    """Cut carriers into passes of bounded size; those of one frame stay together.

    Args:
        rows: of the carriers; they rise, or stay.
        pairs: (frame, want) pairs up to and with each carrier.
    """
    begin = done = 0
    while begin < len(rows):
        end = len(rows)
        if pairs[-1] - done > PAIRS_AT_ONCE:
            end = int(np.searchsorted(pairs, done + PAIRS_AT_ONCE, side="right"))
            end = int(np.searchsorted(rows, rows[max(end - 1, begin)], side="right"))
            done = int(pairs[end - 1])
        yield slice(begin, end)
        begin = end


def _merged(rows: Ints, slots: Ints, wide: Ints, more: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Add the carriers that further searches found among the rows of 29-bit ids."""
    rows = np.concatenate((rows, *(wide[one >= 0] for one in more)))
    slots = np.concatenate((slots, *(one[one >= 0] for one in more)))
    order = np.argsort(rows, kind="stable")
    return rows[order], slots[order]


def _searches(slots: Sequence[tuple[bool, int, int]]) -> list[_WideIds]:
    """Return one search for each set of free bits; exact ids come first."""
    wide: dict[int, list[tuple[int, int]]] = {}
    for number, (extended, free_bits, arbitration_id) in enumerate(slots):
        if extended:
            wide.setdefault(free_bits, []).append((number, arbitration_id))
    return [
        _WideIds(free_bits, [one for _, one in some], some[0][0])
        for free_bits, some in wide.items()
    ]


def _key(layout: SignalLayout) -> tuple[bool, int, int]:
    return layout.extended, layout.free_bits, layout.arbitration_id


def _column(values: Iterable[int]) -> Ints:
    return np.array(list(values), np.int64)
