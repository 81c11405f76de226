"""The person's side of the live stream, against cars that are none, or that lie; and the feed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import live
from agent.capture import live as feed_module
from agent.capture.live import Decides, LiveFeed, Lost, People
from agent.errors import HatchError, InlandError, SealError
from agent.frames import FRAME, SIGNAL
from agent.hatch_frames import Frames, frame
from agent.owner import live as client
from agent.owner.live import connect
from agent.owner.live_lines import Ages, time_of_day
from agent.owner.zone import zone_of
from agent.pb import sealed_pb2
from agent.pb.live_pb2 import LiveChallenge, LiveMessage, LivePart
from agent.pb.moment_pb2 import Moment
from agent.policy.engine import Kept
from agent.policy.model import RuleSet
from agent.service import live_reader
from agent.service.live_reader import Car, LiveReader, Piece
from agent.vault.enrolled import Onlooker
from tests.owner.people import ANNA, BELA

ME = Onlooker(
    bytes.fromhex(ANNA.public.kid), ANNA.public.recipient, ANNA.public.sign,
    frozenset({sealed_pb2.OWNER, sealed_pb2.SHARED}),
)  # fmt: skip
CAR = Car("car-00000001", "urn:inland:region:cn", 1, bytes(16), 1)


def reader() -> LiveReader:
    return LiveReader(CAR, os.urandom)


@contextmanager
def spoken(path: Path, speak: Callable[[socket.socket, Frames], None]) -> Iterator[None]:
    """Something that listens, and says what it likes to whoever comes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(20)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(20)
                try:
                    speak(sock, Frames(1 << 20))
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(20)


def send(sock: socket.socket, one: LiveReader) -> None:
    while one.out:
        sock.sendall(one.out[0])
        one.left(len(one.out[0]))


def let_in(sock: socket.socket, one: LiveReader, me: Onlooker = ME) -> None:
    """What a true car does until somebody watches."""
    send(sock, one)
    while one.hear(sock.recv(4096), (ME,)) is None:
        pass
    one.begin(me, b"")
    send(sock, one)


def parts(path: Path, count: int = 3) -> list[client.Part]:
    stream = connect(path, ANNA, frames=True)
    assert stream is not None
    found: list[client.Part] = []
    try:
        for part in stream.parts():
            found.append(part)
            if len(found) == count:
                break
        return found
    finally:
        stream.close()


def messages(one: LiveReader) -> list[bytes]:
    """What waits to be sent, taken out, as whole messages."""
    found = [bytes(data) for data in one.out]
    while one.out:
        one.left(len(one.out[0]))
    return found


def test_a_true_car_is_read(tmp_path: Path):
    """So that what follows fails for its own reasons."""

    def speak(sock: socket.socket, _: Frames) -> None:
        one = reader()
        let_in(sock, one)
        for _ in range(3):
            one.give((), Moment(unix_ns=5))
        send(sock, one)
        sock.recv(1)

    with spoken(tmp_path / "s", speak):
        assert [part.sealed_ns for part in parts(tmp_path / "s")] == [5, 5, 5]


TAMPERED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "a part left out": lambda sent: [sent[0], *sent[2:]],
    "a part twice": lambda sent: [sent[0], sent[0], *sent[1:]],
    "two parts swapped": lambda sent: [sent[0], sent[2], sent[1]],
    "a bit turned": lambda sent: [sent[0], sent[1][:-1] + bytes([sent[1][-1] ^ 1]), sent[2]],
    "the head turned": lambda sent: [
        sent[0], sent[1][:30] + bytes([sent[1][30] ^ 1]) + sent[1][31:], sent[2]
    ],
    "a session again": lambda sent: [
        sent[0], frame(LiveMessage(session=b"iSE1").SerializeToString(), 1 << 20), *sent[1:]
    ],
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_a_relay_that_changes_something_is_found(tmp_path: Path, how: str):
    def speak(sock: socket.socket, _: Frames) -> None:
        one = reader()
        let_in(sock, one)
        for _ in range(3):
            one.give((), Moment(unix_ns=5))
        for data in TAMPERED[how](messages(one)):
            sock.sendall(data)
        sock.recv(1)

    with spoken(tmp_path / "s", speak), pytest.raises(SealError):
        parts(tmp_path / "s")


@pytest.mark.parametrize("what", ["vehicle", "epoch", "another connection", "another's key"])
def test_a_session_of_something_else_is_refused(tmp_path: Path, what: str):
    """Of another car or ownership, of a stream that was recorded, or for another's key."""

    def speak(sock: socket.socket, _: Frames) -> None:
        one = reader()
        send(sock, one)
        while one.hear(sock.recv(4096), (ME,)) is None:
            pass
        if what == "another connection":
            one._log = bytes(16)
        elif what == "another's key":
            one.begin(replace(ME, recipient=BELA.public.recipient), b"")
        else:
            one._car = replace(CAR, **{what: "car-2" if what == "vehicle" else 2})
        if one.onlooker is None:
            one.begin(ME, b"")
        send(sock, one)
        sock.recv(1)

    with spoken(tmp_path / "s", speak), pytest.raises(SealError):
        parts(tmp_path / "s")


