"""Policies that ask for consents, as plain values, for the tests of consent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.digest import sha256
from agent.pb import sealed_pb2
from agent.policy.clauses import (
    DRIVING_OFF,
    PARKED_OWNER,
    Camera,
    ConsentTerm,
    FrameSelector,
    SignalSelector,
    Why,
)
from agent.policy.model import Policy, Rule, RuleOf, SignalInfo, SignalLayout

REGION = "urn:inland:region:cn"
NOW_NS = 1_800_000_000 * 10**9
DAY_NS = 86_400 * 10**9
TRACK, IMAGE, PARKED = "location.track", "exterior.image", "exterior.parked"
NAMES = ("Latitude", "Longitude", "Speed")
ANY_FRAMES = FrameSelector("can0", 0x100, 0x1FF, extended=False, every_id=False)


def rule(name: str, **more: Any) -> Rule:
    """A rule that needs consent to location.track, but for what `more` says."""
    fields: dict[str, Any] = {
        "id": name, "category": TRACK, "purpose": "navigation", "basis": "consent",
        "necessity": "a test", "recipients": sealed_pb2.REGION, "lane": sealed_pb2.ROUTINE,
        "keep_s": 86_400, "frames": (),
        "signals": (SignalSelector("*", 0), SignalSelector("*", 1)), "every_ns": 10**10,
        "on_change": False, "resolution_ns": 1000, "order": False, "flush_ns": 10**9,
        "space_m": 100,
    }  # fmt: skip
    return RuleOf(**(fields | more))


def policy(*rules: Rule, **more: Any) -> Policy:
    """A policy of some rules; by default of one, with a limit of 90 days for its category."""
    fields: dict[str, Any] = {
        "name": "fleet", "version": 7, "region": REGION, "not_after_ns": NOW_NS + 400 * DAY_NS,
        "dictionary": b"", "rules": rules or (rule("track"),),
        "signals": tuple(SignalInfo(one, "M", "", 1.0, 0.0, 0, ()) for one in NAMES),
        "layouts": tuple(
            SignalLayout(0x100 + at, False, 0, 32, False, 0) for at in range(len(NAMES))
        ),
        "consents": (ConsentTerm(TRACK, 90, each_drive=False),),
    }  # fmt: skip
    fields |= more
    # A digest of its own for every policy that differs, as compiled bytes have one.
    return Policy(**fields, digest=sha256(repr(sorted(fields.items())).encode()))


def again(before: Policy, **more: Any) -> Policy:
    """Another policy, like one before it but for what `more` says."""
    after = replace(before, **more)
    return replace(after, digest=sha256(before.digest + repr(sorted(more.items())).encode()))


def parked_camera(**more: Any) -> Camera:
    """[camera] with parked = "owner"."""
    fields: dict[str, Any] = {
        "parked": PARKED_OWNER, "driving": DRIVING_OFF, "trigger": None, "position": None,
        "zones": b"", "margin_m": 500, "exit_ns": 60 * 10**9, "no_fix_ns": 10**10,
        "keep_s": 3600, "at_most": 60,
        "why": Why("owner_access", "consent", "who was at the car", sealed_pb2.OWNER),
    }  # fmt: skip
    return Camera(**(fields | more))
