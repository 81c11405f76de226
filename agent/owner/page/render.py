"""The owner's page: one HTML file that loads nothing, for the screen, the phone and paper. Pure.

- Whatever comes from data is escaped (html.py), and the page's own policy forbids every
  script but the one that is in it, by its hash, and every load.
- Without that script all is there: it only reads values off the curves under the pointer.
- Everything that is said is said again in the files beside it, for programs.
"""

from __future__ import annotations

import base64
from typing import Final

from agent.digest import sha256
from agent.owner.page.html import Html, Page, join, tag
from agent.owner.page.incidents import incidents
from agent.owner.page.matrix import matrix
from agent.owner.page.parts import losses, overview, sent, timelines, verdict
from agent.owner.page.story import Story

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
