"""The link against brokers that have the region's certificate and misbehave."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.errors import ConfigError
from agent.pb.delivery_pb2 import CheckpointUpload, PolicyQuestion, Upload
from agent.pb.hatch_pb2 import Accepted
from agent.uplink import link as link_module
from agent.uplink.link import Link
from agent.uplink.run import Uplink
from agent.uplink.timing import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_FORGED,
    MAX_PACKET_BYTES,
    MAX_STRAY,
    WINDOW_PACKETS,
    Timing,
)
from agent.uplink.tls import PinnedContext
from tests.hostile_broker import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    HostileBroker,
    Script,
    packet,
    publish,
)
from tests.pki import VEHICLE, Pki
from tests.uplink.fakes import LOG, QUICK, Capture, DirectHatch, Station, make_uplink, running

DOWN = f"inland/1/north/down/{VEHICLE}/receipt"
DOWN_POLICY = f"inland/1/north/down/{VEHICLE}/policy"
UP_POLICY = f"inland/1/north/up/{VEHICLE}/policy"


@pytest.fixture
def station() -> Station:
    return Station()


@pytest.fixture
def capture(station: Station) -> Capture:
    return Capture(station)


@pytest.fixture(scope="module")
def good(pki: Pki) -> object:
    return pki.leaf("link-good")


def receipting(station: Station) -> Callable[[str, bytes, int], bytes]:
    """Answer each upload with the station's receipt, after it was stored."""
    return lambda topic, payload, mid: publish(DOWN, station.store(payload))


def published(broker: HostileBroker) -> list[bytes]:
    return [body for command, body in broker.packets if command & 0xF0 == PUBLISH]


def test_connect_says_what_the_contract_says(pki: Pki, good: object, capture: Capture) -> None:
    """MQTT 5, clean start, no will, no user; 256 KiB, 16 in flight, no topic aliases."""
    with HostileBroker(good) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
    command, body = broker.packets[0]
    assert command == CONNECT
    assert body[:8] == b"\0\4MQTT\x05\x02"
    keepalive, size = struct.unpack(">HB", body[8:11])
    props, rest = body[11 : 11 + size], body[11 + size :]
    assert keepalive == 2  # whole seconds, six times probe_s
    wanted = {b"\x27" + struct.pack(">I", 256 * 1024), b"\x21\0\x10", b"\x22\0\0"}
    assert all(prop in props for prop in wanted)
    assert len(props) == sum(map(len, wanted))
    assert rest == struct.pack(">H", len(VEHICLE)) + VEHICLE.encode()
    assert [kind for kind, _ in broker.packets[1:2]] == [SUBSCRIBE]
    assert DOWN.encode() in broker.packets[1][1]
    assert DOWN_POLICY.encode() in broker.packets[1][1]


def test_every_loop_beats_for_the_watchdog(pki: Pki, good: object, capture: Capture) -> None:
    """While it waits for capture, while it is refused, and while it works."""
    beats = threading.Event()
    with HostileBroker(good) as broker:
        uplink = make_uplink(pki, broker.port, capture, beat=beats.set)
        capture.failing = True
        with running(uplink):
            assert beats.wait(10), "without capture"
            capture.failing = False
            assert broker.wait(lambda: capture.report.connected)
            for _ in range(3):
                beats.clear()
                assert beats.wait(10), "with a link"
    with running(make_uplink(pki, broker.port, capture, beat=beats.set)):
        for _ in range(3):  # the broker is gone
            beats.clear()
            assert beats.wait(10), "between attempts"


def test_socket_sends_at_once_and_gives_up_on_a_dead_peer(pki: Pki, good: object) -> None:
    """Nagle with a window of one: 22 messages a second instead of 2,224."""
    with HostileBroker(good) as broker:
        card = pki.card(broker.port)
        now_ns = time.time_ns()
        context = PinnedContext(card, None, None, now_ns=lambda: now_ns, timing=QUICK)
        link = Link(context, VEHICLE, DOWN, QUICK)
        link.open("127.0.0.1", 1)
        sock = link._client.socket()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        link.close()


