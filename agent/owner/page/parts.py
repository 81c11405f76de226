"""Sections of the owner's page but for its incidents. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from agent.enum_names import name_of
from agent.owner.chronicle import Shelf, Told, drop_name
from agent.owner.page.charts import Bar, Mark, timeline
from agent.owner.page.html import Html, Page, join, size, tag
from agent.owner.page.incidents import stamp_ns
from agent.owner.page.openings import openings
from agent.owner.page.tables import removed, table
from agent.owner.page.words import (
    BUSES,
    CHANGES,
    CONSENTS,
    DROPS,
    EVENTS,
    GATES,
    LANES,
    LOSSES,
    WHOM,
)
from agent.owner.presence_matrix import PRESENT
from agent.pb import ledger_pb2
from agent.policy.words import CATEGORIES

if TYPE_CHECKING:
    from agent.owner.page.story import Story

MAX_OPEN: Final = 12  # a longer list is closed until somebody wants it, or prints


def verdict(story: Story, page: Page) -> Html:
    """Return what the verifier found."""
    found = story.verdict
    return join(
        (
            tag("p", tag("b", page.text(found.state)), tag("br"), page.text(f"{found.state}_more"),
                class_=f"verdict {found.state}"),
            tag("ul", *(tag("li", line) for line in found.lines), lang="en", class_="lines")
            if found.lines else "",
            tag("p", *_coded(page.text("check_how")), class_="none"),
        )
    )  # fmt: skip


def _coded(text: str) -> list[Html | str]:
    """Return a text with what stands between backticks as code."""
    return [tag("code", part) if at % 2 else part for at, part in enumerate(text.split("`"))]


def overview(story: Story, page: Page) -> Html:
    """Return the figures, and the policies."""
    rows = [row for row in story.presence if row.namings]
    present = sum(row.state == PRESENT for row in rows)
    lost = sum(one.what.loss.count for one in story.told.of("loss"))
    figures = [
        (len(story.events), "incidents", ""),
        (story.frames, "frames", ""),
        (story.samples, "samples", ""),
        (present, "signals_present", page.text("signals_of", count=len(rows))),
        (sum(one["count"] for one in story.cameras), "camera_triggers", ""),
        (lost, "lost", ""),
    ]
    cards = [
        tag("li", tag("b", f"{count:,}"), tag("span", page.text(key)), tag("small", more))
        for count, key, more in figures
    ]
    decided = [
        (
            f"{one.name} {page.text('version')} {one.version}" if one.digest
            else page.text("no_policy"),
            page.span(one.begin_ns, one.end_ns),
            tag("code", one.digest.hex()[:16]) if one.digest else "",
        )
        for one in story.told.policies
    ]  # fmt: skip
    return join(
        (
            tag("ul", *cards, class_="cards"),
            tag("p", *_coded(page.text("copies", count=story.copies)), class_="none")
            if story.copies else "",
            tag("h3", page.text("policies")),
            table(page, ("policy", "in_force", "fingerprint"), decided),
        )
    )  # fmt: skip


def timelines(story: Story, page: Page) -> Html:
    """Return when cameras were triggered and what the gate said, and when consents were given."""
    told = story.told
    bars = [Bar(*span, "awake", page.text("awake")) for span in told.awake]
    events = [Mark(stamp_ns(one), "event", str(one["rule"])) for one in story.events]
    lines: list[tuple[str, list[Bar], list[Mark]]] = [(page.text("awake"), bars, [])]
    if events:
        lines.append((page.text("incidents"), [], events))
    for gate in ("open", "closed"):
        marks = [
            Mark(stamp_ns(one), gate, _trigger(page, one))
            for one in story.cameras
            if one["gate"] == gate
        ]
        if marks:
            lines.append((page.text(f"gate_{gate}"), [], marks))
    for category, spans in sorted(told.consented.items()):
        if not spans:
            continue
        words = page.word(CATEGORIES, category)
        lines.append((words, [Bar(*span, "consent", words) for span in spans], []))
    changes = [
        (page.time(one.at_ns, parts="seconds"), page.word(CATEGORIES, one.what.consent.category),
         _consent(page, one.what.consent))
        for one in told.of("consent")
    ]  # fmt: skip
    shots = [
        (page.time(stamp_ns(one)), one.get("camera_label", one["camera"]),
         _gate(page, one), one.get("reason_label", one["reason"]), one["count"])
        for one in story.cameras
    ]  # fmt: skip
    return join(
        (
            timeline(page, lines, told.begin_ns, told.end_ns),
            _shots(page, shots),
            tag("h3", page.text("consents")),
            table(page, ("when", "category", "state"), changes)
            if changes else tag("p", page.text("no_consents"), class_="none"),
        )
    )  # fmt: skip


def _shots(page: Page, shots: Sequence[Sequence[object]]) -> Html:
    if not shots:
        return tag("p", page.text("no_cameras"), class_="none")
    title = f"{page.text('camera_triggers')} ({len(shots)})"
    said = table(page, ("when", "camera", "gate", "why", "count#"), shots)
    return tag("details", tag("summary", title), said, open=len(shots) <= MAX_OPEN)


def _trigger(page: Page, shot: Any) -> str:
    return f"{page.clock(stamp_ns(shot))} {shot.get('camera_label', shot['camera'])}"


def _gate(page: Page, shot: Any) -> Html:
    said = page.text(shot["gate"])
    if shot["gate"] == "closed":
        said += f": {page.word(GATES, shot['why'])}"
        said += f" ({shot['zone_class']})" if "zone_class" in shot else ""
    return tag("span", said, class_=f"pill {shot['gate']}")


def _consent(page: Page, change: ledger_pb2.ConsentChange) -> Html:
    name = name_of(ledger_pb2.ConsentChange.State, change.state)
    said = page.word(CONSENTS, name)
    if change.state != ledger_pb2.ConsentChange.GRANTED:
        return tag("span", said)
    until = page.local(change.until_unix_ns, parts="minutes")
    return tag("span", f"{said} ({page.text('until')} {until})")


def sent(story: Story, page: Page) -> Html:
    """Return what was sealed for whom, on which lane, and where it went."""
    rows = [
        (
            page.word(WHOM, who), page.word(LANES, lane), f"{shelf.segments:,}",
            size(shelf.sealed_bytes), f"{shelf.here:,}", _fate(page, shelf),
            _where(page, lane, shelf),
        )
        for (who, lane), shelf in sorted(story.told.shelves.items())
    ]  # fmt: skip
    heads = ("whom", "lane", "segments#", "bytes#", "here#", "rest", "where")
    notes = [
        tag("p", page.text("cosigned", log=one.log, size=f"{one.size:,}",
                           time=page.local(one.at_ns, parts="seconds")))
        for one in story.cosigned
    ]  # fmt: skip
    notes = notes or [tag("p", page.text("not_cosigned"))]
    return join((table(page, heads, rows), *notes, openings(story, page), _people(story, page)))


def _people(story: Story, page: Page) -> Html:
    """Return who was enrolled, and who drove: by their keys, since the ledger has no names."""
    rows = []
    for one in story.told.of("owner"):
        change = one.what.owner
        what = name_of(ledger_pb2.OwnerChange.What, change.what)
        role = name_of(ledger_pb2.OwnerChange.Role, change.role) if change.role else ""
        said = f"{page.word(CHANGES, role)}: " if role else ""
        when = page.time(one.at_ns, parts="seconds")
        rows.append((when, said + page.word(CHANGES, what), tag("code", change.kid.hex())))
    if not rows:
        return Html("")
    return join((tag("h3", page.text("people")), table(page, ("when", "what", "key"), rows)))


def _fate(page: Page, shelf: Shelf) -> str:
    """Return what became of the segments that cannot be read here."""
    counts = [(shelf.closed, "for_others"), (shelf.left_out, "left_out"), (shelf.absent, "absent")]
    said = [f"{count:,} {page.text(key)}" for count, key in counts if count]
    if shelf.removed:
        said.append(f"{page.text('removed')}: {removed(page, shelf.removed)}")
    return "; ".join(said)


def _where(page: Page, lane: str, shelf: Shelf) -> str:
    if lane != "recorder":
        return page.text("to_region")
    if shelf.held:
        return page.text("in_car_held", count=f"{shelf.held:,}")
    return page.text("in_car")


def losses(story: Story, page: Page) -> Html:
    """Return what was lost, dropped or interrupted: alike things together."""
    found: dict[tuple[str, str], list[tuple[Told, int]]] = {}
    for one in story.told.told:
        said = _loss(page, one)
        if said is not None:
            key, count = said
            found.setdefault((one.kind, key), []).append((one, count))
    rows: list[tuple[object, ...]] = [
        (
            page.word(EVENTS, kind), why, f"{sum(count for _, count in some):,}",
            page.time(some[0][0].at_ns, parts="seconds"),
            page.time(some[-1][0].at_ns, parts="seconds") if len(some) > 1 else "",
        )
        for (kind, why), some in found.items()
    ]  # fmt: skip
    problems = [(page.word(EVENTS, one.kind), one.where, one.why) for one in story.problems]
    if not rows and not problems:
        return tag("p", page.text("losses_none"))
    return join(
        (
            table(page, ("what", "why", "how_much#", "from", "till"), rows) if rows else "",
            tag("h3", page.text("problem")) if problems else "",
            table(page, ("what", "where", "why"), problems) if problems else "",
        )
    )


def _loss(page: Page, one: Told) -> tuple[str, int] | None:
    """Return (why, how many) of something that was lost; None: nothing was."""
    what, found = one.what, None
    match one.kind:
        case "loss":
            cause = name_of(ledger_pb2.Loss.Cause, what.loss.cause)
            bus = f"{what.loss.channel}: " if what.loss.channel else ""
            found = bus + page.word(LOSSES, cause), what.loss.count
        case "drop":
            count = sum(part.last - part.first + 1 for part in what.drop.range)
            found = page.word(DROPS, drop_name(what.drop.reason)), count
        case "clock":
            step_s = (what.clock.to_unix_ns - what.clock.from_unix_ns) / 1e9
            found = f"{step_s:+,.0f} s", 1
        case "gap":
            found = what.gap.why, max(1, what.gap.size)
        case "bus" if what.bus.state != "up":
            name = page.word(BUSES, what.bus.state)
            found = f"{what.bus.channel}: {name}", max(1, what.bus.count)
        case "boot" if not what.boot.clean:
            found = f"inland {what.boot.version}", 1
        case "refusal":
            found = f"{what.refusal.what}: {what.refusal.code}", what.refusal.count
        case "transfer":
            epochs = {"before": what.transfer.from_epoch, "after": what.transfer.to_epoch}
            bodies = sum(one.bodies for one in what.transfer.erased)
            found = page.text("epochs", **epochs), bodies
        case "incident" if what.incident.state == ledger_pb2.Incident.SUPPRESSED:
            found = page.text("at_most"), max(1, what.incident.count)
    return found
