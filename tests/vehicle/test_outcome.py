"""What judges the outcome of a drive sees a loss, a double and a wrong order."""

from __future__ import annotations

import pytest

from tests.vehicle.outcome import judge


def test_all_once_in_order_is_well():
    judge([0, 1, 2], 3)


@pytest.mark.parametrize(
    "found", [[0, 2], [0, 1], [0, 1, 1, 2], [0, 2, 1], [0, 1, 2, 3]],
    ids=["hole", "end", "double", "order", "stranger"],
)  # fmt: skip
def test_anything_else_is_not(found: list[int]):
    with pytest.raises(AssertionError):
        judge(found, 3)
