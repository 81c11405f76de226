"""Compare what the car sent with what the region opens: the demo's verdict."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from agent.errors import InlandError

OPEN_S: Final = 120.0


def compare(region: Path, vehicle: str, sent: Path, folder: Path) -> dict[str, Any]:
    """Open a vehicle's data in its region and hold it against the car's own record.

    Frames are compared by id, flags and data, in order; stamps are the agent's own, since a serial
    adapter brings none.

    Args:
        region: the region's folder.
        vehicle: pseudonym.
        sent: candump log of every frame that the car handed to its adapter.
        folder: for the opened files; made.

    Raises:
        InlandError: the region cannot open what it has.
    """
    folder.mkdir()
    frames, signals = folder / "frames.log", folder / "signals.csv"
    _open(region, vehicle, "--lane", "routine", "--frames", frames)
    _open(region, vehicle, "--signals", signals)
    car, opened = _frames(sent), _frames(frames)
    lost = sum((Counter(car) - Counter(opened)).values())
    extra = sum((Counter(opened) - Counter(car)).values())
    why = ""
    if lost or extra:
        why = f"{lost} missing, {extra} that the car did not send"
    elif car != opened:
        why = "the order is not the car's"
    elif not car:
        why = "the car sent nothing"
    samples, braking = _samples(signals)
    events = _events(signals.with_suffix(".events.jsonl"))
    return {
        "ok": not why,
        "why": why,
        "frames_sent": len(car),
        "frames_opened": len(opened),
        "frames_lost": lost,
        "samples_opened": samples,
        "hardest_braking_kmh_s": braking,
        "events": events,
    }


def _open(region: Path, vehicle: str, *what: str | Path) -> None:
    command = [sys.executable, "-m", "agent.cli", "station", "open", str(region)]
    command += ["--vehicle", vehicle, "--reason", "demo", *map(str, what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=OPEN_S, check=False)
    if done.returncode:
        raise InlandError(f"the region cannot open its copy: {done.stderr.strip()}")


def _frames(log: Path) -> list[str]:
    return [line.split(" ", 2)[2] for line in log.read_text("ascii").splitlines()]


def _events(records: Path) -> list[dict[str, Any]]:
    """Return the events that the region opens: rule, what it holds, whether it is complete."""
    if not records.exists():
        return []
    lines = records.read_text("utf-8").splitlines()
    keys = ("rule", "complete", "before_s", "after_s")
    return [{key: json.loads(line)[key] for key in keys} for line in lines]


def _samples(table: Path) -> tuple[int, float]:
    """Return (samples, the largest loss of speed within one second in km/h)."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    speed = [(float(r["unix"]), float(r["value"])) for r in rows if r["name"] == "VehicleSpeed"]
    hardest = 0.0
    start = 0
    for now_s, value in speed:
        while speed[start][0] < now_s - 1.0:
            start += 1
        hardest = max(hardest, speed[start][1] - value)
    return len(rows), hardest
