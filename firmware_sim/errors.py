"""Errors of the simulator: one line each, with the exit code of the command that fails with it."""

from __future__ import annotations


class SimError(Exception):
    """Something that the person at the command line can put right.

    Args:
        text: what, where, what to do; lower case, one line.
    """

    exit_code = 2


class OutputError(SimError):
    """An output that cannot be opened or written now; trying again later may work."""

    exit_code = 75
