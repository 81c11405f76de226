"""Filters mean what python-can says they mean."""

import can
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture.filters import SoftwareFilter, pack
from agent.errors import ConfigError
from agent.frames import ERROR, EXTENDED, FRAME

FILTERS = st.lists(
    st.fixed_dictionaries(
        {"can_id": st.integers(0, 0x40), "can_mask": st.integers(0, 0x7F)},
        optional={"extended": st.booleans()},
    ),
    max_size=5,
)
FRAMES = st.lists(st.tuples(st.integers(0, 0x80), st.booleans()), max_size=30)


def batch_of(frames) -> np.ndarray:
    batch = np.zeros(len(frames), FRAME)
    batch["arbitration_id"] = [identifier for identifier, _ in frames]
    batch["flags"] = [EXTENDED * extended for _, extended in frames]
    return batch


class Oracle(can.BusABC):
    def __init__(self) -> None:
        self._filters = None

    def send(self, msg, timeout=None):
        raise NotImplementedError

    def shutdown(self) -> None:
        self._is_shutdown = True


def check(make, filters, frames) -> None:
    oracle = Oracle()
    oracle._filters = filters
    wanted = [
        bool(filters)
        and oracle._matches_filters(can.Message(arbitration_id=identifier, is_extended_id=extended))
        for identifier, extended in frames
    ]
    passed = make(filters)(batch_of(frames))
    oracle.shutdown()
    assert np.array_equal(passed, batch_of(frames)[np.array(wanted, bool)])


@given(FILTERS, FRAMES)
@settings(max_examples=100, deadline=None)
def test_software_filter_agrees_with_python_can(filters, frames) -> None:
    check(SoftwareFilter, filters, frames)


def test_filter_check_catches_one_that_forgets_the_width() -> None:
    def planted(filters):
        return SoftwareFilter([{k: f[k] for k in ("can_id", "can_mask")} for f in filters])

    with pytest.raises(AssertionError):
        check(planted, [{"can_id": 1, "can_mask": 0x7F, "extended": True}], [(1, False)])


def test_none_passes_all_and_error_frames_always_pass() -> None:
    batch = batch_of([(1, False), (2, True)])
    assert SoftwareFilter(None)(batch) is batch
    batch["flags"][0] = ERROR
    assert SoftwareFilter([])(batch)["arbitration_id"].tolist() == [1]


def test_more_than_the_kernel_takes_is_none() -> None:
    assert pack([{"can_id": n, "can_mask": 0x7FF} for n in range(513)]) is None
    assert len(pack([{"can_id": 1, "can_mask": 0x7FF}] * 512) or b"") == 512 * 8


def test_filter_without_a_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="can_mask"):
        pack([{"can_id": 1}])
