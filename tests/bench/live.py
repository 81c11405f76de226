"""The whole agent on a live bus: CPU, memory, loss; and a backlog after an hour's outage."""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from agent.capture.early import prepare
from agent.capture.queue import FrameQueue
from agent.capture.reader import Reader
from agent.capture.sealer import Sealer
from agent.capture.slot import PolicySlot
from agent.capture.socketcan import SocketcanBus
from agent.cli.processes import free_port
from agent.config import load_config
from agent.errors import HatchError
from agent.frames import ChannelTable
from agent.hatch import HatchClient
from agent.pb.ledger_pb2 import Loss
from agent.policy.build import build_policy
from agent.policy.store import install
from agent.service.capture import CaptureProcess
from agent.service.crew import Crew
from tests.bench import loaded
from tests.bench.measure import Figure, at_most, faster, left_out
from tests.bench.reading import records
from tests.bench.sealing import REGION, open_vault
from tests.capture.world import surroundings
from tests.chaos import Network, Weather
from tests.rig import EVERYTHING, Rig, rig, wait_for

WINDOW_S = 10.0
BUSES, RATE = 8, 4_000
TICKS = os.sysconf("SC_CLK_TCK")
BACKLOG, FAR_BACKLOG = 72_000, 12_000
PACKAGES = Path(__file__).parents[2]


def cpu_s(pid: int) -> float:
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def loaded_bus() -> list[Figure]:
    """The same with a policy of 100 rules, 20 events, the black box and the camera gate."""
    return serial_bus(loaded.policy(), "one full bus, 100 rules and 20 events, whole agent")


def serial_bus(text: str = EVERYTHING, what: str = "one full bus, whole agent") -> list[Figure]:
    """A simulated car fills a 500 kbit/s bus over SLCAN; capture and uplink carry it home."""
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as made:
        made.policy(text)
        link = made.folder / "can0"
        made.bus(name="can0", interface="slcan", channel=str(link), bitrate=500000)
        made.start("car", command=[
            sys.executable, "-m", "firmware_sim", "--pty-link", str(link), "--load", "full",
            "--seconds", str(WINDOW_S + 8), "--json",
        ])  # fmt: skip
        wait_for(link.exists, 20, "the serial line")
        pids = [made.start(n, n, "--config", str(made.config)).pid for n in ("capture", "uplink")]
        return [
            whole_agent(made, pids, what, "over a serial line"),
            at_most("memory of uplink", peak_mib(pids[1]), unit="MiB", bar=32),
            Figure(
                "memory of capture over SLCAN", peak_mib(pids[0]), "", 0.0, "MiB", 0.0, "none",
                None, "no bar: python-can opens the adapter, and python-can is 13 MiB and more",
            ),
        ]  # fmt: skip


def whole_agent(made: Rig, pids: list[int], what: str, how: str) -> Figure:
    """CPU time of capture and uplink while frames flow."""
    wait_for(lambda: (s := made.status()) and s["receipts"] > 3, 30, "the first receipts")
    before, start = [cpu_s(pid) for pid in pids], time.monotonic()
    frames = made.status()["frames"]["received"]
    threading.Event().wait(WINDOW_S)
    passed = time.monotonic() - start
    used = [100 * (cpu_s(p) - b) / passed for p, b in zip(pids, before, strict=True)]
    found = made.status()["frames"]
    rate = (found["received"] - frames) / passed
    parts = "capture {:.2f}, uplink {:.2f}".format(*used)
    note = f"{rate:,.0f} frames/s {how}; {found['lost']} lost; {parts} %"
    return at_most(what, sum(used), unit="% of a core", bar=5, note=note)


STAND_IN = """
import os, socket, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from agent.capture.early import prepare
from agent.service import sockets
def stand_in(channel, **flags):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", int(channel)))
    prepare(sock)
    return sock
assert sockets.bind_socket
sockets.bind_socket = stand_in
from agent.capture.socketcan import SocketcanBus
SocketcanBus.set_filters = lambda self, wanted: None
from agent.cli.__main__ import start
start()
"""


def socket_bus() -> list[Figure]:
    """The capture process on a socket that stands in for AF_CAN: its memory, and its CPU time."""
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as made:
        made.policy()
        port, capture, _ = start_on_a_socket(made)
        child = send([port], WINDOW_S + 4)
        wait_for(lambda: (s := made.status()) and s["receipts"] > 2, 30, "the first receipts")
        before, begun = cpu_s(capture), time.monotonic()
        child.wait(WINDOW_S + 30)
        used = 100 * (cpu_s(capture) - before) / (time.monotonic() - begun)
        frames = made.status()["frames"]
        sent = int((WINDOW_S + 4) * RATE)
        note = f"{sent - frames['received']} of {sent:,} frames lost; UDP stands in for AF_CAN"
        return [
            at_most("memory of capture", peak_mib(capture), unit="MiB", bar=48, note=note),
            at_most("one full bus, capture over a socket", used, unit="% of a core", bar=5),
        ]


