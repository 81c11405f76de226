"""The presence matrix of the owner's page. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent.owner.page.html import Html, Page, join, tag
from agent.owner.page.tables import removed, table
from agent.owner.page.words import REASONS, STATES, WHOM
from agent.owner.presence_matrix import NO_RULE, Row

if TYPE_CHECKING:
    from agent.owner.page.story import Story

_ORDER: Final = (
    "removed",
    "not here",
    "sealed to others",
    "not asked for",
    "not recorded",
    "present",
)


def matrix(story: Story, page: Page) -> Html:
    """Return the presence matrix: what is not there comes first."""
    named = [row for row in story.presence if row.state != NO_RULE]
    rows = sorted(named, key=lambda row: _ORDER.index(row.state))
    counts = Counter(row.state for row in story.presence)
    pills = [
        tag("span", f"{counts[state]} {page.word(STATES, state)}", class_=f"pill {_slug(state)}")
        for state in (*_ORDER, NO_RULE)
        if counts[state]
    ]
    asked_ns = story.told.end_ns - story.told.begin_ns
    heads = ("signal", "state", "samples#", "rate#", "gap#", "seen", "named_by")
    cells = [_cells(page, row, asked_ns) for row in rows]
    return join(
        (
            tag("p", page.text("presence_more")),
            tag("p", *pills, class_="pills"),
            table(page, heads, cells, most=len(cells), class_="matrix"),
            _unnamed(page, [row for row in story.presence if row.state == NO_RULE]),
        )
    )


def _unnamed(page: Page, rows: Sequence[Row]) -> Html:
    if not rows:
        return Html("")
    names = [f"{row.info.message}.{row.info.name}" for row in rows]
    title = f"{len(rows)} {page.word(STATES, NO_RULE)}"
    items = [tag("li", name) for name in names]
    return tag("details", tag("summary", title), tag("ul", *items, class_="names"))


def _cells(page: Page, row: Row, asked_ns: int) -> tuple[object, ...]:
    unit = f" [{row.info.unit}]" if row.info.unit else ""
    state = tag("span", page.word(STATES, row.state), class_=f"pill {_slug(row.state)}")
    # A reason that holds all the time needs no length.
    more = [
        page.word(REASONS, name) + (f" ({page.duration(ns)})" if ns < 0.98 * asked_ns else "")
        for name, ns in row.reasons
    ]
    if row.gone:
        more.append(f"{page.text('removed')}: {removed(page, row.gone)}")
    clauses = list(dict.fromkeys(one.clause for one in row.namings if one.clause))
    who = sorted({one.recipients for one in row.namings if one.clause})
    count, rate, gap, when = "", "", "", ""
    if (seen := row.seen) is not None:
        count = f"{seen.count:,}"
        rate = f"{seen.rate_hz:.3g} Hz" if seen.rate_hz else ""
        gap = page.duration(seen.gap_ns) if seen.gap_ns else ""
        when = f"{page.clock(seen.first_ns)} – {page.clock(seen.last_ns)}"
    return (
        join((tag("b", row.info.name), unit, tag("small", row.info.message))),
        join((state, tag("small", "; ".join(more)))),
        count, rate, gap, when,
        join((", ".join(clauses) or page.text("nobody"),
              tag("small", "; ".join(page.word(WHOM, name) for name in who)))),
    )  # fmt: skip


def _slug(state: str) -> str:
    return state.replace(" ", "-")
