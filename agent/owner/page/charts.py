"""Pictures of the owner's page: curves around an event, and bars of what was when. Pure.

Curves are inline SVG, stretched to the width that there is; the lines keep their width. All text
stands beside them as HTML, so that it is as large on a phone as on a desk, and is never stretched.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from agent.owner.page.html import Html, Page, join, number, tag
from agent.owner.page.tracks import Floats, Ints, Series, Track, breaks, drawn, ticks

WIDTH: Final = 1000  # units of a curve's picture, whatever it is stretched to
HEIGHT: Final = 100
S: Final = 10**9
_TIME_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # s
_MAX_TICKS: Final = 7
MAX_MARKS: Final = 300  # of one line of a timeline


class Window(NamedTuple):
    """What a picture shows of the time around an event."""

    event_ns: int
    begin_ns: int
    end_ns: int

    def x(self, stamp_ns: float) -> float:
        """Return where a moment is, 0 to 1."""
        return (stamp_ns - self.begin_ns) / max(1, self.end_ns - self.begin_ns)


def chart(page: Page, tracks: Sequence[Track], window: Window, title: str) -> Html:
    """Return curves above each other on one axis of time, 0 at the event."""
    drawings = [_track(page, track, window, place) for place, track in enumerate(tracks)]
    return tag(
        "figure",
        tag("figcaption", title),
        tag("div", *drawings, _axis(page, window), class_="tracks"),
        class_="chart",
        data_begin=_seconds(window.begin_ns - window.event_ns),
        data_end=_seconds(window.end_ns - window.event_ns),
    )


def _seconds(ns: int) -> str:
    return f"{ns / S:.3f}".rstrip("0").rstrip(".")


def _track(page: Page, track: Track, window: Window, place: int) -> Html:
    role = page.text(track.role) if track.role else track.name
    if track.series is None:
        return tag(
            "div",
            tag("div", tag("b", role), tag("span", page.text("no_data"), class_="stat"),
                class_="track-head"),
            class_="track empty",
        )  # fmt: skip
    series = track.series.between(window.begin_ns, window.end_ns)
    if not len(series.stamps_ns):
        return _track(page, Track(track.role, track.name, None), window, place)
    stamps, values = drawn(series.stamps_ns, series.values, window.begin_ns, window.end_ns)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    marks = ticks(min(low, 0.0) if low < 0.6 * high else low, high)
    heights = [HEIGHT * (marks[-1] - mark) / (marks[-1] - marks[0]) for mark in marks]
    grid = "".join(f"M0 {at:.1f}H{WIDTH}" for at in heights)
    times = [WIDTH * window.x(window.event_ns + one * S) for one in _marks(window)[0]]
    grid += "".join(f"M{at:.1f} 0V{HEIGHT}" for at in times)
    x = WIDTH * (stamps - window.begin_ns) / max(1, window.end_ns - window.begin_ns)
    y = HEIGHT * (marks[-1] - values) / (marks[-1] - marks[0])
    zero = WIDTH * window.x(window.event_ns)
    svg = tag(
        "svg",
        tag("rect", x=0, y=0, width=f"{zero:.1f}", height=HEIGHT, class_="before"),
        tag("path", d=grid, class_="grid"),
        tag("path", d=_path(x, y, breaks(stamps), steps=series.steps), class_="curve"),
        tag("line", x1=f"{zero:.1f}", x2=f"{zero:.1f}", y1=0, y2=HEIGHT, class_="event"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img",
        aria_label=f"{role} {track.name}",
    )  # fmt: skip
    labels = [
        tag("span", _label(series, mark), style=f"top:{at:.1f}%")
        for mark, at in zip(marks, heights, strict=True)
    ]
    return tag(
        "div",
        _head(page, role, series, window.event_ns, (low, high)),
        tag("div", tag("div", *labels, class_="ys"), svg, tag("i", class_="cursor"),
            class_="plot"),
        class_=f"track c{place % 6}",
        data_low=f"{marks[0]:.12g}", data_high=f"{marks[-1]:.12g}", data_unit=series.info.unit,
    )  # fmt: skip


def _label(series: Series, mark: float) -> str:
    labels = dict(series.info.choices)
    scale, offset = series.info.factor, series.info.offset
    raw = round((mark - offset) / scale) if scale else 0
    return labels.get(raw) or number(mark) if labels else number(mark)


def _head(
    page: Page, role: str, series: Series, event_ns: int, bounds: tuple[float, float]
) -> Html:
    keys, values = ("at_event", "lowest", "highest"), (series.at(event_ns), *bounds)
    facts = [(page.text(key), value) for key, value in zip(keys, values, strict=True)]
    said = join(
        (
            join((label, " ", tag("b", _label(series, value))))
            for label, value in facts
            if value is not None
        ),
        " · ",
    )
    unit = f" {series.info.unit}" if series.info.unit else ""
    name = series.info.name
    more = tag("span", name, class_="sig") if name != role else ""
    return tag(
        "div",
        tag("b", role),
        more,
        tag("span", said, unit, class_="stat"),
        tag("output"),
        class_="track-head",
    )


def _path(x: Floats, y: Floats, cuts: Ints, *, steps: bool) -> str:
    """Return the curve; a lone sample between two breaks is a dot."""
    parts = []
    for xs, ys in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
        points = list(zip(xs.tolist(), ys.tolist(), strict=True))
        if not points:
            continue
        text = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
        for at, height in points[1:]:
            text.append(f"H{at:.1f}V{height:.1f}" if steps else f"L{at:.1f} {height:.1f}")
        if len(points) == 1:
            text.append("h.01")
        parts.append("".join(text))
    return "".join(parts)


def _marks(window: Window) -> tuple[list[int], int]:
    """Return the marks of the axis and how far they are apart, s from the event."""
    begin, end = (window.begin_ns - window.event_ns) / S, (window.end_ns - window.event_ns) / S
    step = next((s for s in _TIME_STEPS if (end - begin) / s <= _MAX_TICKS), 7200)
    return [one * step for one in range(math.ceil(begin / step), int(end // step) + 1)], step


def _axis(page: Page, window: Window) -> Html:
    marks, step = _marks(window)
    spans = []
    for one in marks:
        x = window.x(window.event_ns + one * S)
        edge = "left" if x < 0.03 else "right" if x > 0.97 else "zero" if one == 0 else None
        spans.append(tag("span", _relative(one, step), style=f"left:{100 * x:.2f}%", class_=edge))
    return tag("div", *spans, class_="xs", title=page.text("seconds"))


def _relative(seconds: int, step: int) -> str:
    if seconds == 0:
        return "0"
    sign, rest = "−" if seconds < 0 else "+", abs(seconds)
    return f"{sign}{rest // 60} min" if step >= 60 else f"{sign}{rest} s"


class Bar(NamedTuple):
    """A stretch of a timeline's line."""

    begin_ns: int
    end_ns: int
    kind: str
    label: str


