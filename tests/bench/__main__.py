"""Measure everything that has a bar: `python -m tests.bench [--only NAME] [--json]`.

Each group of figures runs in a process group of its own, which is ended at its deadline with all
that it started; its files lie in a folder that is removed. A ratio is always of one run.

The live figures keep asammdf out, as a car does: with it `import can` loads pandas.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Figure, left_out

# Name: (module, function, deadline in seconds, as in a car).
GROUPS = {
    "reading": ("reading", "socketcan", 60, True),
    "slcan": ("reading", "slcan", 60, True),
    "sealing": ("sealing", "figures", 120, True),
    "conditions": ("conditions", "figures", 60, True),
    "sizes": ("sizes", "sizes", 180, False),
    "start": ("live", "start", 60, True),
    "bus": ("live", "serial_bus", 120, True),
    "loaded": ("live", "loaded_bus", 120, True),
    "loaded-socket": ("live", "loaded_socket", 120, True),
    "socket": ("live", "socket_bus", 120, True),
    "buses": ("live", "eight_buses", 90, True),
    "looked-on": ("looked_on", "looked_on", 120, True),
    "backlog": ("live", "backlog", 600, True),
    "far": ("live", "far_backlog", 300, True),
}
MARK = "figure "


def measured(name: str) -> list[Figure]:
    """Run one group in a process of its own and return its figures."""
    module, function, deadline_s, as_in_a_car = GROUPS[name]
    with tempfile.TemporaryDirectory(prefix="inland-bench-") as folder:
        env = os.environ | {"TMPDIR": folder}
        if as_in_a_car:
            (Path(folder) / "asammdf.py").write_text("raise ImportError('not in a car')\n")
            env["PYTHONPATH"] = os.pathsep.join([folder, env.get("PYTHONPATH", "")])
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench", "--here", name],
            env=env, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        why = ""
        try:
            output, _ = child.communicate(timeout=deadline_s)
        except subprocess.TimeoutExpired:
            output, why = "", f"not done within {deadline_s} s"
        finally:
            end(child)
    if child.returncode and not why:
        why = f"ended with code {child.returncode}"
    rows = [line.removeprefix(MARK) for line in output.splitlines() if line.startswith(MARK)]
    figures = [Figure(**json.loads(row)) for row in rows]
    return [*figures, left_out(f"{module}.{function}", "", why)] if why else figures


def end(child: subprocess.Popen[str]) -> None:
    """End a group's process and whatever it has left running."""
    with contextlib.suppress(ProcessLookupError):  # then all of it has ended by itself
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def table(figures: list[Figure]) -> str:
    """The figures for people: a line each, and what to know about it below."""
    lines = []
    for f in figures:
        baseline = f"{f.theirs:,.4g} {f.baseline}" if f.baseline else ""
        ratio = f"{f.ratio:.3g}" if f.baseline else ""
        verdict = {True: "met", False: "MISSED", None: "-"}[f.met]
        ours = f"{f.ours:,.4g} {f.unit}" if f.unit else ""
        lines.append(f"{f.what:50} {ours:24} {baseline:58} {ratio:>6} {f.bar:22} {verdict}")
        if f.note:
            lines.append(f"    {f.note}")
    head = f"{'what':50} {'ours':24} {'baseline':58} {'ratio':>6} {'bar':22} met"
    return "\n".join([head, *lines])


def main() -> int:
    """Run the command line; 1 if a bar is missed or a group failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", choices=GROUPS, action="append", help="just this group")
    parser.add_argument("--json", action="store_true", help="one JSON object a figure")
    parser.add_argument("--here", choices=GROUPS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        module, function, *_ = GROUPS[asked.here]
        for figure in getattr(importlib.import_module(f"tests.bench.{module}"), function)():
            print(MARK + json.dumps(figure.row(), default=float))
        return 0
    figures = []
    for name in asked.only or GROUPS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures += measured(name)
    if asked.json:
        print("\n".join(json.dumps(figure.row()) for figure in figures))
    else:
        print(table(figures))
    return int(any(figure.met is False or not figure.bar for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
