"""Power cuts: an action is ended before each of its operations on the file system, in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

# Everything by which the code under test changes names or makes content durable.
STEPS = (
    (os, "open"), (os, "fsync"), (os, "rename"), (os, "replace"), (os, "mkdir"), (os, "fchmod"),
    (Path, "replace"), (Path, "hardlink_to"), (Path, "unlink"), (Path, "rename"),
)  # fmt: skip
MOST = 200
_OPEN, _WRITES = os.open, os.O_WRONLY | os.O_RDWR | os.O_CREAT


class PowerCutError(BaseException):
    """Nothing of ours may catch it."""


def every_cut(
    tmp_path: Path,
    prepare: Callable[[Path], object],
    action: Callable[[Path], object],
    *,
    stride: int = 1,
) -> Iterator[tuple[Path, bool]]:
    """Yield (folder, whether the action came to its end) for each place to cut, the end last."""
    for after in range(0, MOST, stride):
        folder = tmp_path / f"cut-{after}"
        folder.mkdir()
        prepare(folder)
        left = [after]
        with _cutting(left):
            try:
                action(folder)
                done = True
            except PowerCutError:
                done = False
        yield folder, done
        if done:
            return
    raise AssertionError(f"more than {MOST} operations")


def _cutting(left: list[int]) -> ExitStack:
    stack = ExitStack()

    def wrap(home: object, name: str) -> None:
        real = getattr(home, name)

        def step(*args: Any, **kwargs: Any) -> object:
            if real is _OPEN and not args[1] & _WRITES:
                return real(*args, **kwargs)  # a cut before a look at something changes nothing
            if left[0] <= 0:
                raise PowerCutError  # and again: who is dead cleans nothing up
            left[0] -= 1
            return real(*args, **kwargs)

        stack.enter_context(mock.patch.object(home, name, step))

    for home, name in STEPS:
        wrap(home, name)
    return stack