def test_entries_go_by_lane_and_leave_on_the_receipt(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    for lane in ("routine", "event", "incident", "session"):
        capture.add(2, lane=lane)
    broker = HostileBroker(good, Script(on_publish=receipting(station)))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)
        capture.add(1)
        assert broker.wait(lambda: not capture.pending), "new data goes out on an idle link"
    lanes = [body[2 : 2 + body[1]].decode().rsplit("/", 1)[1] for body in published(broker)]
    assert lanes == ["session"] * 2 + ["incident"] * 2 + ["event"] * 2 + ["routine"] * 3
    assert station.duplicates == 0


@pytest.mark.parametrize("count", [WINDOW_PACKETS, 200])
def test_capture_is_asked_at_once_only_while_it_has_more(
    count: int, pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    """No pause while entries wait for room in the window; a pause once all are under way."""
    capture.add(count)
    timing = quick(idle_s=600)
    broker = HostileBroker(good, Script(on_publish=receipting(station)))
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing)):
        assert broker.wait(lambda: not capture.pending)
        reports = len(capture.reports)
        assert broker.wait(lambda: len(capture.reports) > reports + 3)
    # Once before the link, and for half a window at least each time; no receipt is a reason.
    half = WINDOW_PACKETS // 2
    assert capture.asked <= 2 + (count - WINDOW_PACKETS + half - 1) // half


def test_puback_confirms_nothing_and_the_entry_comes_again(
    pki: Pki, good: object, capture: Capture
) -> None:
    capture.add(1)
    with HostileBroker(good) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(published(broker)) >= 3)
    assert len(capture.pending) == 1


def test_unconfirmed_come_again_after_the_connection_was_lost(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    capture.add(40)
    calls = []

    def lose(topic: str, payload: bytes, mid: int) -> bytes:
        calls.append(mid)
        if len(calls) in (5, 23):
            raise OSError("the broker is killed")
        return publish(DOWN, station.store(payload))

    broker = HostileBroker(good, Script(on_publish=lose))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)
    assert broker.handshakes >= 3
    assert len(station.stored) == 40


def test_broker_receive_maximum_and_packet_size_are_respected(
    pki: Pki, good: object, capture: Capture
) -> None:
    """What is too large is parked and reported; it does not stop the others."""
    capture.add(1, size=2000, lane="incident")
    capture.add(5)
    props = b"\x21\0\2" + b"\x27" + struct.pack(">I", 1500)
    connack = packet(CONNACK, b"\0\0" + bytes([len(props)]) + props)
    broker = HostileBroker(good, Script(connack=connack, puback=False))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(published(broker)) >= 2)
        assert broker.wait(lambda: "too large to send" in capture.report.last_error)
        assert f"entry {LOG.hex()}/0" in capture.report.last_error
        seen = capture.asked
        assert broker.wait(lambda: len(capture.reports) > 5)
        assert capture.asked == seen, "a full window asks for nothing"
    assert len(published(broker)) == 2
    assert all(len(body) < 1500 for body in published(broker))


def test_window_is_sixty_four_without_a_word_from_the_broker(
    pki: Pki, good: object, capture: Capture
) -> None:
    capture.add(200)
    broker = HostileBroker(good, Script(puback=False))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(published(broker)) == WINDOW_PACKETS)
        reports = len(capture.reports)
        assert broker.wait(lambda: len(capture.reports) > reports + 3)
    assert len(published(broker)) == WINDOW_PACKETS


def quick(**changes: float) -> Timing:
    return replace(QUICK, **changes)


