"""The notice says all that a policy does, in two languages, and in no bare codes."""

import dataclasses
import re

import pytest

from agent.pb import policy_pb2, sealed_pb2
from agent.policy.clauses import (
    DRIVING_METADATA,
    PARKED_OFF,
    Camera,
    Condition,
    ConsentTerm,
    EventRule,
    Recorder,
    SignalSelector,
    Trigger,
    Why,
)
from agent.policy.compiled import read_policy
from agent.policy.items import items
from agent.policy.model import SignalLayout
from agent.policy.notice import as_text, notice
from agent.policy.notice_words import TEXTS
from agent.policy.quantities import frame_selector
from agent.policy.vocabulary import CATEGORIES, PURPOSES
from agent.policy.words import CATEGORIES as CATEGORY_WORDS
from agent.policy.words import PURPOSES as PURPOSE_WORDS
from agent.policy.words import RECIPIENTS, duration_words
from tests.policy import making

SAFETY = Why("safety_event", "safety", "clear up accidents", sealed_pb2.SHARED)
SPEED = SignalSelector("*", 0)


def whole_policy():
    """A policy with every kind of clause."""
    layout = SignalLayout(0x100, False, 0, 16, False, 0)
    plain = read_policy(
        making.compiled(
            [making.collect("speed", signals=[policy_pb2.SignalSelector(channel="*")])], [layout]
        )
    )
    track = dataclasses.replace(
        plain.rules[0], id="track", category="location.track", basis="consent", space_m=100,
        every_ns=10 * 10**9, keep_s=86_400,
    )  # fmt: skip
    recorder = Recorder(1800 * 10**9, (frame_selector("*:*"),), 1000, 10**9, SAFETY)
    event = EventRule(
        "hard-brake", Condition("Speed > 30 for 150ms", (("Speed", SPEED),)), 1800 * 10**9,
        30 * 10**9, True, 20, 86_400 * 10**9, 10 * 10**9, (), 30 * 86_400, SAFETY,
    )  # fmt: skip
    camera = Camera(
        PARKED_OFF, DRIVING_METADATA, Trigger(SPEED, SPEED, SPEED, SPEED), None, b"", 500,
        60 * 10**9, 10 * 10**9, 86_400, 60, SAFETY,
    )  # fmt: skip
    return dataclasses.replace(
        plain, rules=(plain.rules[0], track), recorder=recorder, events=(event,), camera=camera,
        consents=(ConsentTerm("location.track", 365, True),), contact="privacy@example.cn",
    )  # fmt: skip


def test_the_vocabulary_has_words_in_both_languages():
    for names, words in ((CATEGORIES, CATEGORY_WORDS), (PURPOSES, PURPOSE_WORDS)):
        assert set(names) == set(words)
    for english, chinese in (
        *CATEGORY_WORDS.values(),
        *PURPOSE_WORDS.values(),
        *RECIPIENTS.values(),
    ):
        assert english.isascii()
        assert re.search(r"[\u4e00-\u9fff]", chinese)


def test_both_languages_have_the_same_places_for_facts():
    for english, chinese in TEXTS.values():
        places = [set(re.findall(r"{(\w+)}", text)) for text in (english, chinese)]
        assert places[0] == places[1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_item_answers_every_question(language):
    policy = whole_policy()
    told = notice(policy, language)
    assert len(told.sections) == len(items(policy)) + 1 == 6  # and the rights
    for item, section in zip(items(policy), told.sections, strict=False):
        assert item.id in section.heading
        assert len(section.lines) == 7
        assert all(label and text for label, text in section.lines)
    text = as_text(told)
    assert "{" not in text
    assert "privacy@example.cn" in text
    assert "inland consent withdraw location.track" in text
    assert "Speed > 30 for 150ms" in text


def test_an_item_that_a_notice_forgets_would_be_seen():
    policy = whole_policy()
    without = dataclasses.replace(policy, events=())
    assert as_text(notice(without, "en")) != as_text(notice(policy, "en"))
    assert len(notice(without, "en").sections) == len(notice(policy, "en").sections) - 1


def test_a_policy_that_keeps_nothing_says_so():
    policy = dataclasses.replace(whole_policy(), rules=(), recorder=None, events=(), camera=None)
    assert "keeps nothing" in as_text(notice(policy, "en"))


@pytest.mark.parametrize(
    ("value_ns", "english", "chinese"),
    [
        (7 * 86_400 * 10**9, "7 days", "7 天"),
        (3600 * 10**9, "1 hour", "1 小时"),
        (150 * 10**6, "150 milliseconds", "150 毫秒"),
        (1, "1e-09 seconds", "1e-09 秒"),
    ],
)
def test_lengths_of_time_in_words(value_ns, english, chinese):
    assert duration_words(value_ns, "en") == english
    assert duration_words(value_ns, "zh") == chinese
