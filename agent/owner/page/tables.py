"""Tables of the owner's page. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from agent.owner.page.html import Html, Page, join, tag
from agent.owner.page.words import DROPS

MAX_LINES: Final = 200  # of a list; the files have all


def table(
    page: Page,
    heads: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    most: int = MAX_LINES,
    **more: str,
) -> Html:
    """Return a table; on a phone each cell says what it is, since there is no room for heads.

    Args:
        page: its language.
        heads: keys of texts; one that ends in "#" is a column of numbers.
        rows: cells.
        most: rows that are shown.
        more: attributes.
    """
    names = [page.text(head.rstrip("#")) for head in heads]
    kinds = ["num" if head.endswith("#") else None for head in heads]
    body = [
        tag("tr", *(_cell(cell, name, kind)
                    for cell, name, kind in zip(row, names, kinds, strict=True)))
        for row in rows[:most]
    ]  # fmt: skip
    head = [tag("th", name, class_=kind) for name, kind in zip(names, kinds, strict=True)]
    said = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body), **more)
    if len(rows) <= most:
        return said
    return join((said, tag("p", page.text("more", count=len(rows) - most), class_="none")))


def _cell(content: object, name: str, kind: str | None) -> Html:
    kinds = [one for one in (kind, None if str(content) else "void") if one]
    return tag("td", tag("div", content), data_k=name, class_=" ".join(kinds) or None)


def removed(page: Page, reasons: Counter[str]) -> str:
    """Return how many segments were removed, by the reason."""
    return ", ".join(
        f"{count:,} × {page.word(DROPS, why)}" for why, count in sorted(reasons.items())
    )
