"""The incidents of the owner's page: facts, values at the event, curves around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent.owner.page.charts import Window, chart
from agent.owner.page.html import Html, Page, join, number, tag
from agent.owner.page.tracks import pick
from agent.owner.page.words import CLOCKS

if TYPE_CHECKING:
    from agent.owner.page.story import Story

S: Final = 10**9
NEAR_BEFORE_NS: Final = 20 * S  # notes of regulators look at 20 s before
NEAR_AFTER_NS: Final = 10 * S
QUIET_NS: Final = 60 * S  # of routine samples around an event that holds nothing


def incidents(story: Story, page: Page) -> Html:
    """Return every incident, in order."""
    if not story.events:
        return tag("p", page.text("incidents_none"))
    return join(_incident(story, page, event, at) for at, event in enumerate(story.events, 1))


def stamp_ns(event: Mapping[str, Any]) -> int:
    """Return the moment of an event or a trigger, ns since the Unix epoch."""
    seconds, _, micros = str(event["unix"]).lstrip("-").partition(".")
    found = int(seconds) * S + int(micros.ljust(6, "0")) * 1000
    return -found if str(event["unix"]).startswith("-") else found


def _incident(story: Story, page: Page, event: Mapping[str, Any], at: int) -> Html:
    when = stamp_ns(event)
    return tag(
        "article",
        tag("h3", tag("span", at, class_="no"), event["rule"], " ",
            tag("small", page.time(when))),
        "" if event["complete"]
        else tag("p", page.text("incomplete" if event["held"] else "not_over"), class_="warn"),
        _facts(page, event),
        *_charts(story, page, event, when),
        _snapshot(page, event),
        id=f"incident-{at}", class_="incident",
    )  # fmt: skip


def _facts(page: Page, event: Mapping[str, Any]) -> Html:
    before, after = (round(event[key] * S) for key in ("before_s", "after_s"))
    held = page.text("held_none")
    if before or after:
        held = page.text("held_text", before=page.duration(before), after=page.duration(after))
    facts: list[tuple[str, object]] = [
        ("trigger", tag("code", event["trigger"])),
        ("held", held),
        ("triggers", event["triggers"] if event["triggers"] > 1 else ""),
        ("since", page.duration(round((event["since_previous_s"] or 0) * S))
         if event["since_previous_s"] else ""),
        ("clock", page.word(CLOCKS, event["clock"])),
        ("decided_by", f"{event['policy']} {page.text('version')} {event['policy_version']}"),
        ("agent", f"inland {event['agent_version']}"),
        ("entry", join(("", event["entry"], " · ", tag("code", event["log"][:16])))),
    ]  # fmt: skip
    return tag(
        "dl",
        join(tag("div", tag("dt", page.text(key)), tag("dd", said)) for key, said in facts if said),
        class_="facts",
    )


def _charts(story: Story, page: Page, event: Mapping[str, Any], when: int) -> list[Html]:
    before, after = (round(event[key] * S) for key in ("before_s", "after_s"))
    if not before and not after:
        before = after = QUIET_NS
    if not event["complete"]:  # what is here of the time after it is drawn all the same
        after = max(after, NEAR_AFTER_NS)
    window = Window(when, when - before, when + after)
    tracks = pick(story.signals, story.plot, window.begin_ns, window.end_ns)
    if all(track.series is None for track in tracks):
        return [tag("p", page.text("no_tracks"), class_="none")]
    near = Window(when, when - min(before, NEAR_BEFORE_NS), when + min(after, NEAR_AFTER_NS))
    found = [chart(page, tracks, near, page.text("near"))]
    if near != window:
        found.append(chart(page, tracks, window, page.text("whole")))
    return found


def _snapshot(page: Page, event: Mapping[str, Any]) -> Html:
    if not event["snapshot"]:
        return Html("")
    rows = []
    for value in event["snapshot"]:
        said = page.text("missing") if value.get("missing") else _value(value)
        age = "" if value.get("missing") else page.duration(round(value["age_s"] * S))
        rows.append(tag("tr", tag("td", value["signal"]), tag("td", said, class_="num"),
                        tag("td", age, class_="num")))  # fmt: skip
    heads = [tag("th", page.text("signal"))]
    heads += [tag("th", page.text(key), class_="num") for key in ("value", "age")]
    return tag(
        "details",
        tag("summary", page.text("snapshot")),
        tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="small"),
        open=True,
    )


def _value(value: Mapping[str, Any]) -> str:
    physical = value.get("value", value["raw"])
    said = physical if isinstance(physical, str) else number(float(physical))
    said += f" {value['unit']}" if value.get("unit") else ""
    return f"{value['label']} ({said})" if "label" in value else said
