"""A region and a car in a folder, on real parts: what the end-to-end tests stand on.

Everything is started through the commands that a user would type, and what runs on as a process of
its own, so a test may kill any of them. Loopback only, free ports, nothing left running.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from agent.cli.processes import free_port
from agent.pb.ledger_pb2 import Entry

INLAND = [sys.executable, "-m", "agent.cli"]
# They read files, write files and end: starting Python for each costs more than they do.
HERE = {"station", "policy", "ledger", "status"}
PATH = os.environ.get("PATH", "") + ":/usr/sbin"
needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path=PATH) is None,
    reason="needs Mosquitto: apt-get install mosquitto",
)
LOOK_S = 0.02
EVERYTHING = """\
policy = "everything"
version = 1
region = "cn"
not_after = 2099-12-31

[[collect]]
id = "all"
category = "vehicle.state"
purpose = "diagnostics_repair"
basis = "law:GB/T 32960"
necessity = "a test compares every frame"
frames = ["*:*"]
keep = "1d"
recipients = "region"
order = true
timestamp_resolution = "1us"
"""


def wait_for(there: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until something is so; fail the test if it never is.

    What a slow machine takes is no failure: whoever is woken late gives that time on top, and what
    is looked at last is looked at after the end of the time, however long the look before took.

    Returns:
        For how many seconds it was not so yet, as far as anybody has seen: when the last look began
        that did not find it. A bar that is held against this is not held against the looking.
    """
    pause, began_s, late_s, not_yet_s = threading.Event(), time.monotonic(), 0.0, 0.0
    while True:
        looked_s = time.monotonic() - began_s
        if there():
            return not_yet_s
        not_yet_s = looked_s
        if looked_s > seconds + late_s:
            pytest.fail(f"not within {seconds} s: {what}")
        slept_s = time.monotonic()
        # A look may cost more than what is waited for: a command starts Python to ask.
        pause_s = min(0.5, max(LOOK_S, (slept_s - began_s - looked_s) / 2))
        pause.wait(pause_s)
        late_s += time.monotonic() - slept_s - pause_s


