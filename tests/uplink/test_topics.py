from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.uplink import topics
from tests.pki import REGION, VEHICLE


def test_names() -> None:
    assert topics.up(REGION, VEHICLE, "incident") == f"inland/1/north/up/{VEHICLE}/incident"
    assert topics.down(REGION, VEHICLE, topics.RECEIPT) == f"inland/1/north/down/{VEHICLE}/receipt"


def test_unknown_lane_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="is no lane"):
        topics.up(REGION, VEHICLE, "recorder/#")


@settings(max_examples=50)
@given(st.text("abc/+#\0 -é", max_size=50))
def test_no_text_reaches_into_another_topic(text: str) -> None:
    """A wildcard or a slash in an id would listen to, or write for, other vehicles."""
    for region, vehicle in ((f"urn:inland:region:{text}", VEHICLE), (REGION, text)):
        try:
            topic = topics.down(region, vehicle, "receipt")
        except ConfigError:
            continue
        assert topic.count("/") == 5
        assert not set("+#\0") & set(topic)
