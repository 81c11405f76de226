"""The text: every mistake is named at its line, with what to do."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import PolicyError, PolicyTextError
from agent.policy.quantities import duration_ns, duration_text, frame_selector, frame_selector_text
from agent.policy.text import parse_policy
from agent.toml_lines import Lines
from tests.policy.making import EXAMPLES, HEAD, RULE


def with_line(old: str, new: str, more: str = "") -> str:
    """The good text with one line changed."""
    text = HEAD + RULE + more
    assert old in text
    return text.replace(old, new)


def test_a_good_text_is_read():
    policy = parse_policy(HEAD + RULE, where="fleet.toml")
    (rule,) = policy.rules
    assert (policy.name, policy.version, policy.region) == ("fleet", 7, "urn:inland:region:cn")
    assert policy.not_after_unix == 1_814_400_000  # 2027-07-01T00:00:00Z: the end of the day
    assert (rule.keep_s, rule.flush_ns, rule.resolution_ns) == (604_800, 10**9, 1000)
    assert rule.signals[0].where == "fleet.toml:13"


MISTAKES = {
    # what is written: (what it replaces, the message)
    'evry = "10s"': (
        'signals = ["Speed"]',
        "fleet.toml:13: unknown key 'evry'; nearest valid key is 'every'",
    ),
    "versoin = 7": (
        "version = 7",
        "fleet.toml:2: unknown key 'versoin'; nearest valid key is 'version'",
    ),
    "version = 0": ("version = 7", "fleet.toml:2: 'version' must be a whole number from 1"),
    "version = true": ("version = 7", "fleet.toml:2: 'version' must be"),
    "version = ": ("version = 7", "fleet.toml:2: not TOML"),
    'region = "urn:x"': ('region = "cn"', "fleet.toml:3: 'urn:x' is no region"),
    "not_after = 2027-06-30T12:00:00": (
        "not_after = 2027-06-30",
        "fleet.toml:4: 'not_after' has a time but no time zone",
    ),
    'not_after = "soon"': (
        "not_after = 2027-06-30",
        "fleet.toml:4: 'not_after' must be a date without quotes",
    ),
    "not_after = 1970-01-01": (
        "not_after = 2027-06-30",
        "fleet.toml:4: 'not_after' must lie between",
    ),
    "# no end": ("not_after = 2027-06-30", "fleet.toml:1: key 'not_after' is missing"),
    "dbc = 3": ('dbc = ["car.dbc"]', "fleet.toml:5: 'dbc' must be a list of texts"),
    'category = "batery"': (
        'category = "battery"',
        "unknown category 'batery' (default deny, GB/T 44464 5.1.1); nearest category is 'battery'",
    ),
    'category = "phone.messages"': (
        'category = "battery"',
        "fleet.toml:9: category 'phone.messages' is never collected",
    ),
    'category = "cabin.biometric"': (
        'category = "battery"',
        "fleet.toml:9: category 'cabin.biometric' is never collected",
    ),
    'category = "location.track"': (
        'category = "battery"',
        "fleet.toml:11: category 'location.track' is sensitive",
    ),
    'category = "agent.audit"': (
        'category = "battery"',
        "fleet.toml:9: category 'agent.audit' is written by the agent",
    ),
    'purpose = "fun"': (
        'purpose = "regulatory_monitoring"',
        "fleet.toml:10: unknown purpose 'fun'",
    ),
    'basis = "consent"': (
        'basis = "law:GB/T 32960"',
        "fleet.toml:11: the consent to 'battery' has no end (GB/T 44464 5.2.2); add [[consent]]",
    ),
    'basis = "because"': (
        'basis = "law:GB/T 32960"',
        "fleet.toml:11: unknown basis 'because' (default deny, GB/T 44464 5.1.1); bases are",
    ),
    "# no necessity": ('necessity = "a test"', "fleet.toml:7: key 'necessity' is missing"),
    "# no purpose": ('purpose = "regulatory_monitoring"', "fleet.toml:7: key 'purpose' is missing"),
    "# no basis": ('basis = "law:GB/T 32960"', "fleet.toml:7: key 'basis' is missing"),
    'necessity = "a\\u001bb"': (
        'necessity = "a test"',
        "fleet.toml:12: 'necessity' must be one line",
    ),
    'keep = "8d"': (
        'keep = "7d"',
        "fleet.toml:14: keeps 'battery' too long (GB/T 32960); at most 7d",
    ),
    'keep = "1s"': ('keep = "7d"', "fleet.toml:14: 'keep': '1s' is out of range; from 1min"),
    "keep = 7": ('keep = "7d"', "fleet.toml:14: 'keep': '7' is not a duration"),
    'recipients = "all"': ('recipients = "region"', "fleet.toml:15: unknown recipients 'all'"),
    'recipients = "region"\nlane = "incident"': (
        'recipients = "region"',
        "fleet.toml:16: unknown lane 'incident'",
    ),
    'recipients = "region"\norder = 1': (
        'recipients = "region"',
        "fleet.toml:16: 'order' must be true or false",
    ),
    'recipients = "region"\non = "chance"': (
        'recipients = "region"',
        "fleet.toml:16: unknown on 'chance'",
    ),
    'recipients = "region"\nflush = "5s"': (
        'recipients = "region"',
        "fleet.toml:16: 'flush': '5s' is out of range",
    ),
    'recipients = "region"\nevery = "1s"\non = "change"': (
        'recipients = "region"',
        "fleet.toml:17: a rule has 'every' or 'on', not both",
    ),
    'every = "1s"\nframes = ["can0:*"]': (
        'signals = ["Speed"]',
        "fleet.toml:13: 'every' thins out signals",
    ),
    "signals = []": (
        'signals = ["Speed"]',
        "fleet.toml:7: the rule names no frames and no signals",
    ),
    'signals = [\n  "Speed",\n  "a.b.c",\n]': (
        'signals = ["Speed"]',
        "fleet.toml:15: 'signals': 'a.b.c' names no signal",
    ),
    'frames = ["can0:300"]': (
        'signals = ["Speed"]',
        "fleet.toml:13: 'frames': '300' in 'can0:300' is no id; write hex with 0x",
    ),
    'frames = ["can0"]': ('signals = ["Speed"]', "fleet.toml:13: 'frames': 'can0' names no frames"),
    'frames = ["can0:0x20-0x10"]': ('signals = ["Speed"]', "is an empty range"),
    'frames = ["can0:0x7FF-0x800"]': ('signals = ["Speed"]', "mixes 11-bit and 29-bit ids"),
    'frames = ["can0:0xFFFFFFFF"]': ('signals = ["Speed"]', "above 0x1FFFFFFF"),
    "signals = [3]": ('signals = ["Speed"]', "fleet.toml:13: 'signals' must be a list of texts"),
    'recipients = "region"\nprecision = "fine"': (
        'recipients = "region"',
        "fleet.toml:16: 'precision' must be a table, like precision = { ... }",
    ),
    'recipients = "region"\nprecision = { spice = "1km" }': (
        'recipients = "region"',
        "fleet.toml:16: unknown key 'spice'; nearest valid key is 'space'",
    ),
    'recipients = "region"\n[collect.precision]\nspace = "1mile"': (
        'recipients = "region"',
        "fleet.toml:17: unknown space '1mile'; write none, 10m, 100m, 1km, district",
    ),
    'recipients = "region"\non = "change"\n[collect.precision]\ntime = "1min"': (
        'recipients = "region"',
        "fleet.toml:18: 'time' is a period, and the rule has 'on'",
    ),
    'contact = ""\ndriving = 3': ('dbc = ["car.dbc"]', "fleet.toml:6: 'driving' must be an"),
    "collect = 3": (RULE, "'collect' is written as [[collect]]"),
}


@pytest.mark.parametrize("written", MISTAKES)
def test_a_mistake_is_named_at_its_line(written):
    replaced, message = MISTAKES[written]
    with pytest.raises(PolicyError) as caught:
        parse_policy(with_line(replaced, written), where="fleet.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_precision_thins_out_as_every_does():
    more = 'every = "10s"\n[collect.precision]\nspace = "1km"\ntime = "{}"\n'
    for time, seconds in (("1min", 60), ("1s", 10)):
        (rule,) = parse_policy(HEAD + RULE + more.format(time), where="fleet.toml").rules
        assert (rule.space_m, rule.every_ns) == (1000, seconds * 10**9)


def test_the_precision_of_the_second_rule_is_not_taken_for_the_first():
    second = RULE.replace('"one"', '"two"') + '[collect.precision]\ntime = "2d"\n'
    with pytest.raises(PolicyError, match=r"^fleet.toml:27: 'time': '2d' is out of range"):
        parse_policy(HEAD + RULE + second, where="fleet.toml")


def test_two_rules_of_one_id_are_named_at_the_second():
    with pytest.raises(PolicyError, match=r"fleet.toml:18: there are two rules with the id 'one'"):
        parse_policy(HEAD + RULE + RULE, where="fleet.toml")


def test_the_second_table_is_not_taken_for_the_first():
    second = RULE.replace('"one"', '"two"').replace('"7d"', '"9d"')
    with pytest.raises(PolicyError, match=r"^fleet.toml:24: keeps 'battery' too long"):
        parse_policy(HEAD + RULE + second, where="fleet.toml")


def test_lines_are_right_around_long_strings_comments_and_arrays():
    text = 'a = """\nb = 1\n[x]\n"""\n'
    text += 'c = [ # [\n  "]",\n  "y"]\n[[t]]\nk = \'"\'\nd = 1 # """\n[[t]]\nd = 2\n'
    lines = Lines(text)
    assert lines.line("", 0, "c") == 5
    assert lines.line("", 0, "c", "y") == 7
    assert [lines.line("t", number, "d") for number in (0, 1)] == [10, 12]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.integers(0, 300))
