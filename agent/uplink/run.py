"""The uplink: from the hatch to the region's broker, and receipts back.

One thread, one loop: ask capture what is most urgent, publish it, hand in what comes, report. It
decides nothing: what is confirmed, capture decides; who is the region, the card says.

- No connection is tried while capture is not there: capture has the trusted time.
- When it is tried again, `backoff.py` decides. After a sleep of the computer or the agent, or when
  the car's own network is back: at once.
- A link that falls silent is told as dead and kept: while the next attempt is waited for, it may
  live again, and then there is none. It is closed when another is made.
- Draining starts when the link is ready, without waiting for new data.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Final

from google.protobuf.message import DecodeError

from agent.clock import boottime_s
from agent.errors import (
    HatchError,
    LinkError,
    OwnNetworkError,
    RegionRefusedError,
    SilentLinkError,
)
from agent.hatch import HatchClient
from agent.pb.delivery_pb2 import Receipt, SignedReceipt
from agent.pb.hatch_pb2 import Batch, Outgoing
from agent.region import RegionCard
from agent.uplink import topics
from agent.uplink.backoff import Backoff
from agent.uplink.delivery import Delivery
from agent.uplink.dial import Dialler
from agent.uplink.errand import Errand
from agent.uplink.link import MENDED_BY_HAND, Link
from agent.uplink.pause import Pause
from agent.uplink.resolve import GetAddresses
from agent.uplink.teller import Teller
from agent.uplink.timing import (
    MAX_CHUNK_BYTES,
    MAX_FORGED,
    MAX_HANG_UPS,
    RECEIVE_MAXIMUM,
    Timing,
)

log: Final = logging.getLogger(__name__)


class Uplink:
    """See the module's contract.

    Args:
        card: the region.
        vehicle: the pseudonym, CN of the certificate.
        certificate: client certificate, PEM.
        key: its private key, PEM.
        hatch: the way to capture.
        timing: intervals.
        rng: uniform in [0, 1).
        clock: seconds of CLOCK_BOOTTIME.
        getaddrinfo: the resolver.
        spread_s: the first connection waits a random part of it: a fleet may wake at one moment.
        beat: called at each turn of a loop, for a watchdog; at least once in 90 s, DNS apart.

    Raises:
        ConfigError: the certificate, key, region id or vehicle id cannot be used.
        RegionRefusedError: the card's CA certificates are not the pinned ones.
    """

    def __init__(
        self,
        card: RegionCard,
        vehicle: str,
        certificate: Path | None,
        key: Path | None,
        hatch: HatchClient,
        *,
        timing: Timing | None = None,
        rng: Callable[[], float] = random.random,
        clock: Callable[[], float] = boottime_s,
        getaddrinfo: GetAddresses = socket.getaddrinfo,
        spread_s: float = 0.0,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._card, self._vehicle = card, vehicle
        self._hatch, self._rng, self._clock = hatch, rng, clock
        self._timing = timing = timing or Timing()
        self._spread_s, self._beat = spread_s, beat
        self._teller = Teller(hatch, clock, timing.report_s)
        self._report = self._teller.report
        self._delivery = Delivery(resend_s=timing.resend_s, resend_cap_s=timing.resend_cap_s)
        self._errand = Errand(hatch, period_s=timing.policy_s)
        self._backoff = Backoff(timing, rng)
        self._dialler = Dialler(
            card, vehicle, (certificate, key), timing=timing, rng=rng, clock=clock,
            getaddrinfo=getaddrinfo, beat=beat,
        )  # fmt: skip
        self._pause = Pause(
            self._backoff, self._teller, self._delivery, timing=timing, clock=clock,
            has_way=self._dialler.has_way, beat=beat,
        )  # fmt: skip
        self._ask_s = self._checkpoint_s = self._hatch_s = -1e9
        self._asked_head = False  # capture had no signed head, and is asked once more
        self._receipts: list[bytes] = []
        self._forged = 0

    def run(self, stop: Event) -> None:
        """Keep the link and drain the hatch until `stop` is set. Blocks."""
        self._pause.spend(stop, self._spread_s * self._rng(), may_be_short=False)
        while not stop.is_set():
            self._pause.spend(stop, self._attempt(stop))
        if self._pause.kept is not None:
            self._pause.end(self._pause.kept)
        self._teller.at_once()
        self._teller.try_to_tell(self._clock())
        self._hatch.close()

    def _attempt(self, stop: Event) -> float:
        """Work on one link until it ends, and return the wait before the next attempt."""
        self._pause.await_route(stop)
        try:
            told = self._hatch.next(0, 0, {})
            self._teller.answered()
        except HatchError as error:
            self._teller.note(error)
            self._pause.begin(by_car=False)
            return self._timing.hatch_s
        link, ended = None, None
        try:
            link = self._linked(told)
            self._work(link, stop)
        except LinkError as error:
            ended = error
            self._teller.note(error)
            if isinstance(error, RegionRefusedError):
                self._report.refused[error.code] += 1
        finally:
            self._report.connected = False
            if link is not None and not self._keeps(link, ended):
                self._pause.end(link)
        return self._next_wait(link, ended)

    def _linked(self, told: Batch) -> Link:
        """Return the kept link if it lives again; else a new one, which ends the kept one."""
        kept = self._pause.kept
        if kept is not None and kept.is_alive:
            self._pause.kept = None
            return kept
        link = self._dialler.dial(told, in_crowd=self._backoff.in_crowd)
        self._report.connects += 1
        if kept is not None:
            self._pause.end(kept)
        return link

    def _keeps(self, link: Link, ended: LinkError | None) -> bool:
        """Return whether a link that ended so is kept: silent, and not because the car moved."""
        if isinstance(ended, SilentLinkError) and not link.has_moved:
            self._pause.kept = link
        return self._pause.kept is link

    def _next_wait(self, link: Link | None, ended: LinkError | None) -> float:
        by_peer = ended is not None and ended.by_peer
        by_car = isinstance(ended, OwnNetworkError) or not self._dialler.has_way()
        if isinstance(ended, SilentLinkError):
            by_car = self._pause.kept is not link
        now_s = self._pause.begin(by_car=by_car)
        if link is None:
            at_once = self._pause.slept(self._dialler.take_slept_s())
            return self._backoff.failed(now_s, by_peer=by_peer, by_car=by_car, at_once=at_once)
        by_hand = link.ended_by in MENDED_BY_HAND
        slept_s = max(link.slept_lately_s, self._dialler.take_slept_s())
        wait_s = self._backoff.failed(
            now_s, by_peer=by_peer, by_car=by_car or slept_s > 0, by_hand=by_hand,
            hung_up=link.was_hung_up, at_once=self._pause.slept(slept_s),
        )  # fmt: skip
        if self._backoff.is_long and not by_hand:
            self._teller.note(
                LinkError(
                    f"the broker closed {MAX_HANG_UPS} links without a reason", where=link.peer,
                    todo="look whether another client uses this vehicle's id",
                )
            )  # fmt: skip
        return wait_s

    def _work(self, link: Link, stop: Event) -> None:
        """Run one link: wait for the socket, then move what can be moved."""
        begun, lives_again = False, link.ready
        self._forged = 0
        while not stop.is_set():
            self._beat()
            now_s = self._clock()
            link.step(self._patience(now_s) if begun else self._timing.idle_s)
            now_s = self._clock()
            if link.ready and not begun:
                begun = True
                self._begin(link, lives_again=lives_again)
            for ack in link.take_acks():
                self._delivery.acknowledged(ack.mid, now_s)
                if ack.refused:
                    self._teller.note(LinkError(f"the broker refuses a message: {ack.refused}"))
            self._receipts += link.take_messages()
            self._errand.keep(link.take_chunks())
            self._serve_hatch(link, now_s)
            if self._delivery.stalled_s(now_s) > self._timing.puback_s:
                raise LinkError(f"no PUBACK in {self._timing.puback_s} s", where=link.peer)

    def _begin(self, link: Link, *, lives_again: bool) -> None:
        if lives_again:
            self._delivery.resumed(self._clock())
        else:
            self._delivery.connected(link.receive_maximum)
        self._errand.connected(self._clock())
        self._report.connected, self._report.peer = True, link.peer
        self._ask_s = self._checkpoint_s = -1e9
        self._teller.at_once()
        log.info("%s %s", "lives again:" if lives_again else "connected to", link.peer)

    def _patience(self, now_s: float) -> float:
        """Return how long to wait for the socket before something else is due, seconds."""
        due_s = self._teller.due_s
        if self._delivery.has_room():
            due_s = min(due_s, self._ask_s)
        return min(max(due_s, self._hatch_s) - now_s, self._timing.idle_s) if due_s > now_s else 0

    def _serve_hatch(self, link: Link, now_s: float) -> None:
        """Do all that needs capture; if it is not there, keep the link and try again later."""
        if now_s < self._hatch_s:
            del self._receipts[:-RECEIVE_MAXIMUM]  # the region sends those again
            return
        try:
            self._hand_in(link, now_s)
            self._errand.hand_in(now_s, peer=link.peer)
            if link.ready:
                self._send_checkpoint(link, now_s)
                self._send_question(link, now_s)
                self._send_entries(link, now_s)
            self._teller.tell(now_s)
        except HatchError as error:
            self._hatch_s = now_s + self._timing.hatch_s
            self._teller.note(error)

    def _hand_in(self, link: Link, now_s: float) -> None:
        while self._receipts:
            payload = self._receipts.pop(0)  # whatever becomes of it: the region sends it again
            accepted = self._hatch.deliver(topics.RECEIPT, payload)
            self._forged += -1 if accepted.valid else 1
            if not accepted.valid:
                if self._forged > MAX_FORGED:
                    raise LinkError("the broker passes on forged receipts", where=link.peer)
                continue
            try:
                receipt = Receipt.FromString(SignedReceipt.FromString(payload).receipt)
            except DecodeError:
                continue  # capture knows a kind that we do not; its entries come again
            self._backoff.confirmed(receipt.regroup_s)
            self._errand.receipt(accepted.wants_policy, now_s, bundle=receipt.policy)
            self._delivery.confirmed(receipt.log, receipt.index, now_s)

    def _send_checkpoint(self, link: Link, now_s: float) -> None:
        if now_s < self._checkpoint_s + self._timing.checkpoint_s or not self._delivery.room()[0]:
            return
        self._checkpoint_s = now_s
        upload = self._hatch.checkpoint()
        if upload is not None:
            topic = topics.up(self._card.region, self._vehicle, topics.CHECKPOINT)
            self._publish(link, topic, upload.SerializeToString(), None, now_s)
        elif not self._asked_head:
            # Capture signs one now that somebody asked: come back for it, once.
            self._checkpoint_s += self._timing.head_s - self._timing.checkpoint_s
        self._asked_head = upload is None and not self._asked_head

    def _send_question(self, link: Link, now_s: float) -> None:
        question = self._errand.question(now_s) if self._delivery.room()[0] else None
        if question is not None:
            topic = topics.up(self._card.region, self._vehicle, topics.POLICY)
            self._publish(link, topic, question, None, now_s)
            link.entitle(MAX_CHUNK_BYTES)

    def _send_entries(self, link: Link, now_s: float) -> None:
        if now_s < self._ask_s or not self._delivery.has_room():
            return
        count, size = self._delivery.room()
        batch = self._hatch.next(count, size, self._delivery.skip(now_s))
        self._checkpoint_s = -1e9 if batch.head_wanted else self._checkpoint_s
        for outgoing in batch.entry:
            self._send_entry(link, outgoing, now_s)
        # What waits beyond that is asked for as soon as there is room; what comes, a pause later.
        others = batch.pending > self._delivery.awaiting + self._delivery.parked
        self._ask_s = now_s if batch.entry and others else now_s + self._timing.idle_s

    def _send_entry(self, link: Link, outgoing: Outgoing, now_s: float) -> None:
        upload = outgoing.upload
        key = (upload.log, upload.index)
        topic = topics.up(self._card.region, self._vehicle, outgoing.lane)
        if not self._publish(link, topic, upload.SerializeToString(), key, now_s):
            self._delivery.park(key, now_s)

    def _publish(
        self, link: Link, topic: str, payload: bytes, key: tuple[bytes, int] | None, now_s: float
    ) -> bool:
        """Publish if it fits; return whether it did."""
        if not link.fits(topic, payload):
            name = f"entry {key[0].hex()}/{key[1]}" if key else topics.CHECKPOINT
            limit = f"{len(payload)} bytes, the broker takes {link.max_packet}"
            self._teller.note(LinkError(f"too large to send: {limit}", where=name))
            return False
        mid = link.publish(topic, payload)
        self._delivery.sent(key, len(payload), mid, now_s)
        self._report.sent += 1
        return True
