"""What the comparisons of `test_disk.py` rest on: a frame that nothing explains is found."""

from __future__ import annotations

import pytest

from tests.vehicle.disk import Seen, missing
from tests.vehicle.explained import Sealed, unexplained

SEEN = [f"({second}.000000) can0 123#{second:02X}" for second in range(1, 9)]
BEGIN, END = tuple(SEEN[:2]), tuple(SEEN[5:])
RANDOM = [f"({second}.0) can0 123##0{second:02X}{'AB' * 63}" for second in range(1, 9)]


def gone(at_s: float, size: int = 9) -> Sealed:
    return Sealed(at_s, size, None)


def came(at_s: float, lines: tuple[str, ...]) -> Sealed:
    return Sealed(at_s, 9, lines)


def test_what_the_region_lacks_is_found():
    assert missing(SEEN, SEEN) == []
    assert missing(SEEN, SEEN[:2] + SEEN[5:]) == SEEN[2:5]


@pytest.mark.parametrize(
    "wrong", [SEEN[::-1], [*SEEN, SEEN[-1]], [SEEN[0].replace("#01", "#03")]],
    ids=["another order", "twice", "never sent"],
)  # fmt: skip
def test_what_was_not_on_the_bus_is_found(wrong: list[str]):
    with pytest.raises(AssertionError):
        missing(SEEN, wrong)
    with pytest.raises(AssertionError):
        unexplained(Seen(SEEN), [came(9.0, tuple(wrong))])


@pytest.mark.parametrize(
    ("segments", "count"),
    [
        ([came(2.5, BEGIN), gone(5.5), came(9.0, END)], 0),
        ([came(2.5, BEGIN), came(9.0, END)], 3),  # in none at all
        ([gone(5.5), came(2.5, BEGIN), came(9.0, END)], 3),  # in none of that place
        ([came(2.5, BEGIN), gone(4.5), came(9.0, END)], 1),  # sealed before the last one came
        ([came(2.5, BEGIN), gone(5.5), came(9.0, (END[0], END[2]))], 1),  # within one that came
        ([came(2.5, BEGIN), gone(5.5)], 3),  # behind all of them
        ([], 8),
    ],
)
def test_frames_that_no_segment_explains_are_counted(segments: list[Sealed], count: int):
    assert unexplained(Seen(SEEN), segments) == count


def test_a_segment_explains_no_more_than_its_bytes_can_hold():
    assert unexplained(Seen(RANDOM), [gone(9.0, 6 * 64)]) == 2
    assert unexplained(Seen(RANDOM), [gone(8.0, 4 * 64), gone(9.0, 4 * 70)]) == 0


def test_moments_are_told_since_the_boot():
    assert unexplained(Seen(SEEN, 2.5), [gone(5.5)]) == 0
    assert unexplained(Seen(SEEN, 1.5), [gone(5.5)]) == 1
