"""From a recorded drive to a verdict: real processes, Mosquitto, a stick, a stranger's Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.evidence.bundle_source import BundleSource
from agent.evidence.opening import open_segments
from agent.evidence.selection import Request, find
from agent.region import load_region_card
from agent.vault import keys
from tests.evidence import altering
from tests.rig import Rig, needs_mosquitto, rig, wait_for

MARKER = os.urandom(8)


def drive(folder: Path, frames: int = 6000) -> list[str]:
    """A minute of driving, with a marker in every frame."""
    lines = [
        f"({1_700_000_000 + i / 100:.6f}) vcan0 {0x100 + i % 7:03X}#{MARKER.hex().upper()}"
        for i in range(frames)
    ]
    (folder / "drive.log").write_text("\n".join(lines) + "\n", "ascii")
    return lines


def export(made: Rig, *words: str, code: int = 0) -> dict[str, object]:
    stick = made.folder / "stick"
    stick.mkdir(exist_ok=True)
    text = made.inland(
        "owner", "export", "-o", str(stick), "--config", str(made.config), "--json", *words,
        code=code,
    )  # fmt: skip
    return json.loads(text.splitlines()[0])  # type: ignore[no-any-return]


def kept(made: Rig) -> int:
    status = made.status()
    return int(status["segments"]) if status else 0  # type: ignore[call-overload]


@needs_mosquitto
@pytest.mark.timeout(170)
def test_an_export_while_the_agent_runs_is_intact_and_opens(tmp_path: Path):
    """The whole way: captured, sealed, co-signed by the region, exported, verified, opened."""
    with rig(tmp_path) as made:
        made.policy()
        lines = drive(tmp_path)
        made.bus(name="log", interface="log", channel=str(tmp_path / "drive.log"), speed="1.0")
        made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))
        wait_for(lambda: kept(made) >= 3, 60, "three segments")
        wait_for(lambda: made.status()["link"]["connected"], 60, "the link")  # type: ignore[index]
        told = export(made)
        assert (told["verdict"], told["why_not"], told["missing"]) == (0, "", [])
        bundle = Path(str(told["bundle"]))
        card = str(made.car / "region.toml")
        assert made.inland("verify", str(bundle), "--card", card).splitlines()[-1] == "intact"
        alone = subprocess.run(
            [sys.executable, "-I", "-S", bundle / "verify.py"], capture_output=True, check=False
        )
        assert alone.returncode == 0

        before = made.status()
        assert before is not None
        assert before["frames"]["lost"] == 0  # type: ignore[index]
        again = export(made)
        assert again["verdict"] == 0
        assert again["logs"][0]["entries"] >= told["logs"][0]["entries"]  # type: ignore[index]

        private = (made.region / "recipient.key").read_bytes()
        public = load_region_card(made.region / "region.toml").recipient_key
        source = BundleSource(bundle)
        request = Request(source.vehicle)
        opened = open_segments(source, find(source, request), request, {keys.kid(public): private})
        assert opened.problems == []
        out = b"".join(opened.candump()).decode().splitlines()
        assert len(out) > 100
        assert [line.split(" ", 1)[0] for line in out] == [
            line.split(" ", 1)[0] for line in lines[: len(out)]
        ]
        assert {line.split("#")[1] for line in out} == {MARKER.hex().upper()}
        for path in bundle.iterdir():
            data = path.read_bytes()
            assert MARKER not in data
            assert MARKER.hex() not in data.decode("latin-1").lower()

        for kind in ("entries", "bodies"):
            altering.change(bundle, kind, lambda rows: [row for row in rows if row[0] != 4])
        made.inland("verify", str(bundle), "--card", card, code=3)
        other = Path(str(again["bundle"]))
        altering.replace_entry(other, 3, lambda entry: setattr(entry.at, "unix_ns", 1))
        assert "ALTERED" in made.inland("verify", str(other), "--card", card, code=1)


@pytest.mark.slow
@needs_mosquitto
@pytest.mark.timeout(170)
def test_without_the_agent_the_newest_entries_are_undecided(tmp_path: Path):
    """Killed, and the region never saw it: what is there is exported, and it is said."""
    with rig(tmp_path, broker=False) as made:
        made.policy()
        drive(tmp_path)
        made.bus(name="log", interface="log", channel=str(tmp_path / "drive.log"), speed="max")
        made.start("capture", "capture", "--config", str(made.config))
        wait_for(lambda: kept(made) >= 1, 60, "a segment")
        told = export(made)
        assert (told["verdict"], told["altered"]) == (3, [])
        assert told["why_not"] == "there is no link to the region"
        assert "no signature of the region covers it" in told["missing"][0]  # type: ignore[index]
        made.kill("capture")
        wait_for(lambda: kept(made) == 0, 20, "nobody answers")
        stick = made.folder / "stick"
        for path in stick.iterdir():
            path.rename(made.folder / path.name)
        told = export(made)
        assert (told["verdict"], told["altered"]) == (3, [])
        assert "does not run" in str(told["why_not"])
        assert made.inland("verify", str(told["bundle"]), code=3).splitlines()[-1] == (
            "cannot be decided"
        )
        later = ("owner", "export", "-o", str(stick), "--from", "2099-01-01", "--config")
        assert "nothing was kept in that time" in made.inland(*later, str(made.config))
        bundle = Path(str(told["bundle"]))
        assert oct(bundle.stat().st_mode & 0o777) == "0o755"


@pytest.mark.timeout(170)
def test_wrong_use_is_said_in_one_line(tmp_path: Path):
    with rig(tmp_path, broker=False) as made:
        config = ("--config", str(made.config))
        for words, code, text in (
            ((), 3, "there is no ledger yet"),
            (("--from", "yesterday"), 2, "is no moment"),
            (("--from", "2026-11-02T00:00:00", "--to", "2026-11-01T00:00:00"), 2, "ends before"),
            (("--category", "engine"), 2, "there are"),
            (("-o", str(tmp_path / "none")), 2, "does not exist"),
            (("-o", str(made.config)), 2, "is a file"),
        ):
            said = made.inland("owner", "export", *config, *words, code=code)
            assert text in said, words
        assert not list(Path().glob("*.inland"))
