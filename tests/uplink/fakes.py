"""Capture and station in memory, as the uplink sees them, and an uplink in a thread."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.message import DecodeError

from agent.errors import HatchError
from agent.hatch import HatchClient
from agent.pb.delivery_pb2 import (
    CheckpointUpload,
    PolicyQuestion,
    Receipt,
    SignedReceipt,
    Upload,
)
from agent.pb.hatch_pb2 import Accepted, Batch, HatchReply, HatchRequest, LinkReport, Outgoing
from agent.pb.moment_pb2 import CLOCK_WALL
from agent.uplink.run import Uplink
from agent.uplink.timing import Timing
from tests.pki import VEHICLE, Pki

LOG = bytes(range(16))
LANES = ("session", "incident", "event", "routine")
RECEIPT_DOMAIN = b"inland/receipt/1\0"
QUICK = Timing(
    handshake_s=2, answer_s=2, probe_s=0.2, silence_s=0.5, puback_s=5, resend_s=0.4,
    resend_cap_s=1.0, backoff_low_s=0.02, backoff_cap_s=0.05, checkpoint_s=30, report_s=0.02,
    idle_low_s=0.01, idle_cap_s=0.02, hatch_s=0.02,
)  # fmt: skip


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


class Station:
    """Stores once by (log, index) and signs receipts."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self.stored: dict[tuple[bytes, int], bytes] = {}
        self.duplicates = 0

    def store(self, payload: bytes) -> bytes:
        """Return the receipt for an upload."""
        upload = Upload.FromString(payload)
        key = (upload.log, upload.index)
        self.duplicates += key in self.stored
        assert self.stored.setdefault(key, payload) == payload
        return self.receipt(upload.log, {upload.index: leaf(upload.entry)})

    def receipt(
        self, log: bytes, leaves: Mapping[int, bytes], by: Ed25519PrivateKey | None = None
    ) -> bytes:
        receipt = Receipt(
            vehicle=VEHICLE, log=log, index=list(leaves), leaf=list(leaves.values()),
            region_unix_ns=time.time_ns(),
        )  # fmt: skip
        signed = receipt.SerializeToString()
        kid = hashlib.sha256(self.public).digest()[:8]
        signature = (by or self.key).sign(RECEIPT_DOMAIN + signed)
        return SignedReceipt(receipt=signed, kid=kid, signature=signature).SerializeToString()


