"""The owner's page with its style and its script, which are files of the package."""

from __future__ import annotations

import datetime as dt
from importlib.resources import files

from agent.owner.page.html import Page
from agent.owner.page.render import render
from agent.owner.page.story import Story
from agent.policy.words import Language


def page_of(story: Story, *, language: Language, zone: dt.tzinfo) -> str:
    """Return the page of a story as one HTML file; see render.py."""
    style, script = (
        files("agent.owner.page").joinpath(name).read_text("utf-8")
        for name in ("page.css", "page.js")
    )
    return render(story, Page(language, zone), style=style, script=script)
