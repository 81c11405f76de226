"""The file of consents: whole or not at all, strict, and shared by several processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.policy import consent_file
from agent.policy.consent import Book, State, terms
from tests.policy.consenting import (
    ANY_FRAMES,
    DAY_NS,
    IMAGE,
    NOW_NS,
    PARKED,
    TRACK,
    parked_camera,
    policy,
    rule,
)

BASE = policy(
    rule("track"), rule("image", category=IMAGE, frames=(ANY_FRAMES,)), camera=parked_camera()
)
STEPS = st.lists(
    st.tuples(st.sampled_from((TRACK, IMAGE, PARKED)), st.sampled_from(("grant", *State)),
              st.integers(1, 365)),
    max_size=8,
)  # fmt: skip


def after(book: Book, steps: list[tuple[str, str, int]]) -> Book:
    for category, what, days in steps:
        if what == "grant":
            until_ns = NOW_NS + days * DAY_NS
            book = book.grant(terms(BASE, category), now_ns=NOW_NS, until_ns=until_ns,
                              each_drive=days % 2 == 0)  # fmt: skip
            book = book.see(NOW_NS + days, drive=days, driving=days % 3 == 0)
        elif what != State.GRANTED:
            book = book.end(category, State(what), now_ns=NOW_NS + days)
    return book.tell(len(steps) // 2)


def written(path: Path, book: Book) -> Book:
    path.unlink(missing_ok=True)
    with consent_file.edit(path) as held:
        held.book = book
    return held.book


@given(STEPS)
@settings(max_examples=40)
def test_what_is_written_is_read(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("c") / "consent.json"
    book = written(path, after(Book(), steps))
    assert consent_file.read(path) == book
    if book.grants:
        agreed = consent_file.read(path).grants
        assert {one.terms.digest for one in agreed.values()} == {
            one.terms.digest for one in book.grants.values()
        }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "consent.json"
    written(path, after(Book(), [(TRACK, "grant", 30), (IMAGE, "grant", 2), (TRACK, "refused", 1)]))
    return path


def test_every_truncation_is_damage(path):
    whole = path.read_bytes()
    for size in range(len(whole.rstrip())):
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="no consent counts"):
            consent_file.read(path)


def test_no_change_of_a_byte_is_anything_but_a_book_or_damage(path):
    whole, rng = path.read_bytes(), Random(5)
    for _ in range(400):
        altered = bytearray(whole)
        altered[rng.randrange(len(altered))] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        with contextlib.suppress(ConfigError):
            consent_file.read(path)


def change(path: Path, *keys: str | int, value: object) -> None:
    whole = json.loads(path.read_bytes())
    inner = whole
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), 2),
        (("extra",), 1),
        (("serial",), 1),
        (("serial",), True),
        (("serial",), -1),
        (("serial",), 1.5),
        (("serial",), 2**64),
        (("told",), 3),
        (("consents",), []),
        (("consents", IMAGE, "state"), "always"),
        (("consents", IMAGE, "until_ns"), None),
        (("consents", IMAGE, "until_ns"), NOW_NS + 366 * DAY_NS),
        (("consents", IMAGE, "each_drive"), 1),
        (("consents", IMAGE, "terms"), []),
        (("consents", IMAGE, "terms", 0, "frames"), ["can0:everything"]),
        (("consents", IMAGE, "terms", 0, "signals"), [["*", "M.S"]]),
        (("consents", IMAGE, "terms", 0, "extra"), 1),
        (("changes", 0, "terms"), "xyz"),
        (("changes", 0, "serial"), 7),
        (("id",), 5),
    ],
    ids=str,
)
def test_what_is_not_exactly_a_book_is_damage(path, keys, value):
    change(path, *keys, value=value)
    with pytest.raises(ConfigError, match="no consent counts"):
        consent_file.read(path)


def test_damage_is_never_overwritten(path):
    path.write_bytes(b"something")
    with pytest.raises(ConfigError), consent_file.edit(path):
        pytest.fail("it was held out for change")
    assert path.read_bytes() == b"something"
    for number in (1, 2):
        path.write_bytes(b"damage %d" % number)
        with consent_file.edit(path, mend=True) as held:
            assert held.book == Book()
        assert (path.parent / f"consent.damaged-{number}").read_bytes() == b"damage %d" % number


def test_file_too_large_is_damage_and_is_never_written(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(consent_file, "MAX_BYTES", len(before) + 20)
    with pytest.raises(ConfigError, match="too long"), consent_file.edit(path) as held:
        held.book = after(held.book, [(PARKED, "grant", 3)])
    assert path.read_bytes() == before
    path.write_bytes(before + b" " * 100)
    with pytest.raises(ConfigError, match="more than"):
        consent_file.read(path)


def test_change_that_was_cut_short_leaves_no_trace(path):
    before = consent_file.read(path)
    path.with_suffix(".new").write_bytes(b"half a bo")
    assert consent_file.read(path) == before
    with consent_file.edit(path) as held:
        held.book = held.book.end(IMAGE, State.WITHDRAWN, now_ns=NOW_NS)
    assert consent_file.read(path).state(IMAGE) is State.WITHDRAWN


def test_error_in_the_middle_changes_nothing(path):
    before = path.read_bytes()
    with contextlib.suppress(RuntimeError), consent_file.edit(path) as held:
        held.book = Book()
        raise RuntimeError
    assert path.read_bytes() == before


WRITER = """
import sys
from pathlib import Path
from agent.policy.consent import State
from agent.policy.consent_file import edit
for turn in range(40):
    with edit(Path(sys.argv[1]), wait=True) as held:
        held.book = held.book.end(sys.argv[2], State.REFUSED, now_ns=turn)
"""


def test_changes_of_processes_at_the_same_moment_are_all_there(tmp_path):
    path = tmp_path / "consent.json"
    root = Path(__file__).resolve().parents[2]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=root)
        for name in ("a", "b", "c")
    ]
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    book = consent_file.read(path)
    assert book.serial == len(book.changes) == 120
    assert [one.serial for one in book.changes] == list(range(1, 121))
