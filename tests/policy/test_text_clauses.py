"""The clauses of the text: each mistake at its place, in expressions to the column."""

from __future__ import annotations

import re
from random import Random

import pytest

from agent.errors import PolicyError
from agent.policy import table as under_test
from agent.policy.clauses import PARKED_OWNER, ConsentTerm
from agent.policy.text import PolicyText, parse_policy
from tests.policy.making import HEAD, over_seeds

WHY = """\
purpose = "safety_event"
basis = "safety"
necessity = "a test"
recipients = "owner"
"""
CLAUSES = (
    HEAD
    + """driving = 'Speed > 0'
[[consent]]
category = "exterior.parked"
max_days = 30

[recorder]
window = "30min"
frames = ["can0:*"]
"""
    + WHY
    + """
[[event]]
id = "brake"
when = "Speed > 30"
hold = { before = "30min", after = "30s" }
snapshot = ["Torque"]
at_most = "20/day"
retrigger = "10s"
upload = true
keep = "365d"
"""
    + WHY
    + """
[camera]
parked = "owner"
driving = "metadata"
trigger = { camera = "Mode", reason = "Sub", state = "Plain", clip = "Deep" }
position = { latitude = "Lat", longitude = "Long", speed = "Speed", fix = "Fix != 0" }
zones_file = "zones.sealed"
margin = "500m"
exit_delay = "60s"
no_fix_after = "10s"
keep = "7d"
at_most = "60/min"
"""
    + WHY
)


def parsed(text: str) -> PolicyText:
    return parse_policy(text, where="fleet.toml")


def line_of(text: str, start: str) -> int:
    """The last line that begins so."""
    return max(n for n, line in enumerate(text.split("\n"), 1) if line.startswith(start))


def test_good_clauses_are_read():
    policy = parsed(CLAUSES)
    assert policy.recorder is not None
    assert policy.camera is not None
    assert policy.recorder.window_ns == 1800 * 10**9
    (event,) = policy.events
    assert (event.before_ns, event.after_ns, event.at_most) == (1800 * 10**9, 30 * 10**9, 20)
    assert (event.period_ns, event.retrigger_ns, event.upload) == (86_400 * 10**9, 10**10, True)
    assert [name.name for name in policy.camera.trigger] == ["Mode", "Sub", "Plain", "Deep"]
    assert (policy.camera.parked, policy.camera.margin_m) == (PARKED_OWNER, 500)
    assert policy.consents == (ConsentTerm("exterior.parked", 30, True),)
    assert policy.driving is not None
    assert policy.driving.names[0][0] == "Speed"


def test_what_is_not_said_is_careful():
    text = CLAUSES.replace('at_most = "20/day"\nretrigger = "10s"\nupload = true\n', "")
    text = re.sub(r"(zones_file|margin|exit_delay|no_fix_after|at_most) = .*\n", "", text)
    policy = parsed(text)
    (event,), camera = policy.events, policy.camera
    assert camera is not None
    assert (event.at_most, event.period_ns, event.upload) == (20, 86_400 * 10**9, False)
    assert (camera.margin_m, camera.exit_ns, camera.no_fix_ns) == (500, 60 * 10**9, 10**10)
    assert (camera.at_most, camera.zones_file) == (60, "")


MISTAKES = {
    # what is written: (what it replaces, at which line or line:column, the message)
    'hold = { bevore = "1s" }': ("hold =", "unknown key 'bevore'; nearest valid key is 'before'"),
    'hold = { before = "2h" }': ("hold =", "'before': '2h' is out of range"),
    'hold = "30min"': ("hold =", "'hold' must be a table, like hold = { ... }"),
    'at_most = "20/week"': ('at_most = "20', "'20/week' is no limit; write '20/hour' or '20/day'"),
    "at_most = 20": ('at_most = "20', "'20' is no limit"),
    'upload = "yes"': ("upload", "'upload' must be true or false"),
    'retrigger = "2h"': ("retrigger", "'retrigger': '2h' is out of range"),
    'snapshot = ["a.b.c"]': ("snapshot", "'a.b.c' names no signal"),
    'window = "25h"': ("window", "'window': '25h' is out of range"),
    'frames = ["can0"]': ("frames", "'can0' names no frames"),
    "frames = []": ("frames", "the recorder names no frames"),
    'parked = "region"': ("parked", "unknown parked 'region'"),
    'driving = "film"': ("driving = \"meta", "unknown driving 'film'"),
    'trigger = { camera = "Mode" }': ("trigger", "key 'reason' is missing"),
    'trigger = { camera = 1, reason = "Sub", state = "Plain", clip = "Deep" }': (
        "trigger", "'camera' must be the name of a signal",
    ),
    'margin = "500"': ("margin", "'500' is not a distance; write one like '500m'"),
    'margin = "51km"': ("margin", "'51km' is out of range"),
    'no_fix_after = "0s"': ("no_fix_after", "'no_fix_after': '0s' is out of range"),
    'at_most = "60/day"': ('at_most = "60', "'60/day' is no limit; write '20/min'"),
    'max_days = "30"': ("max_days", "'max_days' must be a whole number"),
    "# no days": ("max_days", "key 'max_days' is missing"),
    'no_fix = "open"\nkeep = "7d"': ('keep = "7d"', "unknown no_fix 'open'"),
    "when = 3": ("when", "'when' must be an expression in quotes"),
}  # fmt: skip


@pytest.mark.parametrize("written", MISTAKES)
def test_a_mistake_is_named_at_its_line(written):
    start, message = MISTAKES[written]
    line = line_of(CLAUSES, start)
    lines = CLAUSES.split("\n")
    lines[line - 1] = written
    with pytest.raises(PolicyError) as caught:
        parsed("\n".join(lines))
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    if "missing" not in message:
        assert text.startswith(f"fleet.toml:{line}: ")


