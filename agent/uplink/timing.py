"""Every interval and bound of the uplink, with its origin. Pure.

All of them count through suspend (CLOCK_BOOTTIME): a receipt that was due in ten seconds is overdue
after a night in the garage.

Constants of MQTT and limits that guard memory are apart from what may be tuned (`Timing`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MAX_PACKET_BYTES: Final = 256 * 1024  # of MQTT, both ways; larger ones are parked or refused
RECEIVE_MAXIMUM: Final = 16  # unacknowledged PUBLISH packets that the broker may send us
# And that we may send the broker, if it takes so many. A window is what leaves in a round trip: at
# 50 ms there and back 16 packets are 300 entries a second, 64 are 1,100.
WINDOW_PACKETS: Final = 64
# Unacknowledged bytes: what 128 kbit/s carry in 16 s, so that a ping that queues behind them is
# still answered before the link counts as dead.
WINDOW_BYTES: Final = 256 * 1024
MAX_AWAITING: Final = 256  # entries published and not confirmed
MAX_AWAITING_BYTES: Final = 8 * 1024 * 1024
MAX_PARKED: Final = 1024  # entries that are too large, or that the region does not confirm
PARK_AFTER_TRIES: Final = 6  # 30 s doubling: about half an hour of the region's silence
# What a broker may send that is neither an answer to us nor a message for us (for instance QoS 2
# messages that it never releases, which paho would keep).
MAX_UNASKED_BYTES: Final = 4 * 1024 * 1024
MAX_FORGED: Final = 64  # receipts that capture refuses, beyond the good ones, before we hang up
MAX_STRAY: Final = 64  # pieces of a policy that capture refuses, beyond the good ones, before we do
MAX_CHUNK_BYTES: Final = 80 << 10  # of one PolicyChunk message: 64 KiB of data, and its frame
MAX_CHUNKS: Final = 2  # kept until capture has taken them; only one is ever asked for at a time
LONG_WAIT_S: Final = 600.0  # after a refusal that a person has to mend: id taken over, not allowed
# Working links that the broker closed without a word, within ten minutes. Some brokers (Mosquitto
# 2.0.11) do not say that another client took the id over, and two cars would fight for ever.
MAX_HANG_UPS: Final = 5
HANG_UPS_WITHIN_S: Final = 600.0
# Over how long a region may spread its cars: no word of it is for ever.
MAX_REGROUP_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals, in seconds.

    Attributes:
        connect_s: one TCP connection attempt.
        crowd_connect_s: likewise, while a large fleet may be trying: what it has sent in vain
            arrives all at once when the region is back, and Linux sends once a second by now.
        handshake_s: the whole TLS handshake, however slowly the peer drips.
        answer_s: CONNECT to SUBACK.
        probe_s: silence after which the broker is asked for a sign of life.
        silence_s: silence after which the link counts as dead; less than 30 (openpilot: 21). It is
            kept open until another takes its place, or the broker has given it up: `given_up_s`.
        gap_s: a turn of the loop that takes so much longer than it was meant to was a sleep: the
            computer was suspended, or the agent stopped.
        wake_s: after a sleep the link is dead unless something is heard within it.
        wake_every_s: at most once in it a sleep lets an attempt come at once, without back-off.
        route_s: after a sleep, how long a network is waited for that wakes later than we.
        puback_s: a PUBLISH that is not acknowledged for so long ends the link.
        resend_s: a published entry without a receipt is sent again, doubling up to resend_cap_s.
        resend_cap_s: see resend_s.
        backoff_low_s: least wait after a failed connection.
        backoff_cap_s: longest wait.
        checkpoint_s: between checkpoints, while connected.
        head_s: until capture has signed a head that it was asked for.
        policy_s: between questions about policy bundles, while connected; and how long the region
            may be silent before it is asked what it has on offer.
        report_s: between reports to capture.
        idle_s: pause when there is nothing more to send: how late a new entry may be noticed.
        hatch_s: wait when capture is not there.
    """

    connect_s: float = 10.0
    crowd_connect_s: float = 3.0
    handshake_s: float = 20.0
    answer_s: float = 15.0
    probe_s: float = 20.0
    silence_s: float = 28.0
    gap_s: float = 3.0
    wake_s: float = 0.7
    wake_every_s: float = 30.0
    route_s: float = 10.0
    puback_s: float = 60.0
    resend_s: float = 30.0
    resend_cap_s: float = 3600.0
    backoff_low_s: float = 2.0
    backoff_cap_s: float = 600.0
    checkpoint_s: float = 60.0
    head_s: float = 2.0
    policy_s: float = 60.0
    report_s: float = 1.0
    idle_s: float = 0.5
    hatch_s: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError for intervals that contradict each other."""
        if not self.probe_s < self.silence_s:
            raise ValueError("probe_s must be less than silence_s: the probe needs an answer")
        if not 0 < self.backoff_low_s <= self.backoff_cap_s:
            raise ValueError("backoff_low_s must be above 0 and at most backoff_cap_s")

    @property
    def keepalive_s(self) -> int:
        """MQTT's keep-alive, by which the broker judges us: two minutes.

        A link outlives a silence that both ends wait for. A station's broker accepts no more.
        """
        return math.ceil(6 * self.probe_s)

    @property
    def given_up_s(self) -> float:
        """How long a broker waits for us: MQTT 5.0, 3.1.2.10, one and a half times keep-alive.

        So long does the kernel try to get through what we have sent (TCP_USER_TIMEOUT).
        """
        return 1.5 * self.keepalive_s

    @property
    def opening_s(self) -> float:
        """The longest that TCP and TLS take together on a computer that is awake."""
        return self.connect_s + self.handshake_s
