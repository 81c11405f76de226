"""What the owner does at home: a bundle, opened with the owner's key, and its story.

The bundle is verified first, with the verifier that is in every bundle; what it says goes with all
that is made of it. What does not verify is opened all the same, and named: an owner may look at
evidence that somebody has damaged.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agent.errors import SealError
from agent.evidence.arrival import arrival_order
from agent.evidence.bundle_source import BundleSource
from agent.evidence.disclosures import disclosures_of
from agent.evidence.opening import Opened, open_segments
from agent.evidence.selection import Found, Request, find
from agent.evidence.verifier import lines, verify
from agent.frames import FrameBatch, SignalBatch, concatenate
from agent.owner.chronicle import Bodies
from agent.owner.gather import Held, gather
from agent.owner.page.story import Cosigned, Story, Verdict
from agent.owner.presence_matrix import Known
from agent.pb import policy_pb2
from agent.vault import keys
from agent.vault.opening import is_sealed_to, parse_session

INTACT, ALTERED, UNDECIDED = 0, 1, 3
STATES: Final = {INTACT: "intact", ALTERED: "altered", UNDECIDED: "undecided"}


@dataclass(frozen=True, slots=True)
class Home:
    """A bundle that was verified and opened.

    Attributes:
        source: the bundle.
        request: what was opened of it.
        checked: what the verifier says; see there.
        opened: what the keys open.
        closed: (log, index) of segments that are sealed to others.
    """

    source: BundleSource
    request: Request
    checked: dict[str, Any]
    opened: Opened
    closed: frozenset[tuple[bytes, int]]

    @property
    def verdict(self) -> int:
        """INTACT, ALTERED or UNDECIDED, of the verifier and of the opening together."""
        kinds = {problem.kind for problem in self.opened.problems}
        if self.checked["verdict"] == ALTERED or "altered" in kinds:
            return ALTERED
        return UNDECIDED if self.checked["verdict"] or kinds else INTACT


def bring_home(
    folder: Path,
    privates: Sequence[bytes],
    *,
    from_ns: int,
    to_ns: int,
    card: str = "",
    begin: Callable[[int], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Home:
    """Verify a bundle and open it.

    Args:
        folder: of the bundle.
        privates: the owner's recipient keys, 96 bytes each.
        from_ns: first moment, ns since the Unix epoch.
        to_ns: last moment, inclusive.
        card: text of the region's card; empty: the keys in the bundle are believed.
        begin: called with the number of segments before the first.
        progress: called with 1 after each.

    Raises:
        ConfigError: it is no bundle, or more rows than fit.
        SealError: a file of it cannot be read.
    """
    source = BundleSource(folder)
    request = Request(source.vehicle, from_ns=from_ns, to_ns=to_ns)
    checked = verify(folder, card)
    mine = {keys.kid(keys.public_of(private)): private for private in privates}
    found, closed = _sorted(source, find(source, request), mine)
    begin(len(found))
    opened = open_segments(source, found, request, mine, progress, others=frozenset())
    opened.problems += source.missing(request)
    return Home(source, request, checked, opened, closed)


def _sorted(
    source: BundleSource, found: Sequence[Found], mine: Mapping[bytes, bytes]
) -> tuple[list[Found], frozenset[tuple[bytes, int]]]:
    """Return the segments that the keys may open, and those that are sealed to others.

    Much is for the region, for whoever drove, or for an owner before or after: that is no fault.
    A segment whose session or body is not here is left to the opener, who says so.
    """
    sealed: dict[tuple[bytes, bytes], bool] = {}
    closed = set()
    for one in found:
        key = one.log, one.session
        if key not in sealed:
            index = source.session_index(*key)
            body = None if index is None else source.stored(one.log, index).body
            sealed[key] = body is None or is_sealed_to(body, mine)
        if not sealed[key] and source.has_body(one.log, one.index):
            closed.add((one.log, one.index))
    return [one for one in found if (one.log, one.index) not in closed], frozenset(closed)


def story(
    home: Home, *, made_ns: int, known: Sequence[Known] = (), plot: Sequence[str] = ()
) -> Story:
    """Return the story of a bundle; see `gather`.

    Args:
        home: the bundle.
        made_ns: now.
        known: every signal of the DBC files that were named.
        plot: names of the signals to draw.
    """
    source, opened = home.source, home.opened
    held = Held(
        entries=((log, entry) for log in source.logs() for entry in source.entries(log).values()),
        bodies=Bodies(
            source.has_body, home.closed, source.drop_reason,
        ),
        policies=[body for _, body in source.policies()],
        verdict=Verdict(STATES[home.checked["verdict"]], tuple(lines(home.checked))),
        cosigned=_cosigned(home.checked), epochs=_epochs(source),
        openings=_openings(source.folder),
    )  # fmt: skip
    return gather(
        held, opened, begin_ns=home.request.from_ns, end_ns=home.request.to_ns, made_ns=made_ns,
        known=known, plot=plot,
    )  # fmt: skip


def only(home: Home, lanes: Sequence[int]) -> Home:
    """Return it with the frames and samples of some lanes alone.

    What a rule and the recorder both keep lies on both of their lanes.

    Args:
        home: the bundle.
        lanes: sealed_pb2.Lane numbers.
    """
    opened = replace(
        home.opened,
        frames=[one for one in home.opened.frames if one[0].lane in lanes],
        samples=[one for one in home.opened.samples if one[0].lane in lanes],
    )
    return replace(home, opened=opened)


def _openings(folder: Path) -> Sequence[Mapping[str, Any]] | None:
    with contextlib.suppress(SealError):  # the verifier names it
        found = disclosures_of(folder)
        return None if found is None else found.openings
    return None


def _cosigned(checked: dict[str, Any]) -> list[Cosigned]:
    return [
        Cosigned(log["log"][:16], one["size"],
                 int(dt.datetime.fromisoformat(one["at"]).timestamp()) * 10**9)
        for log in checked["logs"]
        for one in log["co_signed"]
    ]  # fmt: skip


def _epochs(source: BundleSource) -> list[int]:
    found = set()
    for log in source.logs():
        for index, entry in source.entries(log).items():
            body = source.stored(log, index).body if entry.HasField("session") else None
            if body is not None:
                with contextlib.suppress(SealError):  # the verifier names it
                    found.add(parse_session(body)[1].epoch)
    return sorted(found)


def frames_of(opened: Opened) -> FrameBatch:
    """Return all frames of an opening, as they arrived."""
    if not opened.frames:
        return concatenate([])
    order = arrival_order([(span, batch["timestamp_ns"]) for span, batch in opened.frames])
    return concatenate([batch for _, batch in opened.frames])[order]


def samples_of(opened: Opened) -> list[tuple[policy_pb2.Dictionary, SignalBatch]]:
    """Return all samples of an opening, as they arrived; of one dictionary after another."""
    found = []
    for name, dictionary in opened.dictionaries.items():
        mine = [(span, batch) for span, its, batch in opened.samples if its == name]
        if mine:
            order = arrival_order([(span, batch["timestamp_ns"]) for span, batch in mine])
            found.append((dictionary, np.concatenate([batch for _, batch in mine])[order]))
    return found
