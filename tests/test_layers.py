"""The import rule of the house, read from the code itself.

cli > service > {capture, uplink, station, owner} > evidence > {policy, vault} > {pb, errors, ...}.
A room may import rooms below it, and files of its own folder; never its neighbours, never upwards.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "cli": 5,
    "service": 4,
    "capture": 3,
    "uplink": 3,
    "station": 3,
    "owner": 3,
    "evidence": 2,
    "policy": 1,
    "vault": 1,
}  # everything else is the ground floor
NOT_BELOW = {
    "uplink": {"policy", "vault", "evidence"},  # taken over, it finds nothing to open or choose
    "capture": {"evidence"},  # what opens is no part of the daemon
}
BANNED = {
    "agent/capture": {"ssl", "paho", "http", "urllib", "asyncio"},
    "agent/vault": {"ssl", "paho", "can", "asyncio"},
    "agent/policy": {"ssl", "paho", "can", "asyncio", "socket", "_socket"},
    "agent/evidence": {"ssl", "paho", "can", "asyncio", "socket", "_socket"},
    "agent/uplink": {"can", "numpy", "zstandard", "sqlite3", "serial", "asyncio"},
    "agent": {"firmware_sim", "asyncio"},
    "firmware_sim": {"agent", "asyncio"},
}
# Values in, values out: no clock, random, file, socket, thread, log.
PURE = {
    "agent/capture/ancillary.py",
    "agent/capture/columns.py",
    "agent/capture/faults.py",
    "agent/capture/filters.py",
    "agent/capture/logs/detect.py",
    "agent/capture/logs/dialects.py",
    "agent/capture/logs/row.py",
    "agent/capture/pace.py",
    "agent/capture/recorded.py",
    "agent/capture/recorder.py",
    "agent/capture/rows.py",
    "agent/capture/slcan_lines.py",
    "agent/capture/steady.py",
    "agent/digest.py",
    "agent/enum_names.py",
    "agent/errors.py",
    "agent/evidence/arrival.py",
    "agent/evidence/became.py",
    "agent/evidence/categories.py",
    "agent/evidence/cover.py",
    "agent/evidence/ed25519.py",
    "agent/evidence/owner_request.py",
    "agent/evidence/records.py",
    "agent/evidence/signed.py",
    "agent/evidence/text.py",
    "agent/frames.py",
    "agent/hatch_frames.py",
    "agent/live.py",
    "agent/owner/certificate.py",
    "agent/owner/chronicle.py",
    "agent/owner/copies.py",
    "agent/owner/gather.py",
    "agent/owner/live_lines.py",
    "agent/owner/page/charts.py",
    "agent/owner/page/html.py",
    "agent/owner/page/incidents.py",
    "agent/owner/page/matrix.py",
    "agent/owner/page/openings.py",
    "agent/owner/page/parts.py",
    "agent/owner/page/render.py",
    "agent/owner/page/story.py",
    "agent/owner/page/tables.py",
    "agent/owner/page/tracks.py",
    "agent/owner/page/words.py",
    "agent/owner/presence_file.py",
    "agent/owner/presence_matrix.py",
    "agent/owner/seen.py",
    "agent/owner/sheet.py",
    "agent/owner/signal_files.py",
    "agent/owner/stretches.py",
    "agent/policy/advice.py",
    "agent/policy/camera.py",
    "agent/policy/camera_signals.py",
    "agent/policy/clauses.py",
    "agent/policy/compiled.py",
    "agent/policy/compiled_clauses.py",
    "agent/policy/compiled_dictionary.py",
    "agent/policy/compiled_values.py",
    "agent/policy/conditions.py",
    "agent/policy/consent.py",
    "agent/policy/counting.py",
    "agent/policy/diff.py",
    "agent/policy/engine.py",
    "agent/policy/events.py",
    "agent/policy/expression.py",
    "agent/policy/grammar.py",
    "agent/policy/headings.py",
    "agent/policy/items.py",
    "agent/policy/j1939.py",
    "agent/policy/load_checks.py",
    "agent/policy/masks.py",
    "agent/policy/meaning.py",
    "agent/policy/mistakes.py",
    "agent/policy/model.py",
    "agent/policy/nodes.py",
    "agent/policy/notice.py",
    "agent/policy/physical.py",
    "agent/policy/place.py",
    "agent/policy/precision.py",
    "agent/policy/quantities.py",
    "agent/policy/rehearsal.py",
    "agent/policy/rollout.py",
    "agent/policy/seen.py",
    "agent/policy/signals.py",
    "agent/policy/table.py",
    "agent/policy/terms.py",
    "agent/policy/text.py",
    "agent/policy/text_clauses.py",
    "agent/policy/vocabulary.py",
    "agent/policy/wants.py",
    "agent/policy/watching.py",
    "agent/policy/windows.py",
    "agent/policy/words.py",
    "agent/policy/zone_file.py",
    "agent/policy/zones.py",
    "agent/service/glance.py",
    "agent/service/unit_files.py",
    "agent/station/examine.py",
    "agent/station/zones.py",
    "agent/strict_json.py",
    "agent/toml_lines.py",
    "agent/units.py",
    "agent/uplink/backoff.py",
    "agent/uplink/delivery.py",
    "agent/uplink/pin.py",
    "agent/uplink/timing.py",
    "agent/uplink/topics.py",
    "agent/uplink/vigil.py",
    "agent/vault/checkpoint.py",
    "agent/vault/columns.py",
    "agent/vault/enrolled.py",
    "agent/vault/identity.py",
    "agent/vault/intact.py",
    "agent/vault/packing.py",
    "agent/vault/planes.py",
    "agent/vault/receipts.py",
    "agent/vault/seal.py",
    "agent/vault/segment.py",
    "agent/vault/session.py",
    "agent/vault/tree.py",
    "firmware_sim/acceptance.py",
    "firmware_sim/camera.py",
    "firmware_sim/car.py",
    "firmware_sim/errors.py",
    "firmware_sim/frames.py",
    "firmware_sim/layout.py",
    "firmware_sim/scenarios.py",
    "firmware_sim/signals.py",
    "firmware_sim/slcan.py",
    "firmware_sim/vehicle.py",
}
IMPURE = {
    "_socket", "asyncio", "can", "logging", "os", "paho", "random", "secrets", "select", "socket",
    "sqlite3", "ssl", "subprocess", "threading", "time", "tempfile",
}  # fmt: skip


def sources() -> list[Path]:
    """Every source file of the product."""
    return sorted(p for top in ("agent", "firmware_sim") for p in (ROOT / top).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Full names of what a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(name: str) -> str:
    """The folder below agent that a module is in; '' for the files beside them."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 or (len(parts) == 2 and parts[1] in FLOORS) else ""


