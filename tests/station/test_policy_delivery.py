"""A policy's whole way: region, real broker, uplink, hatch, capture; the broker is no friend."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.hatch import HatchClient, HatchServer
from agent.pb.delivery_pb2 import (
    CheckpointUpload,
    PolicyBundle,
    PolicyChunk,
    PolicyFile,
    PolicyQuestion,
)
from agent.pb.hatch_pb2 import Accepted, Batch, HatchReply, HatchRequest, LinkReport
from agent.service.installer import Installer
from agent.service.policy_fetch import PolicyFetch
from agent.station.broker import start_broker
from agent.station.courier import CHUNK_BYTES
from agent.station.receive import Receiver
from agent.uplink.run import Uplink
from agent.vault.vault import Vault
from tests.station.conftest import VEHICLE, Place
from tests.station.test_serve import needs_mosquitto, serving
from tests.station.test_vault import Clock, draft, open_vault
from tests.uplink.fakes import QUICK, resolver, running

pytestmark = needs_mosquitto

INSTALL = "import pathlib, sys; print(*(p.name for p in pathlib.Path(sys.argv[3]).rglob('*.json')))"


def bundle(version: int, size: int) -> bytes:
    noise = random.Random(version).randbytes(size)
    files = {f"metadata/{version}.root.json": b"{}", f"targets/{'ab' * 32}.default.policy": noise}
    return PolicyBundle(
        file=[PolicyFile(name=name, data=data) for name, data in files.items()]
    ).SerializeToString()


def eventually(true: Callable[[], object], timeout_s: float = 20) -> bool:
    waiter = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if true():
            return True
        waiter.wait(0.01)
    return bool(true())


class CaptureEnd(HatchClient):
    """Capture's half: a real vault, and what answers.py makes of a PolicyFetch."""

    def __init__(self, vault: Vault, fetch: PolicyFetch) -> None:
        super().__init__(Path("no-socket"))
        self.vault, self.fetch = vault, fetch
        self.asked: list[PolicyQuestion] = []
        self.pieces: list[Accepted] = []
        self.on_piece: Callable[[], None] = lambda: None
        self.link = LinkReport()

    def _exchange(self, request: bytes) -> bytes:
        return self.answer(HatchRequest.FromString(request)).SerializeToString()

    def answer(self, request: HatchRequest) -> HatchReply:
        what = request.WhichOneof("what")
        if what == "next":
            skip = {awaiting.log: awaiting.index for awaiting in request.next.skip}
            entries, pending = self.vault.take(request.next.count, request.next.bytes, skip)
            now_ns = self.vault.trusted()[0]
            return HatchReply(batch=Batch(entry=entries, pending=pending, trusted_unix_ns=now_ns))
        if what == "deliver" and request.deliver.kind == "receipt":
            confirmed, valid = self.vault.receipt(request.deliver.payload)
            wants = self.fetch.named(self.vault.offered[1])
            return HatchReply(
                accepted=Accepted(confirmed=confirmed, valid=valid, wants_policy=wants)
            )
        if what == "deliver":
            self.pieces.append(self.fetch.chunk(request.deliver.payload))
            self.on_piece()
            return HatchReply(accepted=self.pieces[-1])
        if what == "policy":
            question = self.fetch.wanted()
            self.asked += [question] if question else []
            return HatchReply(policy=question or PolicyQuestion())
        if what == "checkpoint":
            return HatchReply(checkpoint=self.vault.checkpoint() or CheckpointUpload())
        self.link = LinkReport.FromString(request.report.SerializeToString())
        return HatchReply(accepted=Accepted(valid=True))


def now_clock() -> Clock:
    """The broker's certificate is of today."""
    clock = Clock()
    clock.ns = time.time_ns()
    return clock


@contextmanager
def car(place: Place, tmp_path: Path) -> Iterator[CaptureEnd]:
    """A car that is connected and installs what comes."""
    vault = open_vault(place, now_clock(), tmp_path / "state")
    installer = Installer(
        tmp_path / "agent.toml", command=lambda *a: [sys.executable, "-I", "-c", INSTALL, *a]
    )
    fetch = PolicyFetch(tmp_path / "state" / "policy", installer, now_ns=lambda: 1)
    capture = CaptureEnd(vault, fetch)
    uplink = Uplink(
        place.region.card, VEHICLE, place.bundle / "vehicle.pem", place.bundle / "vehicle.key",
        capture, timing=replace(QUICK, silence_s=5, probe_s=1, policy_s=0.4),
        getaddrinfo=resolver("127.0.0.1"),
    )  # fmt: skip
    stop = threading.Event()

    def install() -> None:
        while not stop.is_set():
            fetch.step()
            stop.wait(0.02)

    thread = threading.Thread(target=install, name="policy")
    thread.start()
    try:
        with running(uplink):
            yield capture
    finally:
        stop.set()
        thread.join(10)
        fetch.close()
        vault.close()


def installed(capture: CaptureEnd, data: bytes) -> bool:
    status = capture.fetch.status()
    return (status["bundle"], status["outcome"]) == (hashlib.sha256(data).hexdigest(), "installed")


