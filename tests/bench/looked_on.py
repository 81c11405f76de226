"""What it costs capture that an owner looks on, and how old what they see is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from agent.owner import keyfile, register
from tests.bench.live import WINDOW_S, cpu_s, send, start_on_a_socket
from tests.bench.loaded import drive
from tests.bench.measure import Figure, at_most
from tests.owner.people import ANNA, enroll
from tests.rig import EVERYTHING, INLAND, Rig, rig, wait_for

PHRASE = "four words of nothing"
SHARED = EVERYTHING.replace('recipients = "region"', 'recipients = "shared"')


def looked_on() -> list[Figure]:
    """Every frame of a full bus, over a socket: to nobody, then to an owner who reads them all."""
    frames = drive(WINDOW_S)
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as made:
        made.policy(SHARED)
        keyfile.save(made.folder / "owner.key", ANNA, PHRASE, os.urandom)
        (made.folder / "phrase").write_text(PHRASE)
        enroll(made.car / "state" / register.FILE, ANNA)
        port, capture, _ = start_on_a_socket(made)
        child = send([port], 3 * WINDOW_S, frames)
        wait_for(lambda: (s := made.status()) and s["receipts"] > 3, 30, "the first receipts")
        alone = used(capture)
        out = made.folder / "seen.log"
        reader = look(made, out)
        wait_for(lambda: out.stat().st_size, 30, "what is seen")
        watched = used(capture)
        reader.send_signal(signal.SIGINT)
        said = reader.communicate(timeout=30)[1].decode()
        child.wait(90)
    age = re.search(r"half within (\d+) ms of their stamps, all within (\d+) ms", said)
    assert age is not None, said
    note = f"{said.splitlines()[-1]}; UDP stands in for AF_CAN"
    return [
        at_most("age of the oldest frame that is seen live", int(age[2]) / 1000, unit="s", bar=1,
                note=note),
        at_most("capture while an owner reads a full bus", watched, unit="% of a core", bar=5,
                note=f"{alone:.2f} % in the same run while nobody looks"),
    ]  # fmt: skip


def look(made: Rig, out: Path) -> subprocess.Popen[bytes]:
    """Start `inland owner live --frames`."""
    command = [
        *INLAND, "owner", "live", "--socket", str(made.car / "run" / "live.sock"), "--frames",
        "--key", str(made.folder / "owner.key"), "--passphrase-file", str(made.folder / "phrase"),
    ]  # fmt: skip
    with out.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE)


def used(pid: int) -> float:
    """CPU time of a process over half a window, in % of a core."""
    before, start = cpu_s(pid), time.monotonic()
    threading.Event().wait(WINDOW_S * 0.7)
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - start)