@pytest.mark.parametrize(
    ("script", "timing", "message"),
    [
        (Script(connack=None), quick(answer_s=0.2), "no answer in 0.2 s"),
        (Script(suback=False), quick(answer_s=0.2), "no answer in 0.2 s"),
        (Script(deaf=True), QUICK, "dead: nothing heard"),
        (Script(connack=packet(CONNACK, b"\0\0\3\x13\xff\xff"), deaf=True), QUICK, "dead"),
        (Script(puback=False), quick(puback_s=0.2), "no PUBACK in 0.2 s"),
        (Script(connack=packet(CONNACK, b"\0\x89\0")), QUICK, "Server busy"),
        (Script(after_suback=packet(DISCONNECT, b"\x8b\0")), QUICK, "shutting down"),
        (Script(close_after_connect=True), QUICK, "the link ended"),
        (Script(connack=b"\x20\x01\x00"), QUICK, "the link ended"),
        (Script(after_suback=packet(0x00, b"")), QUICK, "the link ended"),
        (Script(after_suback=b"\x30\xff\xff\xff\xff\x01"), QUICK, "the link ended"),
    ],
)
def test_broker_that_does_not_work_is_left_and_tried_again(
    script: Script, timing: Timing, message: str, pki: Pki, good: object, capture: Capture
) -> None:
    """A dead link is noticed by our own clock: the broker may set any keep-alive it likes."""
    capture.add(1)
    broker = HostileBroker(good, script)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing)):
        assert broker.wait(lambda: broker.accepted >= 2)
        assert broker.wait(lambda: message in capture.report.last_error), capture.report


def test_slow_link_that_carries_a_large_entry_is_not_dead(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    """One entry takes longer than the silence that counts as dead; its bytes do get through."""
    capture.add(1, size=MAX_PACKET_BYTES - 200)
    script = Script(on_publish=receipting(station), read_pause_s=0.05)
    broker = HostileBroker(good, script)
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)
    assert broker.accepted == 1


def test_silent_link_is_noticed_within_thirty_seconds_by_default() -> None:
    timing = Timing()
    assert timing.probe_s < timing.silence_s < 30 - timing.idle_s


@pytest.mark.parametrize("server_keepalive", [b"", b"\x13\xff\xff", b"\x13\0\0"])
def test_idle_link_stays_up_whatever_keep_alive_the_broker_wants(
    server_keepalive: bytes, pki: Pki, good: object, capture: Capture
) -> None:
    """The answer to a subscription that is there already is a sign of life."""
    connack = packet(CONNACK, b"\0\0" + bytes([len(server_keepalive)]) + server_keepalive)
    broker = HostileBroker(good, Script(connack=connack))
    with broker, running(make_uplink(pki, broker.port, capture)):
        probes = lambda: [k for k, _ in broker.packets[2:] if k == SUBSCRIBE]  # noqa: E731
        assert broker.wait(lambda: len(probes()) >= 2)
        assert capture.report.connected
    assert broker.accepted == 1


def test_announced_134_mb_are_refused_before_one_byte_is_kept(
    pki: Pki, good: object, capture: Capture
) -> None:
    flood = b"\x30\xff\xff\xff\x3f" + bytes(300_000)
    broker = HostileBroker(good, Script(after_suback=flood))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.refused.get("packet-too-large", 0) >= 2)