def answer(ask: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Ask until there is an answer, and return it."""
    found: list[dict[str, Any]] = []

    def answered() -> bool:
        found.extend(one for one in (ask(),) if one is not None)
        return bool(found)

    wait_for(answered, 30, "an answer of the agent")
    return found[0]


def ledger_of(state: Path) -> list[Entry]:
    """Entries of the ledger in a car's state folder, which may be in use."""
    spool = (state / "spool" / "spool.db").as_uri()
    with closing(sqlite3.connect(f"{spool}?mode=ro", uri=True)) as car:
        rows = car.execute("SELECT entry FROM ledger ORDER BY i").fetchall()
    return [Entry.FromString(row) for (row,) in rows]


class Said(NamedTuple):
    """How a command ended, and what it wrote to which end."""

    code: int
    out: str
    err: str


def typed(*arguments: object) -> Said:
    """Run a command in this process, from its very start; what it logs is what it says, too."""
    from agent.cli.__main__ import start

    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's: a process of its own has none
    try:
        with (
            mock.patch.object(sys, "argv", ["inland", *map(str, arguments)]),
            # It would become another user for good, and so would every test after it.
            mock.patch.object(os, "setgroups", side_effect=AssertionError("needs a process")),
            redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended,
        ):  # fmt: skip
            start()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def said_by(*arguments: object, code: int | None = 0, timeout: float = 120) -> str:
    """Run a command to its end, here if it may be (output and signals are the main thread's alone).

    Args:
        arguments: the command and what goes with it.
        code: the exit code that it must have; None: any.
        timeout: of a process of its own, seconds.

    Returns:
        What it printed, on either stream.
    """
    if arguments[0] in HERE and threading.current_thread() is threading.main_thread():
        said = typed(*arguments)
    else:
        command = [*INLAND, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        said = Said(done.returncode, done.stdout, done.stderr)
    assert code in (None, said.code), f"{arguments}: {said.code}\n{said.out}{said.err}"
    assert "Traceback" not in said.err, said.err
    return said.out + said.err


class Rig:
    """One region with one car.

    Args:
        folder: for everything; emptied by nobody.
        host: name of the broker.
        prefix: addresses that the car may dial.
    """

    def __init__(
        self, folder: Path, *, host: str = "localhost", prefix: str = "127.0.0.0/8"
    ) -> None:
        self.folder, self.region = folder, folder / "region"
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.inland("station", "init", str(self.region), "--region", "cn", "--host", host,
                    "--port", str(self.port), "--prefix", prefix)  # fmt: skip
        self.new_car("car")

    def new_car(self, name: str) -> None:
        """Enroll a car; it is the rig's car from here on."""
        self.car = self.folder / name
        self.config = self.car / "agent.toml"
        self.inland("station", "enroll", str(self.region), str(self.car))
        self.enrolled = self.config.read_text("utf-8")
        self.vehicle = re.search(r'^id = "(.+)"', self.enrolled, re.MULTILINE)[1]

    def inland(self, *arguments: str, code: int | None = 0, timeout: float = 120) -> str:
        """Run a command to its end; return what it printed."""
        return said_by(*arguments, code=code, timeout=timeout)

    def start(
        self, name: str, *arguments: str, command: list[str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command and leave it running; its words go to <name>.txt."""
        with (self.folder / f"{name}.txt").open("ab") as output:
            self.processes[name] = subprocess.Popen(
                command or [*INLAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self.processes[name]

    def start_broker(self) -> None:
        """Start Mosquitto with the configuration that the region generated."""
        conf = self.region / "broker" / "mosquitto.conf"
        self.start("broker", command=[shutil.which("mosquitto", path=PATH) or "", "-c", str(conf)])
        wait_for(self.broker_answers, 20, "the broker's port")

    def broker_answers(self) -> bool:
        """Whether somebody listens on the broker's port."""
        import socket

        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def start_station(self) -> None:
        """Start the station."""
        self.start("station", "station", "serve", str(self.region))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """End a process, by default as a power cut would."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def close(self) -> None:
        """End everything that still runs."""
        for name in list(self.processes):
            process = self.processes.pop(name)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def to_the_bench(self) -> None:
        """Make the car's card a bench card: it takes a policy file from whoever sits at it."""
        card = self.car / "region.toml"
        lines = card.read_text("utf-8").splitlines(keepends=True)
        card.write_text("".join(one for one in lines if not one.startswith("policy_root")), "utf-8")

    def policy(self, text: str = EVERYTHING) -> None:
        """Build and install a policy, as on a bench."""
        self.to_the_bench()
        (self.folder / "policy.toml").write_text(text, "utf-8")
        built = str(self.folder / "policy.pb")
        self.inland("policy", "build", str(self.folder / "policy.toml"), "-o", built)
        self.inland("policy", "install", built, "--config", str(self.config))

    def bus(self, **settings: object) -> None:
        """Give the car exactly one bus."""
        table = "\n[[bus]]\n" + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in settings.items()
        )
        self.config.write_text(self.enrolled + table, "utf-8")

    def play(self, log: Path, *, timeout: float = 300) -> None:
        """Play a log through the whole way, to the last receipt."""
        self.bus(name="log", interface="log", channel=str(log), speed="max")
        said = self.inland("run", "--config", str(self.config), "--once", timeout=timeout)
        assert "the log is over: " in said
        assert "all receipted by " in said

    def status(self) -> dict[str, Any] | None:
        """What the running agent says of itself; None while it does not answer."""
        text = self.inland("status", "--config", str(self.config), "--json", code=None)
        return json.loads(text) if text.startswith("{") else None

    def told(self) -> dict[str, Any]:
        """The same of an agent that runs: a busy machine may keep it from answering in time."""
        return answer(self.status)

    def opened(self, *arguments: str) -> list[str]:
        """The frames that the region opens, as lines of candump -L."""
        out = self.folder / "opened.log"
        self.inland("station", "open", str(self.region), "--vehicle", self.vehicle,
                    "--frames", str(out), *arguments)  # fmt: skip
        return out.read_text("ascii").splitlines()


@contextmanager
def rig(folder: Path, *, broker: bool = True) -> Iterator[Rig]:
    """A rig with its broker and station running."""
    made = Rig(folder)
    try:
        if broker:
            made.start_broker()
            made.start_station()
        yield made
    finally:
        made.close()
