"""Which samples of a batch of frames are wanted, by whom: one decode pass for all who want some.

- A *want* is a signal on a channel, for one output: a rule set, or the watch points. All wants of
  a frame are read at once; what two rules of an output want is put out once.
- Rounding comes first: `on = "change"` looks at the value as it would be kept, so that not even
  the moment of a change says more than the rule's precision. Where two rules of an output round a
  signal differently, the finer one stands: both were allowed.
- Samples come in the order of the frames, and within a frame by number.

Pure but for what it remembers of the last samples and what it counts. One thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from agent.frames import SIGNAL, FrameBatch, SignalBatch
from agent.policy.model import UNSIGNED, SignalLayout
from agent.policy.signals import Bools, Decoder, Ints, Rows, spread
from agent.policy.slots import Slots, slot_of
from agent.policy.stretches import Stretches, runs, samples_of

PAIRS_AT_ONCE: Final = 1 << 17  # (frame, wanted signal) pairs; bounds the memory of one pass
ALWAYS: Final = 0
EVERY: Final = 1
CHANGE: Final = 2
NOBODY: Final = -1  # a want that no rule counts
_ANY_CHANNEL: Final = -1
_NO_CHANNEL: Final = -2  # a bus that is not open yet
_LEAST: Final = -(2**63)
_RADIX: Final = 1 << 16


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
        self._fresh: Ints = np.zeros(len(self._rules), np.int64)  # of the last batch, by track
        self._total: Ints = np.zeros(len(self._rules), np.int64)  # of those before it
        self._borders: Ints = np.arange(outputs + 1) << 48

    def _lay_out(self, layouts: Sequence[SignalLayout], wants: Sequence[Want]) -> None:
        """Turn the wants into columns, grouped by the frame and the signal that they are in.

        Wants that differ in nothing but their rule are one *track*: they want the same samples.
        """
        self._lay_out_tracks(layouts, wants)
        signals = sorted(set(self._signal.tolist()), key=lambda one: (slot_of(layouts[one]), one))
        keys = [slot_of(layouts[signal]) for signal in signals]
        slots = sorted(set(keys))
        found, tracks = Counter(keys), Counter(self._signal.tolist())
        self._count: Ints = _column(found[slot] for slot in slots)  # signals of a slot
        self._start: Ints = np.cumsum(self._count) - self._count
        self._signals: Ints = _column(signals)  # that are read
        self._track_count: Ints = _column(tracks[signal] for signal in signals)
        self._track_start: Ints = np.cumsum(self._track_count) - self._track_count
        self._pairs: Ints = _column(
            sum(tracks[one] for one in signals if slot_of(layouts[one]) == slot) for slot in slots
        )
        self._first: Ints = np.cumsum(self._pairs) - self._pairs  # track of a slot
        self._slots = Slots(slots)

    def _lay_out_tracks(self, layouts: Sequence[SignalLayout], wants: Sequence[Want]) -> None:
        rules: dict[Want, list[int]] = {}
        for want in wants:
            rules.setdefault(replace(want, rule=NOBODY), []).append(want.rule)
        # Where everything goes to one output as it comes, there is nothing to compare or to sort.
        self._is_plain = self._outputs == 1 and not any(one.mode or one.grain for one in rules)
        self._is_plain &= len({(one.output, one.label) for one in rules}) == len(rules)
        tracks = sorted(rules, key=lambda one: (
            slot_of(layouts[one.signal]), one.label if self._is_plain else one.signal, one.grain
        ))  # fmt: skip
        self._rules = [rules[track] for track in tracks]
        self._times = _column(map(len, self._rules))
        self._channels = [track.channel for track in tracks]
        self._signal = _column(one.signal for one in tracks)
        self._output = _column(one.output for one in tracks)
        self._label = _column(one.label for one in tracks)
        self._mode = _column(one.mode for one in tracks)
        self._period = _column(one.period_ns or 1 for one in tracks)
        self._grain = _column(one.grain for one in tracks)
        self._unsigned: Bools = np.array(
            [layouts[one.signal].kind == UNSIGNED for one in tracks], np.bool_
        )
        self._is_double = len({(one.output, one.label) for one in tracks}) < len(tracks)
        self._rounds = bool(self._grain.any())
        self._thins = bool((self._mode != ALWAYS).any())
        self._last: Ints = np.zeros((len(tracks), 0), np.int64)
        self._seen: Bools = np.zeros((len(tracks), 0), np.bool_)

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
        self._channel = _column(numbers.get(name, _NO_CHANNEL) for name in self._channels)
        self._everywhere = bool((self._channel == _ANY_CHANNEL).all())

    def take(self, batch: FrameBatch) -> list[SignalBatch]:
        """Return the wanted samples of each output, in arrival order."""
        self._total += self._fresh
        self._fresh[:] = 0
        rows, slots = self._slots.carriers(batch)
        pieces: list[list[SignalBatch]] = [[] for _ in range(self._outputs)]
        totals = np.cumsum(self._pairs[slots])
        begin = 0
        while begin < len(rows):
            done = int(totals[begin - 1]) if begin else 0
            end = int(np.searchsorted(totals, done + PAIRS_AT_ONCE, side="right"))
            end = max(end, begin + 1)
            find = self._all if self._is_plain else self._pass
            samples, bounds = find(batch[rows[begin:end]], slots[begin:end])
            for output, mine in enumerate(pieces):
                if bounds[output] < bounds[output + 1]:
                    mine.append(samples[bounds[output] : bounds[output + 1]])
            begin = end
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
        for track in np.flatnonzero(self._total):
            for rule in self._rules[track]:
                found[rule] += int(self._total[track])
        self._total[:] = self._fresh[:] = 0
        del found[NOBODY]
        return dict(found)

    def _pass(self, batch: FrameBatch, slots: Ints) -> tuple[SignalBatch, list[int]]:
        """Return the wanted samples of some carriers, output by output, and where each begins."""
        channels = self._last.shape[1]
        carrier = slots * channels + batch["channel"]
        if len(self._count) * channels <= _RADIX:
            carrier = carrier.astype(np.uint16)  # which numpy sorts in no time
        order = carrier.argsort(kind="stable")
        carrier = carrier[order]
        begins, rows = runs(carrier)
        slot, channel = np.divmod(carrier[begins].astype(np.int64), channels)
        group, signal = spread(self._count[slot], self._start[slot])
        stretch, at = spread(rows[group], begins[group])
        samples, cut_off = self._read(batch, order[at], signal, stretch, rows[group])
        of, track = spread(self._track_count[signal], self._track_start[signal])
        here = channel[group[of]]
        if not self._everywhere:
            wanted = self._channel[track]
            kept = (wanted == _ANY_CHANNEL) | (wanted == here)
            of, track, here = of[kept], track[kept], here[kept]
        if cut_off is not None:
            self.too_short += int((cut_off[of] * self._times[track]).sum())
        row, track, raw = self._news(samples, of, track, track * channels + here)
        self._fresh += np.bincount(track, minlength=len(self._fresh))
        return self._rows(batch, row, track, raw)

    def _read(
        self, batch: FrameBatch, row: Ints, signal: Ints, stretch: Ints, size: Ints
    ) -> tuple[Stretches, Ints | None]:
        """Return samples, each read once, and how many of each stretch are cut off; None: none.

        Args:
            batch: the carriers.
            row: of each sample.
            signal: of each stretch, its place among those that are read.
            stretch: of each sample.
            size: of each stretch.
        """
        stamps, cut_off = batch["timestamp_ns"], None
        raw, present, short = self._decoder.read(Rows(batch), row, self._signals[signal][stretch])
        if not present.all():
            cut_off = np.bincount(stretch[short], minlength=len(signal))
            stretch, row, raw = stretch[present], row[present], raw[present]
            size = np.bincount(stretch, minlength=len(signal))
        in_order = bool((stamps[1:] >= stamps[:-1]).all())
        start = size.cumsum() - size
        return Stretches(size, start, row, stamps[row], raw, in_order=in_order), cut_off

    def _all(self, batch: FrameBatch, slots: Ints) -> tuple[SignalBatch, list[int]]:
        """Return the same as `_pass` where no sample is thinned out, rounded or wanted twice."""
        row, track = spread(self._pairs[slots], self._first[slots])
        if not self._everywhere:
            wanted = self._channel[track]
            kept = (wanted == _ANY_CHANNEL) | (wanted == batch["channel"][row])
            row, track = row[kept], track[kept]
        raw, present, short = self._decoder.read(Rows(batch), row, self._signal[track])
        if not present.all():
            self.too_short += int(self._times[track[short]].sum())
            row, track, raw = row[present], track[present], raw[present]
        self._fresh += np.bincount(track, minlength=len(self._fresh))
        return samples_of(batch, row, self._label[track], raw), [0, len(row)]

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

    def _news(
        self, samples: Stretches, of: Ints, track: Ints, place: Ints
    ) -> tuple[Ints, Ints, Ints]:
        """Return (row, track, raw) of the samples that tracks want.

        Args:
            samples: of the pass.
            of: the stretch that a track looks at.
            track: which one it is.
            place: where its memory for the stretch's channel is.
        """
        live = samples.size[of] > 0
        if self._thins and len(samples.raw):
            live &= ~self._is_quiet(samples, of, track, place)
        of, track, place = of[live], track[live], place[live]
        size = samples.size[of]
        one, at = spread(size, samples.start[of])
        want, raw = track[one], samples.raw[at]
        if self._rounds:
            self._round(want, raw)
        if not self._thins or not len(one):
            return samples.row[at], want, raw
        mode = self._mode[want]
        value = np.where(mode == EVERY, samples.stamp[at] // self._period[want], raw)
        ends = np.cumsum(size)
        starts = ends - size
        last, seen = self._last.reshape(-1), self._seen.reshape(-1)
        before = np.empty_like(value)
        before[1:] = value[:-1]
        before[starts] = last[place]
        new = value != before
        new[starts] |= ~seen[place]
        last[place] = value[ends - 1]
        seen[place] = True
        new |= mode == ALWAYS
        return samples.row[at[new]], want[new], raw[new]

    def _is_quiet(self, samples: Stretches, of: Ints, track: Ints, place: Ints) -> Bools:
        """Return which tracks want nothing of their stretch, as far as few looks can tell."""
        mode, before = self._mode[track], self._last.reshape(-1)[place]
        quiet = (mode == CHANGE) & (self._grain[track] == 0) & samples.all_are(of, before)
        quiet |= (mode == EVERY) & samples.all_in_cell(of, self._period[track], before)
        found: Bools = quiet & self._seen.reshape(-1)[place]
        return found

    def _rows(
        self, batch: FrameBatch, row: Ints, track: Ints, raw: Ints
    ) -> tuple[SignalBatch, list[int]]:
        """Return samples in order, each once an output, and where each output begins and ends."""
        # Output, row and label of a sample as one number: a batch has far less than 2^32 rows.
        key = (self._output[track] << 48) | (row << 16) | self._label[track]
        order = key.argsort(kind="stable")
        key = key[order]
        if self._is_double:  # the finer of two comes first
            once = np.ones(len(key), np.bool_)
            np.not_equal(key[1:], key[:-1], out=once[1:])
            key, order = key[once], order[once]
        bounds: list[int] = key.searchsorted(self._borders).tolist()
        return samples_of(batch, row[order], key & 0xFFFF, raw[order]), bounds


def _column(values: Iterable[int]) -> Ints:
    return np.array(list(values), np.int64)