def test_unreleased_qos_2_messages_do_not_fill_the_memory(
    pki: Pki, good: object, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps each until PUBREL, 65,535 of them."""
    monkeypatch.setattr(link_module, "MAX_UNASKED_BYTES", 256 << 10)
    flood = b"".join(publish("x", bytes(60_000), qos=2, mid=mid) for mid in range(1, 12))
    broker = HostileBroker(good, Script(after_suback=flood))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: "floods us" in capture.report.last_error)


def test_forged_receipts_delete_nothing_and_too_many_end_the_link(
    pki: Pki, good: object, capture: Capture
) -> None:
    capture.add(1)
    flood = publish(DOWN, b"forged") * (MAX_FORGED + 1)
    broker = HostileBroker(good, Script(after_suback=flood))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: "forged receipts" in capture.report.last_error)
    assert capture.invalid > MAX_FORGED
    assert len(capture.pending) == 1


def test_messages_for_other_topics_are_not_handed_in(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    receipt = station.receipt(LOG, {})
    noise = publish(f"inland/1/north/down/{VEHICLE}/update", receipt)
    noise += publish("inland/1/north/down/other-car-1/policy", receipt)
    noise += publish("inland/1/north/down/other-car-1/receipt", receipt) + publish("", b"x")
    broker = HostileBroker(good, Script(after_suback=noise + publish(DOWN, b"forged")))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.invalid >= 1)
    assert capture.invalid == 1
    assert capture.chunks == []


def questions(broker: HostileBroker) -> list[PolicyQuestion]:
    """What was published on the policy topic."""
    topic = struct.pack(">H", len(UP_POLICY)) + UP_POLICY.encode()
    bodies = [body for body in published(broker) if body.startswith(topic)]
    return [PolicyQuestion.FromString(body[len(topic) + 3 :]) for body in bodies]


def test_each_piece_that_fits_brings_the_next_question(
    pki: Pki, good: object, capture: Capture
) -> None:
    """The answer goes to the hatch as it came; the link asks at once, not in a minute."""
    capture.wanted = PolicyQuestion(bundle=bytes(32))

    def take(payload: bytes) -> Accepted:
        capture.wanted = PolicyQuestion(bundle=bytes(32), offset=100 * len(capture.chunks))
        if len(capture.chunks) == 4:
            capture.wanted = None
        return Accepted(valid=True, wants_policy=capture.wanted is not None)

    capture.on_chunk = take
    answer = lambda topic, payload, mid: publish(DOWN_POLICY, b"piece %d" % mid)  # noqa: E731
    broker = HostileBroker(good, Script(on_publish=answer))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(capture.chunks) == 4)
    assert [question.offset for question in questions(broker)] == [0, 100, 200, 300]
    assert [chunk[:6] for chunk in capture.chunks] == [b"piece "] * 4


def test_a_receipt_that_names_a_bundle_brings_a_question_at_once(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    capture.add(1)

    def receipt(topic: str, payload: bytes, mid: int) -> bytes:
        if topic == UP_POLICY:
            return b""
        capture.wanted = PolicyQuestion(bundle=bytes(32))  # capture read it in the receipt
        return publish(DOWN, station.store(payload))

    broker = HostileBroker(good, Script(on_publish=receipt))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(questions(broker)) == 1)
        assert broker.wait(lambda: not capture.pending)
    assert questions(broker) == [PolicyQuestion(bundle=bytes(32))]


def test_a_car_with_nothing_to_send_asks_what_is_on_offer(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    """The answer is a receipt of no entries; it counts as any other."""
    answer = lambda topic, payload, mid: publish(DOWN, station.receipt(bytes(16), {}))  # noqa: E731
    broker = HostileBroker(good, Script(on_publish=answer))
    timing = quick(policy_s=0.1)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing)):
        assert broker.wait(lambda: len(questions(broker)) >= 3)
        assert broker.accepted == 1
    assert questions(broker)[:3] == [PolicyQuestion()] * 3
    assert capture.invalid == 0


def test_pieces_that_nobody_asked_for_end_the_link(
    pki: Pki, good: object, capture: Capture
) -> None:
    """Capture refuses and counts them; the broker is left, and tried again."""
    piece = publish(DOWN_POLICY, b"unasked")
    broker = HostileBroker(good, Script(after_suback=piece))  # each probe is answered with one
    timing = quick(probe_s=0.002)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing)):
        assert broker.wait(lambda: "pieces of policies" in capture.report.last_error)
    assert len(capture.chunks) > MAX_STRAY


def test_a_flood_of_pieces_is_not_kept_and_ends_the_link(
    pki: Pki, good: object, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no part of what the broker may send: nobody had asked."""
    monkeypatch.setattr(link_module, "MAX_UNASKED_BYTES", 256 << 10)
    flood = publish(DOWN_POLICY, bytes(60_000)) * 12
    broker = HostileBroker(good, Script(after_suback=flood))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: "floods us" in capture.report.last_error)
    assert len(capture.chunks) <= 2 * MAX_CHUNKS * broker.accepted


def test_a_piece_that_is_too_large_is_dropped(pki: Pki, good: object, capture: Capture) -> None:
    large = publish(DOWN_POLICY, bytes(MAX_CHUNK_BYTES + 1)) + publish(DOWN_POLICY, b"small")
    broker = HostileBroker(good, Script(after_suback=large))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(capture.chunks) >= 1)
    assert set(capture.chunks) == {b"small"}


