"""Which sealed segments can hold data of a category, as far as it shows from outside. Pure.

What is in a segment is sealed. Who has no key knows for whom it is sealed, its lane and the policy
that decided, and the car the consent it is kept under: so they know which rules can have filled it.
A segment is left out if all of these are of other categories; one that rules of several categories
share goes along whole.
"""

from __future__ import annotations

from typing import Final

from agent.errors import ConfigError
from agent.pb import sealed_pb2
from agent.policy.headings import CAMERA
from agent.policy.model import Policy, rule_set_of
from agent.policy.vocabulary import CATEGORIES, EVENT_RECORD, PARKED

KNOWN: Final = (*CATEGORIES, CAMERA)


def check(categories: tuple[str, ...]) -> None:
    """Refuse a category that there is none of.

    Raises:
        ConfigError: it names those that there are.
    """
    for one in categories:
        if one not in KNOWN:
            known = ", ".join(sorted(KNOWN))
            raise ConfigError(f"no category '{one}'", where="--category", todo=f"there are {known}")


def possible(
    policy: Policy | None, recipients: int, lane: int, consent: str | None
) -> frozenset[str]:
    """Return the categories that a segment can hold data of; empty: it cannot be told.

    Args:
        policy: that decided; None: it cannot be read.
        recipients: sealed_pb2.Recipients of its session.
        lane: sealed_pb2.Lane.
        consent: category of the consent that it is kept under, "" if none; None: not known here.
    """
    if lane == sealed_pb2.RECORDER:
        return frozenset({EVENT_RECORD.name})
    if policy is None:
        return frozenset()
    found = {
        rule.category
        for rule in policy.rules
        if (rule.recipients, rule.lane) == (recipients, lane)
        and consent in (None, rule_set_of(rule).consent)
    }
    if lane in (sealed_pb2.INCIDENT, sealed_pb2.EVENT) and policy.events:
        found.add(EVENT_RECORD.name)
    if lane == sealed_pb2.EVENT and policy.camera is not None:
        found |= {CAMERA, PARKED.name}
    return frozenset(found)