def test_a_bundle_arrives_beside_entries_over_a_broker_that_is_killed(
    place: Place, tmp_path: Path
) -> None:
    """It goes on where it was; and a car with nothing to send hears of the next one by itself."""
    on_offer = {"default": bundle(1, 300_000)}
    first, second = on_offer["default"], bundle(2, 1000)
    with ExitStack() as stack:
        broker = start_broker(place.region.path, "mosquitto")
        stack.callback(broker.stop)
        server = stack.enter_context(serving(place.region, bundle=on_offer.get))
        capture = stack.enter_context(car(place, tmp_path))

        def kill_once() -> None:
            if len(capture.pieces) == 3:
                os.kill(broker.pid, signal.SIGKILL)

        capture.on_piece = kill_once
        for _ in range(20):
            capture.vault.seal(draft(Clock()))
        assert eventually(lambda: len(capture.pieces) >= 3), capture.link
        broker.stop()
        held = 3 * CHUNK_BYTES
        asked_before = [question.offset for question in capture.asked if question.offset < held]
        again = start_broker(place.region.path, "mosquitto")
        stack.callback(again.stop)
        assert eventually(lambda: installed(capture, first)), capture.link
        assert asked_before == [0, CHUNK_BYTES, 2 * CHUNK_BYTES]
        assert {q.offset for q in capture.asked[3:]} == set(range(held, len(first), CHUNK_BYTES))
        assert eventually(lambda: not sum(capture.vault.status().pending.values()))

        capture.on_piece = lambda: None
        pieces = server.receiver.counters.chunks
        on_offer["default"] = second
        assert eventually(lambda: installed(capture, second)), capture.fetch.status()
        assert server.receiver.counters.chunks == pieces + 1
        assert server.receiver.counters.refused == 0
        on_offer["default"] = bytes(2_000_000)
        receipts = server.receiver.counters.receipts
        assert eventually(lambda: server.receiver.counters.receipts >= receipts + 3)
        assert installed(capture, second), "two megabytes are not even offered"
        assert server.receiver.counters.chunks == pieces + 1
    names = sorted(p.name for p in (tmp_path / "state/policy/incoming").rglob("*") if p.is_file())
    assert names == ["2.root.json", f"{'ab' * 32}.default.policy"]
    assert all(piece.valid for piece in capture.pieces)


UPLINK = """
import sys, threading
from pathlib import Path
from agent.hatch import HatchClient
from agent.region import load_region_card
from agent.uplink.run import Uplink
region, car, hatch, vehicle = sys.argv[1:]
Uplink(
    load_region_card(Path(region)), vehicle, Path(car) / "vehicle.pem", Path(car) / "vehicle.key",
    HatchClient(Path(hatch)),
    getaddrinfo=lambda host, port, *_: [(2, 1, 6, "", ("127.0.0.1", port))],
).run(threading.Event())
"""
MAX_RSS_BYTES = 32 << 20


def test_the_largest_bundle_costs_the_uplink_no_memory(place: Place, tmp_path: Path) -> None:
    """A process of its own, with entries to send beside it; the most that it ever held."""
    data = bundle(1, (1 << 20) - 1000)
    vault = open_vault(place, now_clock(), tmp_path / "state")
    fetch = PolicyFetch(tmp_path / "policy", Installer(tmp_path / "agent.toml"), now_ns=lambda: 1)
    capture, stop = CaptureEnd(vault, fetch), threading.Event()
    for _ in range(20):
        vault.seal(draft(Clock()))
    server = HatchServer(tmp_path / "h", capture.answer, allowed_uids=frozenset({os.getuid()}))
    hatch = threading.Thread(target=server.serve, args=(stop,), name="hatch")
    hatch.start()
    where = (place.region.path / "region.toml", place.bundle, server.path, VEHICLE)
    try:
        with (
            start_broker(place.region.path, "mosquitto"),
            serving(place.region, bundle=lambda group: data),
            subprocess.Popen([sys.executable, "-c", UPLINK, *map(str, where)]) as uplink,
        ):
            try:
                assert eventually(lambda: fetch.status()["received"] == len(data)), fetch.status()
                assert eventually(lambda: not sum(vault.status().pending.values()))
                status = Path(f"/proc/{uplink.pid}/status").read_text()
            finally:
                uplink.kill()
    finally:
        stop.set()
        hatch.join(10)
        server.close()
        vault.close()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) * 1024 < MAX_RSS_BYTES, peak


class Forging(Receiver):
    """Before each honest piece: one of another bundle, one of 2 MB, one that nobody asked for."""

    def chunks(self, count: int) -> list[tuple[str, bytes]]:
        out = []
        for topic, payload in super().chunks(count):
            honest = PolicyChunk.FromString(payload)
            for lie in (
                {"bundle": bytes(32)}, {"size": 2_000_000}, {"offset": honest.offset + 1},
            ):  # fmt: skip
                forged = PolicyChunk.FromString(payload)
                for name, value in lie.items():
                    setattr(forged, name, value)
                out.append((topic, forged.SerializeToString()))
            out.append((topic, payload))
        return out


def test_forged_pieces_do_not_keep_the_true_ones_out(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.uplink.link.MAX_CHUNKS", 8)
    monkeypatch.setattr("agent.uplink.errand.MAX_CHUNKS", 8)
    data = bundle(1, 100_000)
    with (
        start_broker(place.region.path, "mosquitto"),
        serving(place.region, Forging, bundle=lambda group: data),
        car(place, tmp_path) as capture,
    ):
        assert eventually(lambda: installed(capture, data)), capture.fetch.status()
    refused = sum(not piece.valid for piece in capture.pieces)
    assert refused >= 3
    assert len(capture.pieces) - refused == -(-len(data) // CHUNK_BYTES)