def test_a_broker_that_allows_receipts_alone_is_worked_with(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    capture.add(3)
    script = Script(suback=False, on_publish=receipting(station))
    script.connack = packet(CONNACK, b"\0\0\0") + packet(SUBACK, b"\0\1\0\1\x87")
    with HostileBroker(good, script) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)


def test_back_off_grows_through_connacks_and_ends_with_a_receipt(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    """A broker that accepts and drops everybody must not be stormed by those it accepted."""
    script = Script(close_after_connect=True)
    broker = HostileBroker(good, script)
    uplink = make_uplink(
        pki, broker.port, capture, timing=quick(backoff_cap_s=0.2), rng=lambda: 0.5
    )
    with broker, running(uplink):
        assert broker.wait(lambda: broker.handshakes >= 5)
        assert uplink._backoff._wait_s > 3 * QUICK.backoff_low_s
        script.close_after_connect = False
        script.on_publish = receipting(station)
        assert broker.wait(lambda: capture.report.connected)
        assert uplink._backoff._wait_s > 3 * QUICK.backoff_low_s, "a CONNACK is no receipt"
        capture.add(1)
        assert broker.wait(lambda: not capture.pending)
        assert uplink._backoff._wait_s == 0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            Script(after_suback=packet(DISCONNECT, b"\x8e\0")),
            "another client uses this vehicle's id",
        ),
        (Script(connack=packet(CONNACK, b"\0\x87\0")), "Not authorized"),
    ],
)
def test_what_a_person_has_to_mend_waits_long(
    script: Script, message: str, pki: Pki, good: object, capture: Capture
) -> None:
    """Two cars with one id would throw each other out for ever."""
    broker = HostileBroker(good, script)
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: message in capture.report.last_error)
        reports = len(capture.reports)
        assert broker.wait(lambda: len(capture.reports) > reports + 10)
        assert broker.accepted == 1
        assert not capture.report.connected


def test_subscription_that_is_not_granted_ends_the_link(
    pki: Pki, good: object, capture: Capture
) -> None:
    script = Script(suback=False)
    script.connack = packet(CONNACK, b"\0\0\0") + packet(SUBACK, b"\0\1\0\x87")
    with HostileBroker(good, script) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: "does not let us listen" in capture.report.last_error)


def test_refused_message_is_reported_and_not_delivered(
    pki: Pki, good: object, capture: Capture
) -> None:
    capture.add(1)
    refuse = lambda topic, payload, mid: packet(PUBACK, struct.pack(">HBB", mid, 0x97, 0))  # noqa: E731
    broker = HostileBroker(good, Script(puback=False, on_publish=refuse))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: "Quota exceeded" in capture.report.last_error)
    assert len(capture.pending) == 1


def test_without_capture_nothing_is_dialled(pki: Pki, good: object, capture: Capture) -> None:
    """Trusted time comes from there; and then the link is made by itself."""
    capture.failing = True
    broker = HostileBroker(good)
    waiter = threading.Event()
    with broker, running(make_uplink(pki, broker.port, capture)):
        waiter.wait(0.1)
        assert broker.accepted == 0
        capture.failing = False
        assert broker.wait(lambda: capture.report.connected)


def test_capture_that_goes_away_does_not_end_the_link(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    broker = HostileBroker(good, Script(on_publish=receipting(station)))
    waiter = threading.Event()
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: capture.report.connected)
        capture.failing = True
        waiter.wait(0.1)
        capture.failing = False
        capture.add(3)
        assert broker.wait(lambda: not capture.pending)
    assert broker.accepted == 1


def test_checkpoint_goes_out_at_once(pki: Pki, good: object, capture: Capture) -> None:
    capture.checkpoint = CheckpointUpload(log=LOG, note="note", from_size=3)
    with HostileBroker(good) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(published(broker)) == 1)
    body = published(broker)[0]
    assert body[2 : 2 + body[1]].decode().endswith("/checkpoint")
    assert body.endswith(capture.checkpoint.SerializeToString())


