"""`inland consent` as a person uses it, and a running agent that sees what they did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agent.capture.consent import ConsentSlot
from agent.cli import consent
from agent.clock import first_trusted_ns, read_clocks
from agent.errors import ConfigError, InlandError, PolicyError
from agent.pb.moment_pb2 import Moment
from agent.policy import compiled, store
from agent.policy.clauses import ConsentTerm
from agent.policy.model import Policy
from tests.policy.consenting import IMAGE, PARKED, TRACK, again, parked_camera, policy, rule

ASKS = policy(
    rule("track"), rule("image", category=IMAGE, space_m=0, every_ns=0), camera=parked_camera(),
    consents=(ConsentTerm(TRACK, 90, each_drive=False), ConsentTerm(IMAGE, 30, each_drive=True),
              ConsentTerm(PARKED, 30, each_drive=False)),
)  # fmt: skip


@pytest.fixture
def force(monkeypatch):
    """Put a policy in force. Which bytes compile to it is not what these tests are about."""

    def put(one: Policy | None) -> None:
        monkeypatch.setattr(store, "active", lambda folder: b"policy" if one else None)
        monkeypatch.setattr(compiled, "read_policy", lambda data: one)

    put(ASKS)
    return put


@pytest.fixture
def run(tmp_path, force):
    def call(*arguments: str, says: str | None = None) -> Result:
        return CliRunner().invoke(
            consent.command, [*arguments, "--state", str(tmp_path)], input=says
        )

    return call


@pytest.fixture
def good(run):
    def call(*arguments: str, says: str | None = None) -> str:
        result = run(*arguments, says=says)
        assert result.exit_code == 0, result.exception
        return result.output

    return call


@pytest.fixture
def refused(run):
    def call(*arguments: str) -> InlandError:
        error = run(*arguments).exception
        assert isinstance(error, InlandError), error
        return error

    return call


def states(good) -> dict[str, str]:
    listed = json.loads(good("ls", "--json"))
    assert listed["policy"] == "fleet"
    return {one["category"]: one["state"] for one in listed["consents"]}


def test_notice_says_all_that_is_agreed_to(good):
    told = good("grant", TRACK, "--for", "30d", "--yes")
    for words in (
        "location.track: positions over time", "fleet version 7", "Latitude, Longitude",
        "no finer than 100 m", "one every 10s", "navigation: a test", "the region",
        "up to 1d in the car", "it ends   20", "inland consent withdraw location.track",
        "within 2 seconds", "granted: location.track until 20",
    ):  # fmt: skip
        assert words in told
    assert "drive ends" not in told


def test_notice_of_the_parked_camera(good):
    told = good("grant", PARKED, "--for", "12h", "--this-drive", "--yes")
    assert "the cameras, while the car is parked" in told
    assert "owner access: who was at the car" in told
    assert "or when the drive ends" in told


def test_granted_listed_and_withdrawn(good):
    assert set(states(good).values()) == {"never_asked"}
    good("grant", TRACK, "--for", "30d", "--yes")
    assert states(good) == {TRACK: "granted", IMAGE: "never_asked", PARKED: "never_asked"}
    (line,) = [one for one in good("ls").splitlines() if one.startswith(TRACK)]
    assert " granted since 20" in line
    assert " UTC until 20" in line
    assert good("withdraw", TRACK) == "withdrawn: location.track\n"
    assert states(good)[TRACK] == "withdrawn"
    assert "was not granted" in good("withdraw", TRACK)


def test_all_are_withdrawn_at_once(good):
    for category in (TRACK, IMAGE):
        good("grant", category, "--for", "1d", "--yes")
    assert good("withdraw", "--all").splitlines() == [f"withdrawn: {one}" for one in (IMAGE, TRACK)]
    assert set(states(good).values()) == {"withdrawn", "never_asked"}


def test_refused(good):
    assert good("refuse", TRACK) == "refused: location.track\n"
    assert states(good)[TRACK] == "refused"
    good("grant", TRACK, "--for", "1d", "--yes")
    assert good("refuse", TRACK) == "withdrawn: location.track\n"


def test_category_that_ends_with_the_drive_says_so(good):
    assert "or when the drive ends" in good("grant", IMAGE, "--for", "1d", "--yes")
    (row,) = [one for one in json.loads(good("ls", "--json"))["consents"]
              if one["category"] == IMAGE]  # fmt: skip
    assert row["each_drive"]
    assert row["max_days"] == 30


def test_consent_for_a_drive_alone_lasts_a_day_at_most(good):
    good("grant", TRACK, "--this-drive", "--yes")
    (row,) = [one for one in json.loads(good("ls", "--json"))["consents"]
              if one["category"] == TRACK]  # fmt: skip
    assert row["each_drive"]
    assert row["until"] is not None


def test_person_is_asked(run, good, monkeypatch):
    monkeypatch.setattr(consent, "_is_terminal", lambda: True)
    result = run("grant", TRACK, "--for", "1d", says="n\n")
    assert result.exit_code == 1
    assert "Do you agree? [y/N]" in result.output
    assert "nothing has changed" in result.output
    assert states(good)[TRACK] == "never_asked"
    assert "granted:" in good("grant", TRACK, "--for", "1d", says="y\n")


def test_nobody_to_ask_is_not_a_yes(good, refused):
    assert "--yes" in str(refused("grant", TRACK, "--for", "1d"))
    assert states(good)[TRACK] == "never_asked"


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("grant", TRACK, "--yes"), ConfigError, "needs an end"),
        (
            ("grant", TRACK, "--for", "1d", "--until", "2027-01-01", "--yes"),
            ConfigError,
            "has one end",
        ),
        (("grant", TRACK, "--for", "91d", "--yes"), ConfigError, "allows 90 days at most"),
        (("grant", TRACK, "--for", "always", "--yes"), ConfigError, "not a number with a unit"),
        (("grant", TRACK, "--until", "always", "--yes"), ConfigError, "write one like 2027-01-31"),
        (("grant", TRACK, "--until", "9999-12-31", "--yes"), ConfigError, "90 days at most"),
        (("grant", TRACK, "--until", "2020-01-01", "--yes"), ConfigError, "over already"),
        (("grant", "location.trak", "--for", "1d", "--yes"), ConfigError, "'location.track'"),
        (("grant", "battery", "--for", "1d", "--yes"), PolicyError, "does not ask"),
        (("refuse", "battery"), PolicyError, "it asks for exterior.image, exterior.parked"),
        (("withdraw",), ConfigError, "--all"),
        (("withdraw", TRACK, "--all"), ConfigError, "--all"),
        (("withdraw", "nonsense"), ConfigError, "unknown category"),
    ],
)
def test_wrong_use_is_one_line(refused, arguments, kind, words):
    error = refused(*arguments)
    assert isinstance(error, kind)
    assert words in str(error)
    assert "\n" not in str(error)


def test_without_a_policy_there_is_nothing_to_agree_to(good, refused, force):
    good("grant", TRACK, "--for", "1d", "--yes")
    force(None)
    assert "no policy is in force" in str(refused("grant", TRACK, "--for", "1d", "--yes"))
    assert "(the policy in force does not ask for it)" in good("ls")
    assert good("withdraw", TRACK) == "withdrawn: location.track\n"


def test_list_knows_what_the_agent_has_not_marked_yet(good, force):
    good("grant", TRACK, "--for", "1d", "--yes")
    force(again(ASKS, rules=(rule("track", purpose="insurance"),), camera=None))
    assert states(good) == {TRACK: "needs_renewal"}
    assert good("withdraw", TRACK) == "withdrawn: location.track\n"


def test_damaged_file_is_kept_aside_and_said_so(good, refused, tmp_path):
    (tmp_path / "consent.json").write_bytes(b"{")
    assert "no consent counts" in str(refused("ls"))
    told = good("grant", TRACK, "--for", "1d", "--yes")
    assert "consent.damaged-1" in told
    assert (tmp_path / "consent.damaged-1").read_bytes() == b"{"
    assert states(good)[TRACK] == "granted"


def test_running_agent_sees_it_at_the_next_look(good, tmp_path: Path):
    slot = ConsentSlot(tmp_path / "consent.json")
    now = Moment(unix_ns=first_trusted_ns(read_clocks()))
    slot.look(ASKS, now, drive=1)
    good("grant", TRACK, "--for", "1d", "--yes")
    step = slot.look(ASKS, now, drive=1)
    assert step is not None
    assert (step.consented, step.silent) == ({TRACK}, {IMAGE, PARKED})
    good("withdraw", "--all")
    step = slot.look(ASKS, now, drive=1)
    assert step is not None
    assert (step.consented, step.ended) == (frozenset(), {TRACK})


def test_help_has_an_example():
    for name in ("grant", "withdraw", "refuse", "ls"):
        result = CliRunner().invoke(consent.command, [name, "--help"])
        assert "inland consent" in result.output
