"""The keys that a [[bus]] may have: a misspelt one must not pass as one that has no effect.

python-can hands unknown keys on to its drivers, most of which swallow them: a bus would run at the
wrong bitrate and nobody would know why.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent.errors import ConfigError
from agent.units import nearest

# What python-can's `can.Bus` itself understands, before any driver, and our own `name`.
COMMON_KEYS: Final = ("can_filters", "channel", "fd", "ignore_config", "interface", "name")
# Bit timing, which some drivers take whole, as python-can's BitTiming and BitTimingFd name it.
TIMING_KEYS: Final = (
    "bitrate", "data_bitrate", "timing", "f_clock", "f_clock_mhz", "brp", "sjw", "tseg1", "tseg2",
    "nom_brp", "nom_sjw", "nom_tseg1", "nom_tseg2", "data_brp", "data_sjw", "data_tseg1",
    "data_tseg2",
)  # fmt: skip


def check_keys(settings: Mapping[str, Any], valid: Iterable[str], where: str) -> None:
    """Check that every key of a bus is one that its interface takes.

    Raises:
        ConfigError: it is not; names the nearest one that is.
    """
    known = set(valid)
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}' for interface {settings.get('interface', '')}",
                where=where, todo=nearest(key, known),
            )  # fmt: skip


def driver_keys(driver: type) -> set[str]:
    """Return the keys that a driver of python-can takes.

    These are the parameters of its constructor and of those it is derived from, and the words in
    their code: some drivers fetch keys from `kwargs` by name.
    """
    found = {*COMMON_KEYS, *TIMING_KEYS}
    for base in driver.__mro__:
        init = vars(base).get("__init__")
        if not inspect.isfunction(init):
            continue
        found |= {
            name
            for name, parameter in inspect.signature(init).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        found |= {
            word
            for word in init.__code__.co_consts
            if isinstance(word, str) and word.isidentifier()
        }
    return found - {"self", "args", "kwargs"}
