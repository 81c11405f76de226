"""Who opened or was given what, on the owner's page: as a bundle from the region says it. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.owner.page.html import Html, Page, join, tag
from agent.owner.page.tables import table

if TYPE_CHECKING:
    from agent.owner.page.story import Story


def openings(story: Story, page: Page) -> Html:
    """Return the table; nothing if the bundle does not say."""
    if story.openings is None:
        return Html("")
    rows = [
        (_time(page, one["at"]), _who(page, one), _span(page, one), _why(one))
        for one in story.openings
    ]
    return join(
        (
            tag("h3", page.text("openings")),
            table(page, ("when", "opened_by", "opened_span", "why"), rows)
            if rows else tag("p", page.text("openings_none"), class_="none"),
            tag("p", page.text("openings_word"), class_="none"),
        )
    )  # fmt: skip


def _who(page: Page, one: Mapping[str, Any]) -> str:
    match one.get("kind"):
        case "request":
            return page.text("opened_request", kid=one.get("kid", ""))
        case "order":
            return page.text(
                "opened_order", authority=one.get("authority", ""), officer=one.get("officer", "")
            )
    return page.text("opened_region", who=one["who"])


def _why(one: Mapping[str, Any]) -> str:
    """Return the reason, and of an order the law that it names."""
    return ": ".join(str(part) for part in (one.get("basis", ""), one["reason"]) if part)


def _span(page: Page, one: Mapping[str, Any]) -> Html | str:
    begin, end = str(one["from"]), str(one["to"])
    if not all(_is_moment(text) for text in (begin, end)):
        return page.text("to", begin=_end(page, begin), end=_end(page, end))
    return page.span(int(begin), int(end))


def _end(page: Page, said: str) -> str:
    return page.local(int(said), parts="seconds") if _is_moment(said) else page.text(
        "log_begin" if said == "begin" else "log_end"
    )  # fmt: skip


def _is_moment(said: str) -> bool:
    """Return whether it is ns since the Unix epoch, before the year 2262."""
    return said.isascii() and said.isdecimal() and len(said) < 20 and int(said) < 1 << 63


def _time(page: Page, said: str) -> Html | str:
    try:
        at = dt.datetime.fromisoformat(said)
    except ValueError:
        return said
    if at.tzinfo is None:
        return said
    past = at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return page.time((past.days * 86_400 + past.seconds) * 10**9, parts="seconds")
