"""The owner's page: one HTML file that loads nothing, for the screen, the phone and paper. Pure.

- Whatever comes from data is escaped (report_html.py), and the page's own policy forbids every
  script but the one that is in it, by its hash, and every load.
- Without that script all is there: it only reads values off the curves under the pointer.
- Everything that is said is said again in the files beside it, for programs.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.digest import sha256
from agent.evidence.selection import Problem
from agent.owner.chronicle import Chronicle
from agent.owner.presence_matrix import Row
from agent.owner.report_events import incidents
from agent.owner.report_html import Html, Page, join, tag
from agent.owner.report_matrix import matrix
from agent.owner.report_parts import losses, overview, sent, timelines, verdict
from agent.owner.tracks import Signals


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier found.

    Attributes:
        state: "intact", "altered", "undecided" or "unchecked".
        lines: what it says, in its own words.
    """

    state: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that the region has co-signed."""

    log: str
    size: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Story:
    """What a page tells.

    Attributes:
        told: what the ledger says of the time.
        verdict: of the verifier.
        events: of the time, as `records.events_jsonl` has them.
        cameras: triggers, as `records.cameras_jsonl` has them.
        presence: the matrix.
        signals: that can be drawn.
        frames, samples: how many were opened.
        problems: what could not be opened.
        cosigned: by the region, newest last.
        epochs: ownerships that the rows are of.
        made_ns: when the page was made.
        plot: names of the signals to draw; empty: the well-known ones.
        openings: who got what at the region, by its word; None: the bundle does not say.
    """

    told: Chronicle
    verdict: Verdict
    events: Sequence[Mapping[str, Any]]
    cameras: Sequence[Mapping[str, Any]]
    presence: Sequence[Row]
    signals: Signals
    frames: int
    samples: int
    problems: Sequence[Problem]
    cosigned: Sequence[Cosigned]
    epochs: Sequence[int]
    made_ns: int
    plot: Sequence[str] = ()
    openings: Sequence[Mapping[str, Any]] | None = None


SECTIONS: Final = (
    ("verdict", verdict),
    ("overview", overview),
    ("incidents", incidents),
    ("timeline", timelines),
    ("presence", matrix),
    ("sent", sent),
    ("losses", losses),
)


def render(story: Story, page: Page, *, style: str, script: str) -> str:
    """Return the page.

    Args:
        story: what it tells.
        page: its language and zone.
        style: the page's CSS.
        script: the page's script.
    """
    title = page.text("title")
    allowed = base64.b64encode(sha256(script.encode())).decode()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag(
            "meta",
            http_equiv="Content-Security-Policy",
            content=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'",
        ),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", f"{title}: {story.told.vehicle}"),
        tag("style", Html(style)),
    )
    sections = [
        tag("section", tag("h2", page.text(key)), build(story, page), id=key)
        for key, build in SECTIONS
    ]
    contents = [tag("a", page.text(key), href=f"#{key}") for key, _ in SECTIONS]
    body = tag(
        "body",
        tag(
            "header",
            tag("p", page.text("statement"), class_="statement"),
            tag("h1", title),
            _facts(story, page),
            tag("nav", *contents, aria_label=page.text("skip")),
        ),
        tag("main", *sections),
        tag("footer", tag("p", page.text("statement")), tag("p", page.text("foot"))),
        tag("script", Html(script)),
    )
    language = "zh-CN" if page.language == "zh" else "en"
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang=language) + "\n"


def _facts(story: Story, page: Page) -> Html:
    told = story.told
    facts: list[tuple[str, object]] = [
        ("vehicle", told.vehicle),
        ("region", told.region),
        ("time", page.span(told.begin_ns, told.end_ns)),
        ("epoch", ", ".join(map(str, story.epochs))),
        ("made", page.time(story.made_ns, parts="seconds")),
    ]
    return tag(
        "dl",
        join(tag("div", tag("dt", page.text(key)), tag("dd", said)) for key, said in facts if said),
        class_="facts",
    )
