"""The page: well formed, alone, complete in both languages, and not to be broken by its data."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import agent.owner.page
from agent.evidence.selection import Problem
from agent.owner.chronicle import Shelf, Told
from agent.owner.page import html as page_html
from agent.owner.page import words as page_words
from agent.owner.page.html import Html, Page, tag
from agent.owner.page.render import render
from agent.owner.page.story import Story, Verdict
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy.words import Language, Words
from tests.owner.drive import Ledger, hard_brake
from tests.owner.page.parsed import Parsed

FOLDER = Path(agent.owner.page.__file__).parent
STYLE, SCRIPT = ((FOLDER / name).read_text("utf-8") for name in ("page.css", "page.js"))
TABLES: dict[str, Words] = {
    name: value for name, value in vars(page_words).items() if name.isupper()
}
ZONE = ZoneInfo("Asia/Shanghai")
EVIL = '<script>alert("1")</script>\'"&'


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return hard_brake(tmp_path_factory.mktemp("drive"))[1]


@pytest.fixture(scope="module")
def story(drive: Ledger) -> Story:
    return drive.story(drive.open())


def page(story: Story, language: Language = "en") -> str:
    return render(story, Page(language, ZONE), style=STYLE, script=SCRIPT)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_is_well_formed_and_alone(story: Story, language: Language):
    text = page(story, language)
    parsed = Parsed(text)
    assert len(set(parsed.ids)) == len(parsed.ids)
    links = [a["href"] or "" for a in parsed.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(parsed.ids)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bsrc=|<link|<img|<iframe", text, re.I)
    [html] = parsed.all("html")
    assert html["lang"] == ("zh-CN" if language == "zh" else "en")


def test_the_only_script_that_may_run_is_its_own(story: Story):
    text = page(story)
    [policy] = [m["content"] or "" for m in Parsed(text).all("meta") if "http-equiv" in m]
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    assert not re.search(r"\son[a-z]+=", text)


def test_it_says_what_it_is_not(story: Story):
    assert Parsed(page(story)).text.count("event record (EDR-like), not a type-approved EDR") == 2
    assert "并非经型式认证的 EDR" in page(story, "zh")


def test_an_incident_that_is_not_over_says_so_and_shows_what_is_there(story: Story):
    """Exported in the seconds after it: nothing is held yet, and what was kept is drawn."""
    [event] = story.events[:1]
    early = dict(event, complete=False, held=[], after_s=0.0)
    text = Parsed(page(replace(story, events=[early]))).text
    assert "not over when it was exported" in text
    assert "+10 s" in text or "10 s" in text.split("Around the event")[1][:400]
    assert "not over when" not in Parsed(page(story)).text


def test_both_languages_have_every_word():
    for table, words in TABLES.items():
        for name, (english, chinese) in words.items():
            places = [
                {field for _, field, _, _ in string.Formatter().parse(text) if field}
                for text in (english, chinese)
            ]
            assert places[0] == places[1], (table, name)
            assert english
            assert re.search(r"[\u4e00-\u9fff]", chinese) or english == chinese, (table, name)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("DROPS", ledger_pb2.Drop.Reason.DESCRIPTOR.values_by_name),
        ("LOSSES", ledger_pb2.Loss.Cause.DESCRIPTOR.values_by_name),
        ("CONSENTS", ledger_pb2.ConsentChange.State.DESCRIPTOR.values_by_name),
        ("LANES", sealed_pb2.Lane.DESCRIPTOR.values_by_name),
        ("WHOM", sealed_pb2.Recipients.DESCRIPTOR.values_by_name),
        ("CHANGES", ledger_pb2.OwnerChange.What.DESCRIPTOR.values_by_name),
        ("CHANGES", ledger_pb2.OwnerChange.Role.DESCRIPTOR.values_by_name),
        ("GATES", ["parked", "zone", "no_fix", "consent", "policy"]),
    ],
)
def test_every_name_of_the_schema_has_words(table: str, names: list[str]):
    lacking = [name for name in names if name.lower() not in TABLES[table]]
    assert [name for name in lacking if not name.endswith("_UNSPECIFIED")] == []


def test_no_text_is_english_on_a_chinese_page(story: Story):
    """Of the page's own texts; names of signals and rules are the car's."""
    texts = Parsed(page(story, "zh")).texts
    own = {english for words in TABLES.values() for english, chinese in words.values()
           if english != chinese and " " in english}  # fmt: skip
    assert [text for text in texts if text.strip() in own] == []


L = ledger_pb2


def told_of(story: Story) -> Story:
    """The story with one of everything that can go wrong."""
    told = replace(story.told)
    told.shelves = {
        ("owner", "routine"): Shelf(9, 900, 2, 1, Counter(quota=3, withdrawn=1), 2, 1, 0),
        ("shared", "recorder"): Shelf(5, 10**7, 5, held=4),
    }
    grant = L.ConsentChange(category="location.track", state=L.ConsentChange.GRANTED,
                            until_unix_ns=told.end_ns)  # fmt: skip
    drop = L.Drop(reason=L.Drop.ROLLED, range=[L.Range(first=5, last=14)])
    what: list[tuple[str, Any]] = [
        ("loss", L.Loss(channel="can7", count=1234, cause=L.Loss.KERNEL)), ("drop", drop),
        ("clock", L.ClockStep(from_unix_ns=0, to_unix_ns=7200 * 10**9)),
        ("gap", L.Gap(why="corrupt", size=77)),
        ("bus", L.BusState(channel="can7", state="bus-off")),
        ("bus", L.BusState(channel="can7", state="up")), ("boot", L.Boot(version="9.9")),
        ("refusal", L.Refusal(what="policy", code="rollback", count=3)),
        ("transfer", L.Transfer(from_epoch=1, to_epoch=2, erased=[L.Erased(bodies=4321)])),
        ("incident", L.Incident(state=L.Incident.SUPPRESSED, count=17)), ("consent", grant),
        ("owner", L.OwnerChange(kid=b"k" * 8, role=L.OwnerChange.OWNER_OF_CAR,
                                what=L.OwnerChange.ENROLLED)),
    ]  # fmt: skip
    told.told = [Told(told.begin_ns + at, kind, L.Entry(**{kind: one}))
                 for at, (kind, one) in enumerate(what)]  # fmt: skip
    return replace(story, told=told)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ["1,234", "can7: the kernel's buffer ran over", "the recorder has moved on",
                "+7,200 s", "corrupt", "can7: bus off", "inland 9.9", "policy: rollback",
                "more than the policy",
                "1 sealed to others; 2 not asked for; 1 not here; removed: 3 × room was needed",
                "4 that an event sends", "ownership 1 to 2", "4,321",
                "granted (until", "owner: enrolled", "6b6b6b6b6b6b6b6b"]),
        ("zh", ["内核缓冲区溢出", "滚动记录已更新", "离线", "1 密封给他方", "已同意 (截止", "车主",
                "其中 4 段"]),
    ],
)  # fmt: skip
def test_what_went_wrong_is_explained(story: Story, language: Language, said: list[str]):
    text = Parsed(page(told_of(story), language)).text
    assert [one for one in said if one not in text] == []


def test_what_a_newer_car_wrote_is_its_number(story: Story):
    told = told_of(story).told
    strange = [("loss", L.Loss(count=5, cause=99)), ("drop", L.Drop(reason=99)),
               ("consent", L.ConsentChange(category="sound", state=99)),
               ("owner", L.OwnerChange(kid=b"k" * 8, role=98, what=99))]  # fmt: skip
    told.told = [Told(told.begin_ns + at, kind, L.Entry(**{kind: one}))
                 for at, (kind, one) in enumerate(strange)]  # fmt: skip
    assert "98: 99" in Parsed(page(replace(story, told=told), "en")).text


def test_a_long_list_says_how_much_more_there_is(story: Story):
    told = replace(story.told)
    told.told = [
        Told(told.begin_ns, "refusal", L.Entry(refusal=L.Refusal(what="policy", code=f"c{at}")))
        for at in range(250)
    ]
    assert "50 more are in the files" in Parsed(page(replace(story, told=told))).text


def broken_by(story: Story) -> Story:
    """The story with everything that comes from data called something evil."""
    info = replace(story.presence[0].info, name=EVIL, message=EVIL, unit=EVIL)
    first = replace(story.presence[0], info=info)
    event = {**story.events[0], "rule": EVIL, "trigger": EVIL, "policy": EVIL}
    event["snapshot"] = [{"signal": EVIL, "channel": EVIL, "raw": 1, "age_s": 0.1, "value": EVIL,
                          "unit": EVIL, "label": EVIL}]  # fmt: skip
    shot = {**story.cameras[0], "camera_label": EVIL, "reason_label": EVIL, "zone_class": EVIL,
            "gate": "closed", "why": EVIL}  # fmt: skip
    told = replace(story.told, vehicle=EVIL, region=EVIL)
    told.policies = [one._replace(name=EVIL) for one in told.policies]
    told.consented = {EVIL: told.awake}
    return replace(
        story, presence=[first, replace(first, state="no rule names it")], events=[event],
        cameras=[shot], told=told, problems=[Problem("altered", EVIL, EVIL)],
        verdict=Verdict("altered", (EVIL,)), plot=[EVIL],
    )  # fmt: skip


@pytest.mark.parametrize("language", ["en", "zh"])
def test_data_is_text_whatever_it_holds(story: Story, language: Language):
    text = page(broken_by(story), language)
    assert text.count("<script>") == 1
    assert "alert(" in text
    assert len(Parsed(text).all("script")) == 1
    assert EVIL in Parsed(text).text


def test_a_page_that_forgets_to_escape_is_found(story: Story, monkeypatch: pytest.MonkeyPatch):
    """The planted bug."""
    monkeypatch.setattr(page_html, "escape", Html)
    assert page(broken_by(story)).count("<script>") > 1


def test_markup_is_made_by_tag_alone():
    assert tag("p", "<", Html("<br/>"), title='"') == '<p title="&quot;">&lt;<br/></p>'
    assert tag("p", f"{Html('<b>')}") == "<p>&lt;b&gt;</p>"  # once formatted, it is text again


@pytest.mark.parametrize("state", ["intact", "altered", "undecided", "unchecked"])
def test_each_verdict_is_said_in_words(story: Story, state: str):
    said = Parsed(page(replace(story, verdict=Verdict(state, ("entry 7",)))))
    assert page_words.TEXTS[state][0] in said.text
    assert len(said.all("p", state)) == 1
    assert "entry 7" in said.text


def test_the_curves_are_those_of_the_car(drive: Ledger, story: Story):
    """Speed, brake and steering are drawn, t = 0 where the event was, and the brake is pressed."""
    parsed = Parsed(page(story))
    [picture] = parsed.all("figure", "chart")
    assert (picture["data-begin"], picture["data-end"]) == ("-15", "10")
    drawn = [a["aria-label"] for a in parsed.all("svg")]
    assert drawn == ["Speed VehicleSpeed", "Brake BrakePressure", "Brake pedal BrakePedal",
                     "Steering SteeringAngle", "Accelerator AcceleratorPedal"]  # fmt: skip
    [line] = {a["x1"] for a in parsed.all("line", "event")}
    assert line == "600.0"
    path = parsed.all("path", "curve")[1]["d"] or ""
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    pressures = 200 - np.array(heights) * 2  # the axis ends at 200 bar
    assert pressures.max() == pytest.approx(160, abs=0.2)
    assert pressures.min() == pytest.approx(0, abs=0.2)


OPENINGS = (
    {"i": 0, "at": "2026-11-28T09:00:00Z", "who": "li", "from": "begin", "to": "end",
     "reason": EVIL},
    {"i": 3, "at": "2026-11-28T09:00:00+00:00", "who": "li", "kind": "order", "reason": "2026/117",
     "authority": "Police", "officer": "Wang Min", "basis": "Law 54", "from": "1795000000000000000",
     "to": "1795000060000000000"},
    {"i": 4, "at": EVIL, "who": "li", "kind": "request", "kid": "0" * 16, "reason": "mine",
     "from": "9" * 30, "to": "end"},
)  # fmt: skip


def test_who_opened_it_at_the_region_is_said_as_the_regions_word(story: Story):
    """Of a bundle from the region; a car's does not say, and then nothing is claimed."""
    assert "Who opened it" not in Parsed(page(story)).text
    assert "The region says: nobody." in Parsed(page(replace(story, openings=()))).text
    text = page(replace(story, openings=OPENINGS))
    said = Parsed(text).text
    assert EVIL not in text
    assert EVIL in said
    for part in (
        "Police (Wang Min), by order",
        "Law 54: 2026/117",
        "the region itself, li",
        "unopened",
        "the beginning to the end",
        "2026-11-28 17:00:00 +08:00",
        "2026-11-18 19:06:40 +08:00",
        "This is the region's word",
    ):
        assert part in said
    assert "Police（Wang Min），依据命令" in page(replace(story, openings=OPENINGS), "zh")


def test_style_and_script_are_in_the_package():
    """A file that package-data does not name is missing where inland is installed, only there."""
    root = Path(__file__).parents[3]
    data = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    patterns = data["tool"]["setuptools"]["package-data"]["agent"]
    packed = {path for pattern in patterns for path in (root / "agent").glob(pattern)}
    assert {path for path in FOLDER.iterdir() if path.suffix in (".css", ".js")} <= packed


def test_the_overview_counts_a_frame_once_and_says_what_is_a_copy(story: Story):
    """The drive keeps frames by a rule and in the recorder."""
    assert story.copies > 0
    text = Parsed(page(story)).text
    assert f"{story.frames:,}" in text
    assert f"{story.copies:,} more are copies" in text
    alone = Parsed(page(replace(story, copies=0))).text
    assert "more are copies" not in alone
