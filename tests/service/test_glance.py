"""What a glance at agent.toml shows is what tomllib reads, or nothing."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.service.glance import buses

USUAL = """\
# of this car
state = "/var/lib/inland"
[vehicle]
id = "v-1" # not the VIN

[[bus]]
name = "body"   # "quoted" in a comment
interface = 'socketcan'
channel = "can0"
fd = true

  [[bus]] # the second
interface = "slcan"
bitrate = 500000

[limits]
spool = "512MB"
"""
VALUES = ['"a"', "'b'", '"a" # "b"', '"a # b"', "true", "false", "7", "0", "007", "-1", "1.5", '""',
          "2026-01-01", "[1]", '{a = 1}', '"a" "b"', "inf", "1_000", "", "tru", '"a',
          "0x10"]  # fmt: skip
LINES = [*(f"{key} = {value}" for key in ("channel", "a.b", '"q"', "") for value in VALUES),
         "[[bus]]", "[[bus]]  # x", "[bus]", "[[ bus ]]", '[["bus"]]', "[bus.x]", "[[bus.x]]",
         "[vehicle]", "[[x]]", "bus = []", "bus = [{a = 1}]", "bus.a = 1", "x = [", "]", "'''",
         '"""', "# [[bus]]", 'a = "[[bus]]"', "", " ", "a", 'a = "\\u0041"', "[[bus]]]",
         "\tfd = false"]  # fmt: skip


def read(text: str) -> list[dict[str, object]] | None:
    """What tomllib says; None where it refuses, or where bus is not a list of tables."""
    try:
        found = tomllib.loads(text).get("bus", [])
    except tomllib.TOMLDecodeError:
        return None
    good = isinstance(found, list) and all(isinstance(one, dict) for one in found)
    return found if good else None


def test_the_usual_file_needs_no_more_than_a_glance():
    assert buses(USUAL) == read(USUAL)
    assert len(buses(USUAL) or ()) == 2


@given(st.lists(st.sampled_from(LINES), max_size=8).map("\n".join))
@example("[[bus]]\nchannel = 'a\tb'")
@example("[[bus]]\nchannel = 1\nchannel = 2")
@example("x = [\n[[bus]]\n]")
def test_a_glance_says_what_tomllib_says_or_nothing(text: str):
    """Of a text that tomllib refuses it may say anything: the agent does not start with it."""
    seen, known = buses(text), read(text)
    assert seen is None or known is None or seen == known


@given(st.text(alphabet="[]bus= \n\"'#tre0.{}", max_size=40))
def test_nor_of_other_texts(text: str):
    seen, known = buses(text), read(text)
    assert seen is None or known is None or seen == known


@pytest.mark.parametrize(
    "text",
    ["bus = [{channel = 'can0'}]", "[[ bus ]]", '[["bus"]]', "[[bus]]\nchannel = 'a\\tb'",
     "[[bus]]\nchannel = [\n'a']", "[[bus]]\nx.y = 1", '[[bus]]\nx = """\n[[bus]]"""'],
)  # fmt: skip
def test_what_is_unusual_is_left_to_tomllib(text: str):
    assert buses(text) is None