def test_things_of_one_name_are_refused():
    event = CLAUSES[CLAUSES.index("[[event]]") : CLAUSES.index("[camera]")]
    with pytest.raises(PolicyError, match="there are two events with the id 'brake'"):
        parsed(CLAUSES + event)
    consent = '[[consent]]\ncategory = "exterior.parked"\nmax_days = 3\n'
    with pytest.raises(PolicyError, match=r"there are two consents to 'exterior.parked'"):
        parsed(CLAUSES + consent)


def test_a_gate_that_would_never_open_is_a_mistake():
    with pytest.raises(PolicyError, match="nothing says when the car is driven"):
        parsed(CLAUSES.replace("driving = 'Speed > 0'", ""))


EXPRESSIONS = {
    "Speed >> 3": 8,
    "Speed > 30 and": 15,
    "Speed": 1,
    'Speed < "fast"': 9,
    "can0:Speed > 1 or Speed = 3": 25,
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_is_refused_at_its_column(text):
    """In a table, in an inline table, and at the top."""
    column = EXPRESSIONS[text]
    for start, key in (("when", "when"), ("position", "fix"), ("driving = 'Speed", "driving")):
        line = line_of(CLAUSES, start)
        lines = CLAUSES.split("\n")
        old = re.search(rf"""\b{key} = (["'])(.*?)\1""", lines[line - 1])
        assert old
        lines[line - 1] = lines[line - 1].replace(old[0], f"{key} = '{text}'")
        with pytest.raises(PolicyError) as caught:
            parsed("\n".join(lines))
        begin = lines[line - 1].index(f"'{text}'") + 1
        assert str(caught.value).startswith(f"fleet.toml:{line}:{begin + column}: ")


def written_somehow(rng: Random, expression: str) -> str:
    """An expression as one of TOML's four strings, with escapes where they are possible."""
    style = rng.choice(('"', "'", '"""', "'''"))
    begin = rng.choice(("\n", "\n  \n", "  ", "")) if len(style) == 3 else rng.choice(("", "  "))
    out = ""
    for char in expression:
        if style in ("'", "'''"):
            out += "\n" if len(style) == 3 and char == " " and rng.random() < 0.3 else char
        elif char == '"':
            out += '\\"'
        elif char == " " and len(style) == 3 and rng.random() < 0.3:
            out += rng.choice(("\n", " \\\n   \n  "))
        elif rng.random() < 0.2:
            out += rng.choice((f"\\u{ord(char):04x}", f"\\U{ord(char):08x}"))
        else:
            out += char
    return style + begin + out + style


def check_columns(rng: Random) -> None:
    """The place of a name that is no signal is where that name stands."""
    before = rng.choice(("", "Speed > 3 and ", 'Gear == "D" or ', "( "))
    expression = f"{before}Speed ?{' )' if before == '( ' else ''}"
    source = written_somehow(rng, expression)
    while "?" not in source:  # it is to be found again
        source = written_somehow(rng, expression)
    key = rng.choice(("driving = ", "driving=", '"driving" = '))
    text = "# driving = 'Speed ?'\n" + HEAD + key + source + "\n"
    with pytest.raises(PolicyError) as caught:
        parsed(text)
    at = text.index("?", text.index(source, len(HEAD)))
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    assert str(caught.value).startswith(f"fleet.toml:{line}:{column}: ")


def test_columns_are_those_of_the_text_however_it_is_quoted():
    over_seeds(check_columns, 200)


def test_the_check_of_columns_finds_a_reader_that_forgets_escapes(monkeypatch):
    def without_escapes(text: str, at: int, characters: int) -> int:
        return at + 1 + characters

    monkeypatch.setattr(under_test, "_index_in", without_escapes)
    with pytest.raises(AssertionError):
        over_seeds(check_columns, 200)


def test_what_stands_in_another_string_is_not_taken_for_the_key():
    lines = CLAUSES.replace('latitude = "Lat"', "latitude = \"fix = 'Fix'\"")
    lines = lines.replace('fix = "Fix != 0"', 'fix = "Fix !! 0"')
    column = lines.split("\n")[line_of(lines, "position") - 1].index("!!") + 1
    with pytest.raises(PolicyError, match=rf"^fleet.toml:\d+:{column}: '!' is no part"):
        parsed(lines)


WORDS = ("=", "[", "]", "{", "}", '"', "\\", "\n", "#", "3", "true", "{ fix = 3 }", "'''", '"""')


def check_any_text(rng: Random) -> None:
    """Whatever becomes of a text, the outcome is a policy or a refusal in one line."""
    text = CLAUSES
    for _ in range(rng.randint(1, 4)):
        values = [found.span(1) for found in re.finditer(r" = (.*)\n", text)]
        begin, end = rng.choice(values) if values and rng.random() < 0.5 else (0, 0)
        if not end:
            begin = rng.randrange(len(text))
            end = begin + rng.choice((0, 0, 1, 5, 40))
        text = text[:begin] + rng.choice((*WORDS, "")) + text[end:]
    try:
        parsed(text)
    except PolicyError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
        assert str(error).startswith("fleet.toml")  # noqa: PT017


def test_any_text_of_clauses_is_a_policy_or_a_refusal():
    over_seeds(check_any_text, 400)


def test_the_fuzz_finds_a_reader_that_trusts_what_toml_holds(monkeypatch):
    def trusting(table: under_test.Table, key: str) -> under_test.Table | None:
        return under_test.Table(table.raw(key), table._document, key) if table.has(key) else None

    monkeypatch.setattr(under_test.Table, "sub", trusting)
    with pytest.raises((TypeError, AttributeError)):
        over_seeds(check_any_text, 2000)