def test_a_head_that_somebody_waits_for_goes_out_at_once(
    pki: Pki, good: object, capture: Capture
) -> None:
    """Between two checkpoints are 30 s here; an export asks for one now."""
    capture.checkpoint = CheckpointUpload(log=LOG, note="note", from_size=3)
    with HostileBroker(good) as broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: len(published(broker)) == 1)
        capture.head_wanted = True
        assert broker.wait(lambda: len(published(broker)) == 2)
    assert not capture.head_wanted


def test_largest_entry_goes_through(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    capture.add(3, size=MAX_PACKET_BYTES - 200)
    broker = HostileBroker(good, Script(on_publish=receipting(station)))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)


def test_wrong_files_and_ids_are_errors_of_configuration(pki: Pki, capture: Capture) -> None:
    card = pki.card(1)
    hatch = DirectHatch(capture)
    with pytest.raises(ConfigError, match="cannot be used"):
        Uplink(card, VEHICLE, pki.folder / "none.pem", None, hatch)
    no_key = pki.folder / "no.key"
    no_key.write_bytes(pki.ca_file.read_bytes())
    no_key.chmod(0o600)
    with pytest.raises(ConfigError, match="cannot be used"):
        Uplink(card, VEHICLE, pki.ca_file, no_key, hatch)
    no_key.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        Uplink(card, VEHICLE, pki.ca_file, no_key, hatch)
    with pytest.raises(ConfigError, match=r"vehicle\.id"):
        Uplink(card, "car/+/x", None, None, hatch)


def test_first_connection_is_spread(pki: Pki, good: object, capture: Capture) -> None:
    broker = HostileBroker(good)
    with broker, running(make_uplink(pki, broker.port, capture, spread_s=3600.0, rng=lambda: 0.5)):
        assert broker.wait(lambda: len(capture.reports) > 5)
    assert broker.accepted == 0


SEEDS = [
    packet(CONNACK, b"\0\0\3\x21\0\1"),
    publish("a", b"hi"),
    publish(DOWN, b"hi", qos=1),
    publish("a", b"hi", qos=2),
    packet(PUBACK, b"\0\1\x10\0"),
    packet(0x50, b"\0\1\0\0"),
    packet(0x62, b"\0\1"),
    packet(SUBACK, b"\0\1\0\0"),
    packet(0xB0, b"\0\1\0\0"),
    packet(0xD0, b""),
    packet(DISCONNECT, b"\x9d\5\x1c\0\2ab"),
    packet(0xF0, b"\0\0"),
    packet(PUBLISH, b"\0\2\xff\xfe\0x"),
    packet(PUBLISH, b"\0\1a\4\x23\0\1x"),
]


def mutate(rng: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(out)) if out else 0
        match rng.randint(0, 2):
            case 0:
                out[at:at] = bytes([rng.randrange(256)])
            case 1:
                del out[at : at + 1]
            case _ if out:
                out[at] = rng.randrange(256)
    return bytes(out)


def test_no_bytes_of_a_broker_end_the_uplink(
    pki: Pki, good: object, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever paho makes of them, the loop goes on with a new client."""
    monkeypatch.setattr("agent.uplink.backoff.LONG_WAIT_S", 0.0)
    rng = random.Random(7)
    noise = [mutate(rng, rng.choice(SEEDS)) for _ in range(25)]
    script = Script()
    broker = HostileBroker(good, script)
    timing = quick(backoff_low_s=0.001, backoff_cap_s=0.001, probe_s=0.04, silence_s=0.08)
    with broker, running(make_uplink(pki, broker.port, capture, timing=timing)) as state:
        for data in noise:
            script.after_suback = data + packet(0x00, b"")  # and then surely the end
            seen = broker.handshakes
            assert broker.wait(lambda seen=seen: broker.handshakes > seen)
            assert state.thread.is_alive(), data.hex()


def test_upload_is_what_the_hatch_gave(
    pki: Pki, good: object, capture: Capture, station: Station
) -> None:
    capture.add(1)
    expected = next(iter(capture.pending.values())).upload.SerializeToString()
    broker = HostileBroker(good, Script(on_publish=receipting(station)))
    with broker, running(make_uplink(pki, broker.port, capture)):
        assert broker.wait(lambda: not capture.pending)
    assert station.stored == {(LOG, 0): expected}
    assert Upload.FromString(expected).log == LOG