class Capture:
    """What stands behind the hatch: entries that leave only on a receipt of the station."""

    def __init__(self, station: Station) -> None:
        self.public = station.key.public_key()
        self.pending: dict[tuple[bytes, int], Outgoing] = {}
        self.confirmed: list[tuple[bytes, int]] = []
        self.invalid = 0
        self.reports: list[LinkReport] = []
        self.checkpoint: CheckpointUpload | None = None
        self.head_wanted = False
        self.now_ns = time.time_ns()
        self.quality = CLOCK_WALL
        self.failing = False
        self.asked = 0
        self.questions = 0  # PolicyWanted, that is
        self.wanted: PolicyQuestion | None = None  # what is asked of the region
        self.chunks: list[bytes] = []
        self.on_chunk: Callable[[bytes], Accepted] = lambda payload: Accepted(valid=False)
        self._lock = threading.Lock()

    def add(self, count: int, size: int = 100, lane: str = "routine") -> None:
        with self._lock:
            first = len(self.pending) + len(self.confirmed)
            for index in range(first, first + count):
                entry = b"entry %d" % index
                upload = Upload(log=LOG, index=index, entry=entry, body=bytes([index % 256]) * size)
                self.pending[(LOG, index)] = Outgoing(lane=lane, upload=upload)

    @property
    def report(self) -> LinkReport:
        return self.reports[-1] if self.reports else LinkReport()

    def answer(self, request: HatchRequest) -> HatchReply:
        if self.failing:
            raise HatchError("the spool is failing")
        with self._lock:
            return getattr(self, f"_{request.WhichOneof('what')}")(request)

    def _next(self, request: HatchRequest) -> HatchReply:
        self.asked += 1
        ask = request.next
        skip = {(awaiting.log, index) for awaiting in ask.skip for index in awaiting.index}
        batch, size = [], 0
        rows = sorted(self.pending.items(), key=lambda row: (LANES.index(row[1].lane), row[0]))
        for key, outgoing in rows:
            if key in skip:
                continue
            size += outgoing.ByteSize()
            if len(batch) >= ask.count or (batch and size > ask.bytes):
                break
            batch.append(outgoing)
        pending = len(self.pending)
        return HatchReply(
            batch=Batch(
                entry=batch,
                pending=pending,
                trusted_unix_ns=self.now_ns,
                quality=self.quality,
                head_wanted=self.head_wanted,
            )
        )

    def _deliver(self, request: HatchRequest) -> HatchReply:
        if request.deliver.kind == "policy":
            self.chunks.append(request.deliver.payload)
            return HatchReply(accepted=self.on_chunk(request.deliver.payload))
        try:
            signed = SignedReceipt.FromString(request.deliver.payload)
            self.public.verify(signed.signature, RECEIPT_DOMAIN + signed.receipt)
        except (InvalidSignature, DecodeError):
            self.invalid += 1
            return HatchReply(accepted=Accepted(valid=False))
        receipt, done = Receipt.FromString(signed.receipt), 0
        for index, hashed in zip(receipt.index, receipt.leaf, strict=True):
            outgoing = self.pending.get((receipt.log, index))
            if outgoing is not None and leaf(outgoing.upload.entry) == hashed:
                self.confirmed.append((receipt.log, index))
                del self.pending[(receipt.log, index)]
                done += 1
        wants = self.wanted is not None
        return HatchReply(accepted=Accepted(valid=True, confirmed=done, wants_policy=wants))

    def _policy(self, request: HatchRequest) -> HatchReply:
        self.questions += 1
        return HatchReply(policy=self.wanted or PolicyQuestion())

    def _report(self, request: HatchRequest) -> HatchReply:
        self.reports.append(LinkReport.FromString(request.report.SerializeToString()))
        return HatchReply(accepted=Accepted(valid=True))

    def _status(self, request: HatchRequest) -> HatchReply:
        return HatchReply(status=b"{}")

    def _checkpoint(self, request: HatchRequest) -> HatchReply:
        self.head_wanted = False
        return HatchReply(checkpoint=self.checkpoint or CheckpointUpload())


class DirectHatch(HatchClient):
    """A hatch without a socket."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(Path("no-socket"))
        self._capture = capture

    def _exchange(self, request: bytes) -> bytes:
        reply = self._capture.answer(HatchRequest.FromString(request))
        return reply.SerializeToString()


def resolver(*addresses: str) -> Any:
    """Return a getaddrinfo that gives these addresses."""

    def getaddrinfo(host: str, port: int, *_: object) -> list[tuple[Any, ...]]:
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


class Running:
    """An uplink in its thread."""

    def __init__(self, uplink: Uplink) -> None:
        self.uplink = uplink
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="uplink")

    def _run(self) -> None:
        try:
            self.uplink.run(self.stop)
        except BaseException as error:
            self.error = error
            raise


def make_uplink(
    pki: Pki, port: int, capture: Capture, *, hatch: HatchClient | None = None, **options: Any
) -> Uplink:
    """Return an uplink to a broker on loopback."""
    card = options.pop("card", None) or pki.card(port)
    certificate = options.pop("certificate", pki.vehicle_file)
    options.setdefault("timing", QUICK)
    options.setdefault("getaddrinfo", resolver("127.0.0.1"))
    vehicle = options.pop("vehicle", VEHICLE)
    return Uplink(card, vehicle, certificate, certificate, hatch or DirectHatch(capture), **options)


@contextmanager
def running(uplink: Uplink) -> Iterator[Running]:
    """Run an uplink in a thread; it must be alive at the end, and stop when asked."""
    state = Running(uplink)
    state.thread.start()
    try:
        yield state
        assert state.thread.is_alive(), state.error
    finally:
        state.stop.set()
        state.thread.join(10)
        assert not state.thread.is_alive()