def test_any_text_is_a_policy_or_a_refusal(noise, at):
    good = HEAD + RULE
    # Any other error than PolicyError fails the test.
    with contextlib.suppress(PolicyError):
        parse_policy(good[:at] + noise + good[at:], where="fleet.toml")


@given(st.integers(1, 10**17))
@settings(max_examples=50)
def test_durations_are_written_as_they_are_read(value):
    text = duration_text(value)
    if len(text) <= 12:
        assert duration_ns(text, least="1ns", most="9999999d") == value


@given(st.integers(0, 0x1FFFFFFF), st.integers(0, 0x1FFFFFFF), st.booleans())
@settings(max_examples=100)
def test_selectors_are_written_as_they_are_read(a, b, short):
    low, high = sorted((a & 0x7FF, b & 0x7FF) if short else (a, b))
    width = 3 if short else 8
    text = f"can0:0x{low:0{width}X}-0x{high:0{width}X}"
    one = frame_selector(text)
    assert one.extended is not short
    assert frame_selector(frame_selector_text(one)) == one


def test_an_id_of_eight_digits_has_29_bits():
    assert frame_selector("*:0x00000123").extended
    assert not frame_selector("*:0x123").extended
    assert frame_selector("*:0x18FEF1").extended


def test_every_mistake_of_a_text_is_named_at_once():
    text = (EXAMPLES / "cn-fleet.toml").read_text("utf-8")
    for good, bad in (
        ('category = "battery"', 'category = "batery"'), ('lane = "routine"', 'lane = "fast"'),
        ("rate(VehicleSpeed", "rat(VehicleSpeed"), ('no_fix = "closed"', 'no_fix = "open"'),
    ):  # fmt: skip
        assert good in text
        text = text.replace(good, bad, 1)
    with pytest.raises(PolicyTextError) as found:
        parse_policy(text, where="x.toml")
    lines = [int(str(one).split(":")[1]) for one in found.value.each]
    assert len(lines) == 3  # the first rule has two, and the first of them is named
    assert lines == sorted(lines)
    assert "2 more such lines" in str(found.value)