@settings(max_examples=80)
@given(data=st.binary(max_size=300))
def test_whatever_a_challenge_is_it_is_read_or_refused(data: bytes):
    try:
        found = live.read_challenge(data)
    except HatchError:
        return
    assert len(found.nonce) == live.NONCE_BYTES


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0\0", b"\0\0\0\3abc",
        frame(LiveMessage(challenge=b"short").SerializeToString(), 4096),
        frame(LiveMessage(segment=b"too early").SerializeToString(), 4096),
        frame(LiveMessage(challenge=LiveChallenge(
            nonce=bytes(32), vehicle="car\x1b[2J", epoch=1, boot_id=bytes(16)
        ).SerializeToString()).SerializeToString(), 4096),
    ],
)  # fmt: skip
def test_what_is_no_car_is_one_sentence(tmp_path: Path, said: bytes):
    """And nothing is signed for it."""
    heard: list[bytes] = []

    def speak(sock: socket.socket, _: Frames) -> None:
        sock.sendall(said)
        sock.shutdown(socket.SHUT_WR)
        heard.append(sock.recv(4096))

    with spoken(tmp_path / "s", speak), pytest.raises(InlandError) as error:
        connect(tmp_path / "s", ANNA, frames=True)
    assert "\n" not in str(error.value)
    assert heard == [b""]


def test_a_car_that_falls_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "SILENT_S", 0.3)
    monkeypatch.setattr(client, "LOOK_S", 0.05)

    def speak(sock: socket.socket, _: Frames) -> None:
        let_in(sock, reader())
        sock.recv(1)

    with spoken(tmp_path / "s", speak), pytest.raises(HatchError, match="nothing for"):
        parts(tmp_path / "s")


def told(monkeypatch: pytest.MonkeyPatch, room: int) -> tuple[int, list[int]]:
    """How many pieces come, and what is told to be lost, of 20 that nobody takes for a while."""
    monkeypatch.setattr(live_reader, "MAX_WAITING", room)
    sealed: list[LivePart] = []
    true = live_reader.seal_segment

    def seal(session: Any, header: Any, payload: bytes) -> bytes:
        sealed.append(LivePart.FromString(payload))
        return true(session, header, payload)

    monkeypatch.setattr(live_reader, "seal_segment", seal)
    one = reader()
    one.begin(ME, b"p" * 100)
    for _ in range(5):
        one.give([Piece(sealed_pb2.ROUTINE, os.urandom(3000), (7, 5, 1))] * 4, Moment())
        assert one.waiting <= room
    messages(one)
    one.give((), Moment())
    assert [part.policy.compiled for part in sealed if part.HasField("policy")] == [b"p" * 100]
    lost = [(part.lost_frames, part.lost_samples, part.lost_records) for part in sealed]
    return sum(len(part.piece) for part in sealed), [sum(one) for one in zip(*lost, strict=True)]


@pytest.mark.parametrize("room", [3000, 6000, 9000, 12_000, 40_000])
def test_what_has_no_room_is_counted_to_the_row(monkeypatch: pytest.MonkeyPatch, room: int):
    """Each piece comes, or is told to be lost; the policy is told once, however late."""
    came, lost = told(monkeypatch, room)
    assert lost == [(20 - came) * one for one in (7, 5, 1)]
    assert came < 20


def test_a_loss_that_is_not_told_is_found(monkeypatch: pytest.MonkeyPatch):
    """Planted."""
    monkeypatch.setattr(LiveReader, "lose", lambda *_: None)
    came, lost = told(monkeypatch, 6000)
    assert lost != [(20 - came) * one for one in (7, 5, 1)]


def kept(many: int, recipients: int = sealed_pb2.OWNER, consent: str = "") -> Kept:
    rules = RuleSet(recipients, sealed_pb2.ROUTINE, 1000, False, 10**9, 60, consent)
    return Kept(rules, np.zeros(many, FRAME), np.zeros(3, SIGNAL))


def test_the_feed_keeps_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch):
    """Rows beyond it are counted, by whom they were for; what comes later is taken again."""
    monkeypatch.setattr(feed_module, "MAX_ROWS", 100)
    feed = LiveFeed()
    feed.wanted = frozenset({sealed_pb2.OWNER})
    for _ in range(3):
        feed.keep([kept(40), kept(40, sealed_pb2.REGION)], ("can0",), Moment())
    items: list[Any] = feed.take()
    assert sum(one.rows for one in items if not isinstance(one, Lost)) == 89
    assert [one for one in items if isinstance(one, Lost)] == [Lost(sealed_pb2.OWNER, 40, 0)]
    feed.keep([kept(40)], ("can0",), Moment())
    assert [one.rows for one in feed.take()] == [40, 3]  # type: ignore[union-attr]
    assert feed.take() == []
    feed.close()


def test_what_waits_under_a_consent_that_ends_is_thrown_away():
    """As the recorder's open rows are; changes of people and policy stay in their order."""
    feed = LiveFeed()
    feed.wanted = frozenset({sealed_pb2.OWNER})
    feed.keep([kept(1, consent="location.track"), kept(2)], ("can0",), Moment())
    feed.decide(None, b"x")
    feed.admit((ME,))
    feed.discard("location.track")
    assert feed.take()[2:] == [Decides(b""), People((ME,))]
    feed.close()


def test_ages_are_told_to_the_millisecond():
    ages = Ages()
    assert ages.within_ms((0.5,)) == []
    ages.add(10**9, np.array([10**9 - 5 * 10**6] * 98 + [10**9 - 900 * 10**6, -(10**15)]))
    assert ages.within_ms((0.5, 0.99, 1.0)) == [5, 900, 60_000]


def test_the_time_of_day_is_the_zone_s():
    assert time_of_day(1_795_870_825_601_999_999, zone_of("Asia/Shanghai")) == "21:00:25.601"
    assert time_of_day(-1, zone_of("UTC")) == "23:59:59.999"
