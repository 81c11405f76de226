"""A recovery sheet that was copied by hand: it gives the seed, or says which group is wrong."""

from __future__ import annotations

import random
import re
from contextlib import contextmanager
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import OwnerError
from agent.owner import sheet

SEED = bytes(range(100, 132))


@given(st.binary(min_size=32, max_size=32))
def test_what_is_printed_reads_back(seed: bytes):
    made = sheet.groups(seed)
    assert len(made) == sheet.GROUPS
    assert sheet.read(" ".join(made)) == seed
    assert sheet.read("".join(made)) == seed
    assert sheet.read("\n".join(made).lower().replace("0", "o").replace("1", "l")) == seed


def test_reading_forgives_hyphens_and_lines():
    made = sheet.groups(SEED)
    assert sheet.read("-".join(made)) == SEED
    assert sheet.read("\n".join(" ".join(made[at : at + 4]) for at in range(0, 13, 4))) == SEED


def test_every_single_wrong_character_is_found_and_named():
    """All 65 places, all 31 other characters: no chance of a miss."""
    made = sheet.groups(SEED)
    for group in range(sheet.GROUPS):
        for at in range(sheet.GROUP):
            for other in sheet.ALPHABET:
                if other == made[group][at]:
                    continue
                typed = list(made)
                typed[group] = made[group][:at] + other + made[group][at + 1 :]
                with pytest.raises(OwnerError, match=rf"^group {group + 1}: .*mistyped"):
                    sheet.read(" ".join(typed))


def test_every_exchange_of_two_characters_of_a_group_is_found_and_named():
    """The other common mistake, also of two that do not stand beside each other."""
    for seed in (SEED, random.Random(1).randbytes(32), bytes(32)):
        made = sheet.groups(seed)
        for group, one in enumerate(made):
            for at in range(sheet.GROUP):
                for other in range(at):
                    if one[at] == one[other]:
                        continue
                    swapped = list(one)
                    swapped[at], swapped[other] = one[other], one[at]
                    typed = [*made[:group], "".join(swapped), *made[group + 1 :]]
                    with pytest.raises(OwnerError, match=rf"^group {group + 1}: "):
                        sheet.read(" ".join(typed))


def test_groups_that_changed_places_are_found():
    made = list(sheet.groups(SEED))
    for one in range(sheet.GROUPS):
        for other in range(one):
            typed = list(made)
            typed[one], typed[other] = made[other], made[one]
            with pytest.raises(OwnerError, match=rf"^group {other + 1}: .*another place"):
                sheet.read(" ".join(typed))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (lambda made: made[:12], "12 groups were typed, a sheet has 13"),
        (lambda made: [*made, made[0]], "14 groups were typed"),
        (lambda made: [*made[:5], made[5][:4], *made[6:]], "group 6: .*4 characters"),
        (lambda made: [*made[:5], made[5] + "X", *made[6:]], "group 6: .*6 characters"),
        (lambda made: [*made[:5], "U" + made[5][1:], *made[6:]], "group 6: 'U' stands in no group"),
        (lambda made: [*made[:5], "车" + made[5][1:], *made[6:]], "group 6: '车' stands in no"),
        (lambda made: [], "0 groups were typed"),
    ],
)
def test_what_is_missing_or_too_much_is_said(typed, said: str):
    with pytest.raises(OwnerError, match=said):
        sheet.read(" ".join(typed(list(sheet.groups(SEED)))))


def test_a_good_group_of_another_sheet_is_found_by_the_sum_of_all():
    """Fifteen times out of sixteen: each group alone is right."""
    rng, said = random.Random(7), []
    made = sheet.groups(SEED)
    for _ in range(160):
        with suppress_as(said):
            sheet.read(" ".join([sheet.groups(rng.randbytes(32))[0], *made[1:]]))
    assert set(said) == {"every group is one, but not all are of this sheet"}
    assert len(said) > 135


@contextmanager
def suppress_as(said: list[str]):
    try:
        yield
    except OwnerError as error:
        said.append(error.what)


def test_planted_check_that_forgets_the_place_misses_an_exchange(monkeypatch):
    """Equal weights: a plain sum sees no exchange."""
    monkeypatch.setattr(sheet, "_POWERS", (1, 1, 1, 1))
    made = sheet.groups(SEED)
    swapped = made[0][1] + made[0][0] + made[0][2:]
    assert swapped != made[0]
    assert sheet.read_group(1, swapped)


def test_the_text_can_be_typed_in_as_it_stands():
    text = sheet.as_text(SEED, name="Li Wei", kid="0123456789abcdef")
    assert max(map(len, text.splitlines())) <= 100
    groups = re.findall(r"\d+\. (\w{5})", text)
    assert sheet.read(" ".join(groups)) == SEED
    assert "Li Wei" in text


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.codes: list[str] = []
        self.reaches: list[str] = []
        self._in_code = False

    def handle_starttag(self, tag, attrs):
        self._in_code = tag == "code"
        self.reaches += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]
        if tag in ("script", "link", "img", "iframe"):
            self.reaches.append(tag)

    def handle_data(self, data):
        if self._in_code:
            self.codes.append(data)
            self._in_code = False


def test_the_page_needs_nothing_else_and_holds_the_sheet():
    """No script, no picture, no address: nothing can tell anybody what is on it."""
    page = _Page()
    text = sheet.as_page(SEED, name="<b>&", kid="0123456789abcdef")
    page.feed(text)
    assert sheet.read(" ".join(page.codes)) == SEED
    assert page.reaches == []
    assert "http://" not in text
    assert "https://" not in text
    assert "&lt;b&gt;&amp;" in text
