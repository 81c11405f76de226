"""What `inland consent` shows: the notice that a person agrees to, and the list."""

from __future__ import annotations

import datetime
from typing import Any, Final

from agent.policy.consent import Book, State, Wanted, wants
from agent.policy.model import Policy
from agent.policy.quantities import duration_text
from agent.policy.vocabulary import CATEGORIES

NS: Final = 10**9
_FOR = {
    "region": "the region",
    "owner": "the owner",
    "shared": "the region or the owner",
    "both": "the region and the owner, only together",
}


def moment(unix_ns: int) -> str:
    """Return a moment, ns since the epoch, for a person."""
    when = datetime.datetime.fromtimestamp(unix_ns // NS, datetime.UTC)
    return when.strftime("%Y-%m-%d %H:%M UTC")


def rows(book: Book, policy: Policy | None, now_ns: int) -> list[dict[str, Any]]:
    """Return where each category stands that the policy asks for, or that the book knows."""
    wanted = wants(policy)
    ended = book.due(now_ns, drive=None, wanted=wanted, widened=book.widened(wanted))
    found = []
    for category in sorted({*wanted, *book.grants}):
        grant, asks = book.grants.get(category), wanted.get(category)
        state = ended.get(category, book.state(category))
        live = grant if state is State.GRANTED else None
        found.append({
            "category": category,
            "state": state.value,
            "since": moment(grant.since_ns) if grant else None,
            "until": moment(live.until_ns) if live else None,
            "each_drive": live.each_drive if live else asks is not None and asks.each_drive,
            "asked": asks is not None,
            "max_days": asks.max_days if asks else None,
        })  # fmt: skip
    return found


def row_text(row: dict[str, Any]) -> str:
    """Return a row for a person."""
    text = f"{row['category']:<20} {row['state'].replace('_', ' ')}"
    if row["until"]:
        text += f" since {row['since']} until {row['until']}"
        text += ", or until the drive ends" if row["each_drive"] else ""
    elif row["since"]:
        text += f" since {row['since']}"
    return text if row["asked"] else text + " (the policy in force does not ask for it)"


def notice(
    policy: Policy, wanted: Wanted, until_ns: int, *, each_drive: bool
) -> list[str]:  # fmt: skip
    """Return what a person is asked to agree to, line by line."""
    category = wanted.terms.category
    lines = [f"Consent to {category}: {CATEGORIES[category].about}",
             f"asked for by the policy {policy.name} version {policy.version}"]  # fmt: skip
    reasons = [rule.necessity for rule in policy.rules
               if rule.category == category and rule.basis == "consent"]  # fmt: skip
    if any(clause.camera for clause in wanted.terms.clauses) and policy.camera is not None:
        reasons.append(policy.camera.why.necessity)
    for clause, reason in zip(wanted.terms.clauses, reasons, strict=True):
        what = [term.name.partition(".")[2] for term in clause.signals]
        what += [f"raw frames {frames}" for frames in clause.frames]
        what += ["the cameras, while the car is parked"] if clause.camera else []
        fine = [f"no finer than {clause.space_m} m"] if clause.space_m else []
        fine += [f"one every {duration_text(clause.time_ns)}"] if clause.time_ns else []
        lines += ["", f"  what      {', '.join([*dict.fromkeys(what), *fine])}",
                  f"  what for  {clause.purpose.replace('_', ' ')}: {reason}",
                  f"  for whom  {_FOR[clause.recipients]}",
                  f"  kept      up to {duration_text(clause.keep_s * NS)} in the car"]  # fmt: skip
    drive = ", or when the drive ends" if each_drive else ""
    return [
        *lines, "",
        f"  it ends   {moment(until_ns)}{drive}",
        f"  to stop   inland consent withdraw {category}: it stops within 2 seconds",
    ]  # fmt: skip