class Mark(NamedTuple):
    """A moment on a timeline's line."""

    at_ns: int
    kind: str
    label: str


def timeline(
    page: Page,
    lines: Sequence[tuple[str, Sequence[Bar], Sequence[Mark]]],
    begin_ns: int,
    end_ns: int,
) -> Html:
    """Return lines of bars and marks on one axis of the time of day."""
    window = Window(begin_ns, begin_ns, end_ns)
    rows = []
    for name, bars, marks in lines:
        pieces = [
            tag(
                "i", class_=f"bar {bar.kind}", title=bar.label,
                style=f"left:{100 * window.x(bar.begin_ns):.2f}%;"
                f"width:{100 * (window.x(bar.end_ns) - window.x(bar.begin_ns)):.2f}%",
            )
            for bar in bars
        ]  # fmt: skip
        pieces += [
            tag("i", class_=f"mark {mark.kind}", title=mark.label,
                style=f"left:{100 * window.x(mark.at_ns):.2f}%")
            for mark in thinned(marks, begin_ns, end_ns)
        ]  # fmt: skip
        rows.append(tag("div", tag("span", name), tag("div", *pieces), class_="lane"))
    count = 5
    axis = [
        tag("span", page.clock(begin_ns + (end_ns - begin_ns) * at // (count - 1)),
            style=f"left:{100 * at / (count - 1):.2f}%")
        for at in range(count)
    ]  # fmt: skip
    return tag(
        "div", *rows, tag("div", tag("span", ""), tag("div", *axis, class_="xs"), class_="lane"),
        class_="timeline",
    )  # fmt: skip


def thinned(marks: Sequence[Mark], begin_ns: int, end_ns: int) -> list[Mark]:
    """Return one mark of each kind for each place, with how many it stands for."""
    width = max(1, (end_ns - begin_ns) // MAX_MARKS)
    found: dict[tuple[int, str], list[Mark]] = {}
    for mark in marks:
        found.setdefault(((mark.at_ns - begin_ns) // width, mark.kind), []).append(mark)
    return [
        some[0]._replace(label=some[0].label + (f" (+{len(some) - 1})" if len(some) > 1 else ""))
        for some in found.values()
    ]