def violations(path: str, text: str) -> list[str]:
    """What a file at a path (relative to the root) imports against the rule."""
    names = imported(ast.parse(text))
    found = [
        f"{path} imports {name}"
        for folder, banned in BANNED.items()
        if path.startswith(folder + "/")
        for name in names
        if name.split(".")[0] in banned
    ]
    if path in PURE:
        # A generator with a given seed is a value like any other.
        impure = {n for n in names if n.split(".")[0] in IMPURE} - {"random.Random"}
        found += [f"{path} is pure but imports {n}" for n in impure]
    if path.startswith("agent/"):
        mine = room(path.removesuffix(".py").replace("/", "."))
        for name in (n for n in names if n.startswith("agent.")):
            theirs = room(name)
            if theirs == mine or theirs not in FLOORS:
                continue
            if FLOORS.get(mine, 0) <= FLOORS[theirs] or theirs in NOT_BELOW.get(mine, ()):
                found.append(f"{path} imports {name}, which is not below it")
    return found


def test_every_import_goes_down():
    """The whole house keeps the rule."""
    found = [
        v for p in sources() for v in violations(str(p.relative_to(ROOT)), p.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("agent/capture/planted.py", "import ssl"),
        ("agent/capture/planted.py", "from agent.uplink import link"),
        ("agent/vault/planted.py", "def f():\n    from agent.capture import bus"),
        ("agent/policy/planted.py", "import agent.vault.spool"),
        ("agent/uplink/planted.py", "import numpy as np"),
        ("agent/uplink/planted.py", "from agent.vault.receipts import verify"),
        ("agent/vault/planted.py", "from agent.evidence import opening"),
        ("agent/capture/planted.py", "from agent.evidence import opening"),
        ("agent/evidence/planted.py", "from agent.station import store"),
        ("agent/vault/tree.py", "import time"),
        ("agent/planted.py", "from agent.vault import spool"),
        ("firmware_sim/planted.py", "from agent.frames import FRAME"),
        ("agent/station/planted.py", "import firmware_sim.car"),
    ],
)
def test_planted_import_is_found(path: str, text: str):
    """The rule can see what it forbids."""
    assert violations(path, text) != []


def test_pure_files_exist():
    """A renamed file does not silently leave the list."""
    assert [path for path in sorted(PURE) if not (ROOT / path).exists()] == []


def test_a_file_that_says_it_is_pure_is_held_to_it():
    """The contract at the head of a file and the list agree."""
    says = re.compile(r"^(.*[.)] )?Pure\b(?! but| part)", re.MULTILINE)
    heads = {
        str(path.relative_to(ROOT)): ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        for path in sources()
    }
    assert {path for path, head in heads.items() if says.search(head)} - PURE == set()


def test_top_level_is_the_house():
    """The top level holds these and hidden tool files, nothing else."""
    allowed = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    allowed |= {"agent", "proto", "firmware_sim", "tests"}
    built = {"build", "inland.egg-info"}  # what `pip install .` leaves behind, ignored by git
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert here - allowed - built == set()


def test_files_can_be_read_in_one_sitting():
    """No file above 350 lines."""
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if "/pb/" not in str(path)
        if (lines := len(path.read_text("utf-8").splitlines())) > 350
    }
    assert long == {}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