def loaded_socket() -> list[Figure]:
    """`loaded_bus` over a socket: without what the text of a serial line costs."""
    drive = loaded.drive(WINDOW_S + 8)
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as made:
        made.policy(loaded.policy())
        port, *pids = start_on_a_socket(made)
        child = send([port], WINDOW_S + 8, drive)
        what = "the same over a socket, 100 rules and 20 events"
        found = whole_agent(made, pids, what, "on UDP, which stands in for AF_CAN")
        child.wait(WINDOW_S + 30)
        return [found]


def start_on_a_socket(made: Rig, planted: str = "") -> tuple[str, int, int]:
    """Start both halves; return the port that frames go to, and the halves' process ids.

    Args:
        made: the car and its region.
        planted: code that capture runs first: a bug that a test has to find.
    """
    port = str(free_port())
    made.bus(name="can0", interface="socketcan", channel=port)
    command = [sys.executable, "-c", planted + STAND_IN, "capture", "--config", str(made.config)]
    capture = made.start("capture", command=command)
    uplink = made.start("uplink", "uplink", "--config", str(made.config))
    wait_for(made.status, 30, "capture's answer")
    return port, capture.pid, uplink.pid


def send(
    ports: list[str], seconds: float, frames: list[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that sends 4,000 frames a second to each port."""
    code = (
        "import socket,sys,time\n"
        "d=sys.stdin.buffer.read();r=[d[i:i+16] for i in range(0,len(d),16)]\n"
        "s=[socket.socket(socket.AF_INET,socket.SOCK_DGRAM) for _ in sys.argv[2:]]\n"
        "for x,p in zip(s,sys.argv[2:]): x.connect(('127.0.0.1',int(p)))\n"
        "t=time.monotonic();n=0\n"
        f"while n<float(sys.argv[1])*{RATE}:\n"
        " for k in range(n,n+40):\n"
        "  for x in s: x.send(r[k%len(r)])\n"
        f" n+=40;w=t+n/{RATE}-time.monotonic()\n"
        " if w>0: time.sleep(w)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(seconds), *ports], stdin=subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(b"".join(frames or records(RATE)))
    child.stdin.close()
    return child


def eight_buses() -> list[Figure]:
    """Eight sockets at 32,000 frames/s through readers, policy and vault, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        (state / "policy.toml").write_text(EVERYTHING)
        install(state / "policy", build_policy(state / "policy.toml"))
        vault = open_vault(state / "vault")
        queue, channels, crew = FrameQueue(1 << 18), ChannelTable(), Crew()
        readers: list[Reader] = []
        sealer = Sealer(
            vault=vault, queue=queue, readers=readers, channels=channels,
            slot=PolicySlot(state / "policy", REGION), moment=vault.moment,
            around=surroundings(state),
        )  # fmt: skip
        ports = []
        for number in range(BUSES):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            prepare(sock)
            ports.append(str(sock.getsockname()[1]))
            bus = _Unfiltered(sock, f"can{number}", channels)
            readers.append(
                Reader(number, f"can{number}", lambda bus=bus: bus, queue,
                       patient=False, notice=sealer.notice)
            )  # fmt: skip
            readers[-1].open_now()
            crew.start(f"read-can{number}", readers[-1].step)
        sealer.step()
        child = send(ports, WINDOW_S)
        start, wall = time.process_time(), time.monotonic()
        while child.poll() is None or sealer.counters.frames < _sent(BUSES):
            sealer.wait(crew.stop, sealer.step())
            if time.monotonic() - wall > WINDOW_S + 15:
                break
        used = 100 * (time.process_time() - start) / (time.monotonic() - wall)
        crew.join()
        sealer.finish()
        got = sealer.counters.kept
        vault.close()
    note = (
        f"{BUSES * RATE:,} frames/s for {WINDOW_S:.0f} s on UDP sockets that stand in for AF_CAN; "
        f"{_sent(BUSES) - got} of {_sent(BUSES):,} lost; capture alone"
    )
    return [at_most("8 buses", used, unit="% of a core", bar=15, note=note)]


class _Unfiltered(SocketcanBus):
    """The stand-in's socket knows no CAN filters."""

    def set_filters(self, wanted: object) -> None:
        """Let everything pass."""


def _sent(buses: int) -> int:
    return int(WINDOW_S * RATE) * buses


def backlog() -> list[Figure]:
    """72,000 entries wait when the region comes back; all are delivered, once in effect."""
    with tempfile.TemporaryDirectory() as folder, rig(Path(folder), broker=False) as made:
        made.policy()
        made.bus(name="none", interface="virtual", channel="none")
        process = CaptureProcess(load_config(made.config), {}, askers=frozenset())
        for number in range(BACKLOG):
            process.vault.record(Loss(channel="can0", count=number + 1, cause=Loss.UNKNOWN))
        process.vault.close()
        made.start_broker()
        made.start_station()
        start = time.monotonic()
        capture = made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))

        drained(made)
        passed = time.monotonic() - start
        assert capture.poll() is None
        listing = made.inland("station", "ls", str(made.region), "--json")
    note = f"{BACKLOG / passed:,.0f} entries/s, start included; region: {listing.strip()[:160]}"
    return [at_most("72,000 buffered entries delivered", passed, unit="s", bar=3600, note=note)]


