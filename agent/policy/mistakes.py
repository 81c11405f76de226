"""Collects the mistakes of a policy text, so that whoever writes it sees them all at once.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import PolicyError, PolicyTextError


class Mistakes:
    """What is wrong so far."""

    def __init__(self) -> None:
        self._found: list[PolicyError] = []

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Note a PolicyError of the block and go on behind it; other blocks do not depend on it."""
        try:
            yield
        except PolicyError as error:
            self._found.append(error)

    def end(self) -> None:
        """Raise what was noted.

        Raises:
            PolicyTextError: more than one mistake.
            PolicyError: one.
        """
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise PolicyTextError(self._found)