def drained(made: Rig) -> None:
    """Wait until everything is receipted; asked at the hatch, since a command costs half a core."""
    hatch, pause = HatchClient(made.car / "run" / "hatch.sock"), threading.Event()

    def done() -> bool:
        pause.wait(0.1)
        try:
            pending = json.loads(hatch.status())["spool"]["pending"]
        except HatchError:
            return False
        return not sum(pending.values())

    wait_for(done, 600, "everything receipted")
    hatch.close()


def far_backlog() -> list[Figure]:
    """The same for a car whose packets take 25 ms to the region, and 25 ms back."""
    with (
        tempfile.TemporaryDirectory() as folder, rig(Path(folder)) as made,
        Network(made.port, Weather(delay_s=0.025)) as network,
    ):  # fmt: skip
        made.policy()
        card = made.car / "region.toml"
        text = card.read_text("utf-8").replace(f"port = {made.port}\n", f"port = {network.port}\n")
        card.write_text(text, "utf-8")
        made.bus(name="none", interface="virtual", channel="none")
        process = CaptureProcess(load_config(made.config), {}, askers=frozenset())
        for number in range(FAR_BACKLOG):
            process.vault.record(Loss(channel="can0", count=number + 1, cause=Loss.UNKNOWN))
        process.vault.close()
        made.start("capture", "capture", "--config", str(made.config))
        made.start("uplink", "uplink", "--config", str(made.config))
        wait_for(lambda: (s := made.status()) and s["link"]["connected"], 60, "connected")
        start = time.monotonic()
        drained(made)
        rate = FAR_BACKLOG / (time.monotonic() - start)
    note = "no bar; a window of 16 packets, as until 2026-11, is 300/s"
    return [Figure("backlog over 50 ms", rate, "", 0.0, "entries/s", 0.0, "none", None, note)]


def start() -> list[Figure]:
    """From exec until the sockets are bound, against everything imported first."""
    path = f"import sys\nsys.path.append({str(PACKAGES)!r})\n"
    path += "from agent.service.sockets import bind_sockets\n"
    path += "bind_sockets(['--config', sys.argv[1]])\nimport _socket\n"
    path += "from agent.capture.early import prepare\n"
    path += "s=_socket.socket(_socket.AF_UNIX,_socket.SOCK_DGRAM);prepare(s)\n"
    eager = "import can,numpy,zstandard,sqlite3,sqlite_utils,cantools\nimport agent.vault.vault\n"
    told = "import time\nprint(time.time_ns())\n"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "agent.toml"
        config.write_text('[[bus]]\nname = "a"\ninterface = "socketcan"\nchannel = "can0"\n')

        def took(code: str, *options: str) -> float:
            found = []
            for _ in range(7):
                begun = time.time_ns()
                command = [sys.executable, *options, "-c", code, str(config)]
                done = subprocess.run(command, capture_output=True, check=True)
                found.append((int(done.stdout) - begun) / 1e6)
            return statistics.median(found)

        early = took(path + told, "-I", "-S")  # as the boot service
        late = took(eager + path + told)
    note = "a Unix socket stands in for AF_CAN"
    return [
        at_most("exec to bound sockets", early, unit="ms", bar=100, note=note),
        faster(
            "the same, against eager imports", early, "everything imported first", late,
            unit="ms", bar=10,
        ),
        left_out(
            "exec to the first frame captured", "<= 100 ms",
            "needs a kernel with vcan0: python -m tests.vehicle measures it",
        ),
    ]  # fmt: skip
