"""Who is let in at the live socket, and what it costs when somebody is not.

Bare sockets where a client of ours would not do what is tried here.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import live
from agent.capture.live import LiveFeed
from agent.errors import HatchError, OwnerError
from agent.hatch_frames import Frames, frame
from agent.owner import register
from agent.owner.keyfile import OwnerKey
from agent.owner.live import connect
from agent.pb.live_pb2 import LiveAnswer, LiveChallenge, LiveMessage
from agent.service import live as server
from agent.service import live_reader
from agent.service.live_reader import LiveReader
from agent.vault.segment import Payload
from tests.owner.looking import SOME_S, Looker, Watched, knock, serving
from tests.owner.people import ANNA, BELA, CARL, drive, enroll, privates, remove
from tests.rig import wait_for

MARK = b"\xde\xad\xbe\xef\x12\x34\x56\x78"  # in frames that the driver may see
FRAMES = """
[[collect]]
id = "{id}-frames"
category = "vehicle.state"
purpose = "owner_access"
basis = "safety"
necessity = "a test"
frames = ["*:0x100"]
keep = "1d"
recipients = "{id}"
"""
POLICY = """\
policy = "people"
version = 1
region = "cn"
not_after = 2099-12-31
""" + "".join(FRAMES.format(id=one) for one in ("owner", "shared", "driver", "region", "both"))


@pytest.fixture
def car(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """A car with an owner who drives, and a driver; its live socket is not served yet."""
    monkeypatch.setattr(server, "TURN_S", 0.02)
    made = Watched(tmp_path, POLICY)
    enroll(made.people, ANNA)
    enroll(made.people, BELA, register.DRIVER)
    made.stand(1)
    yield made
    made.vault.close()


def say(sock: socket.socket, answer: LiveAnswer) -> None:
    sock.sendall(frame(answer.SerializeToString(deterministic=True), 4096))


def hear(sock: socket.socket) -> list[LiveMessage]:
    """All that comes until the other end closes."""
    frames, found = Frames(live.MAX_MESSAGE_BYTES), []
    with suppress(ConnectionError):
        while data := sock.recv(1 << 16):
            frames.feed(data)
    while (message := frames.take()) is not None:
        found.append(LiveMessage.FromString(message))
    return found


def challenge(sock: socket.socket) -> bytes:
    frames = Frames(live.MAX_MESSAGE_BYTES)
    while (message := frames.take()) is None:
        data = sock.recv(1)
        assert data
        frames.feed(data)
    return LiveMessage.FromString(message).challenge


def answer(asked: bytes, key: OwnerKey, *, by: OwnerKey | None = None, **more: Any) -> LiveAnswer:
    """What somebody says to a challenge; `by`: who signs it."""
    kid = bytes.fromhex(key.public.kid)
    signature = (by or key).signing.sign(live.signed(asked, kid, frames=True))
    return LiveAnswer(**({"kid": kid, "frames": True, "signature": signature} | more))


def refusal(sock: socket.socket) -> str:
    """The one sentence that is the last thing to come."""
    (message,) = hear(sock)
    assert message.WhichOneof("what") == "refused"
    return message.refused.why


def altered(asked: bytes, **more: Any) -> bytes:
    """A challenge with something else in it."""
    found = LiveChallenge.FromString(asked)
    for name, value in more.items():
        setattr(found, name, value)
    return found.SerializeToString(deterministic=True)


TRIED: dict[str, Callable[[bytes], LiveAnswer]] = {
    "a stranger": lambda asked: answer(asked, CARL),
    "a stranger with the owner's id": lambda asked: answer(asked, ANNA, by=CARL),
    "a driver with the owner's id": lambda asked: answer(asked, ANNA, by=BELA),
    "a signature for another car": lambda asked: answer(altered(asked, vehicle="car-2"), ANNA),
    "a signature of the owner before": lambda asked: answer(altered(asked, epoch=7), ANNA),
    "a signature of another boot": lambda asked: answer(altered(asked, boot_id=b"b" * 16), ANNA),
    "a signature of another connection": lambda asked: answer(
        altered(asked, nonce=b"n" * 32), ANNA
    ),
    "a signature without raw frames": lambda asked: answer(
        asked, ANNA, signature=ANNA.signing.sign(
            live.signed(asked, bytes.fromhex(ANNA.public.kid), frames=False))
    ),
    "a signature of a request": lambda asked: answer(
        asked, ANNA, signature=ANNA.signing.sign(b"inland/request/v1\n" + asked)
    ),
    "the challenge signed bare": lambda asked: answer(
        asked, ANNA, signature=ANNA.signing.sign(asked)
    ),
}  # fmt: skip


@pytest.mark.parametrize("tried", TRIED)
def test_nobody_is_let_in_by(car: Watched, tried: str):
    """One sentence, the same for all: it does not tell which keys are enrolled."""
    with serving(car.folder, car.feed) as served, knock(served.path) as sock:
        say(sock, TRIED[tried](challenge(sock)))
        assert refusal(sock) == live_reader.STRANGER


@pytest.mark.parametrize("tried", TRIED)
def test_without_looking_at_the_signature_they_would_be(
    car: Watched, monkeypatch: pytest.MonkeyPatch, tried: str
):
    """Planted: then each of them but a stranger's own kid is let in."""
    monkeypatch.setattr(LiveReader, "_is_signed", lambda *_: True)
    with serving(car.folder, car.feed) as served, knock(served.path) as sock:
        say(sock, TRIED[tried](challenge(sock)))
        if tried == "a stranger":
            assert refusal(sock) == live_reader.STRANGER
            return
        sock.shutdown(socket.SHUT_WR)
        assert next(one.WhichOneof("what") for one in hear(sock)) == "session"


def played_again(car: Watched, **more: Any) -> list[LiveMessage]:
    """What comes of the very bytes that let somebody in, on the next connection."""
    with serving(car.folder, car.feed, **more) as served:
        with knock(served.path) as sock:
            recorded = answer(challenge(sock), ANNA)
            say(sock, recorded)
            sock.shutdown(socket.SHUT_WR)
            assert hear(sock)[0].session
        with knock(served.path) as sock:
            challenge(sock)
            say(sock, recorded)
            sock.shutdown(socket.SHUT_WR)
            return hear(sock)


def test_a_recorded_answer_is_good_once(car: Watched):
    (message,) = played_again(car)
    assert message.refused.why == live_reader.STRANGER


def test_a_challenge_that_comes_again_is_found(car: Watched):
    """Planted: a car whose random numbers are always the same."""
    assert played_again(car, rng=bytes)[0].session


def test_a_driver_who_does_not_drive_sees_nothing(car: Watched):
    """And is told so; whoever drives is let in."""
    with serving(car.folder, car.feed) as served:
        with pytest.raises(OwnerError, match="does not drive now"):
            connect(served.path, BELA, frames=True)
        drive(car.people, BELA)
        car.stand(1)
        looker = Looker(served.path, BELA)
        assert not looker.stream.is_owner
        looker.go()


def test_who_was_removed_is_a_stranger(car: Watched):
    remove(car.people, BELA)
    car.stand(1)
    with (
        serving(car.folder, car.feed) as served,
        pytest.raises(OwnerError, match="nobody with this key is enrolled here"),
    ):
        connect(served.path, BELA, frames=True)


def test_the_people_of_the_ownership_before_are_strangers(tmp_path: Path):
    """A register of an older epoch is nobody's: so is its key."""
    made = Watched(tmp_path, POLICY)
    enroll(made.people, ANNA, epoch=2)  # the car is in its first
    made.stand(1)
    with (
        serving(tmp_path, made.feed) as served,
        pytest.raises(OwnerError, match="nobody with this key is enrolled here"),
    ):
        connect(served.path, ANNA, frames=True)
    made.vault.close()


@pytest.mark.parametrize("change", ["removed", "enrolled", "another drives"])
def test_a_change_of_the_people_ends_every_stream(car: Watched, change: str):
    """With the look that ends the sessions of the ledger; what was kept before still comes."""
    with serving(car.folder, car.feed) as served:
        looker = Looker(served.path, ANNA)
        car.drive(1)
        if change == "removed":
            remove(car.people, BELA)
        elif change == "enrolled":
            enroll(car.people, CARL, register.DRIVER)
        else:
            drive(car.people, BELA)
        car.stand(0.5)  # the sealer looks twice a second
        looker.end()
    assert looker.ended == server.CHANGED


def around_a_removal(car: Watched) -> tuple[list[bytes], list[bytes]]:
    """Frames that Anna sees live, and those that the ledger has for her, when she is removed."""
    with serving(car.folder, car.feed) as served:
        looker = Looker(served.path, ANNA)
        car.step([(0x100, b"before..")])
        remove(car.people, ANNA)
        for _ in range(10):
            car.step([(0x100, b"after...")])
        looker.wait(lambda: frames_in(looker) >= 3)
    looker.end()
    car.sealer.finish()
    seen = [payload for part in looker.parts for _, payload in part.pieces]
    held = [one for found in car.opened_by(privates(ANNA)).values() for one in found]
    return sorted(map(data_of, rows_of(seen))), sorted(map(data_of, rows_of(held)))


def rows_of(payloads: Iterable[Payload]) -> Iterator[Any]:
    for payload in payloads:
        yield from payload.frames


def data_of(row: Any) -> bytes:
    return bytes(row["data"][: row["length"]])


def test_what_is_kept_after_a_change_is_not_for_those_before(car: Watched):
    """To the frame: what the ledger has for her until the change, and not what comes then."""
    seen, held = around_a_removal(car)
    assert seen == held
    assert b"before.." in seen
    assert seen.count(b"after...") < 10 * 3


def test_a_change_that_does_not_end_the_stream_is_found(
    car: Watched, monkeypatch: pytest.MonkeyPatch
):
    """Planted."""

    def admit(self: Any, people: Any) -> None:
        self._people = people

    monkeypatch.setattr(server.LiveServer, "_admit", admit)
    seen, held = around_a_removal(car)
    assert seen != held


def test_garbage_ends_a_connection_and_nothing_else(car: Watched):
    """Bare bytes, or as a message of the right length; the owner comes in after it."""
    with serving(car.folder, car.feed) as served:

        @settings(max_examples=60)
        @given(data=st.binary(max_size=400), whole=st.booleans())
        def check(data: bytes, *, whole: bool) -> None:
            with knock(served.path) as sock:
                challenge(sock)
                with suppress(OSError):
                    sock.sendall(frame(data, 4096) if whole else data)
                    sock.shutdown(socket.SHUT_WR)
                for message in hear(sock):
                    assert message.WhichOneof("what") == "refused"

        check()
        Looker(served.path, ANNA).go()


def test_a_watcher_who_speaks_is_closed(car: Watched):
    with serving(car.folder, car.feed) as served, knock(served.path) as sock:
        say(sock, answer(challenge(sock), ANNA))
        assert sock.recv(1)
        sock.sendall(b"more")
        hear(sock)  # ends


def test_who_says_nothing_is_closed_in_time(car: Watched, monkeypatch: pytest.MonkeyPatch):
    """Before an answer, and in the middle of one."""
    monkeypatch.setattr(server, "ANSWER_S", 0.1)
    with serving(car.folder, car.feed) as served:
        for part in (b"", b"\0\0\0\x50", b"\0\0\0\x50abc"):
            with knock(served.path) as sock:
                challenge(sock)
                sock.sendall(part)
                assert hear(sock) == []


def test_an_answer_that_is_announced_too_long_is_not_waited_for(car: Watched):
    with serving(car.folder, car.feed) as served, knock(served.path) as sock:
        challenge(sock)
        sock.sendall((live.MAX_ANSWER_BYTES + 1).to_bytes(4, "big"))
        assert hear(sock) == []


def test_64_connections_leave_room_for_the_owner(car: Watched):
    """48 of the silent ones are dropped, the newest stay; the owner is let in, and goes on."""
    with serving(car.folder, car.feed) as served, ExitStack() as stack:
        looker = Looker(served.path, ANNA)
        silent = [stack.enter_context(knock(served.path)) for _ in range(64)]
        for sock in silent[-server.MAX_KNOCKING :]:
            challenge(sock)
        assert len(served._clients) == server.MAX_KNOCKING + 1
        car.step([(0x100, MARK)])
        looker.wait(lambda: any(part.pieces for part in looker.parts))
        second = Looker(served.path, ANNA)
        second.go()
        looker.go()


@pytest.mark.parametrize("others", [2, 1])
def test_one_user_cannot_crowd_out_another(
    car: Watched, monkeypatch: pytest.MonkeyPatch, others: int
):
    """Of the user with most the oldest goes; if they are one user's, that is the first of all."""
    uids = iter([1, *[others] * 20])
    real = socket.socket.getsockopt

    def peer(self: socket.socket, level: int, name: int, size: int = 0) -> Any:
        found = real(self, level, name, size)
        if name != socket.SO_PEERCRED:
            return found
        return found[:4] + next(uids).to_bytes(4, "little") + found[8:]

    monkeypatch.setattr(socket.socket, "getsockopt", peer, raising=False)
    with serving(car.folder, car.feed) as served, ExitStack() as stack:
        first = stack.enter_context(knock(served.path))
        asked = challenge(first)
        for _ in range(20):
            challenge(stack.enter_context(knock(served.path)))
        with suppress(OSError):
            say(first, answer(asked, ANNA))
            first.shutdown(socket.SHUT_WR)
        kinds = [one.WhichOneof("what") for one in hear(first)]
        assert kinds[:1] == (["session"] if others == 2 else [])


def test_only_so_many_watch(car: Watched):
    with serving(car.folder, car.feed) as served:
        lookers = [Looker(served.path, ANNA) for _ in range(server.MAX_WATCHING)]
        with pytest.raises(HatchError, match="as many people watch as may at once"):
            connect(served.path, ANNA, frames=True)
        lookers.pop().go()
        wait_for(lambda: len(served._clients) < server.MAX_WATCHING, SOME_S, "one less")
        lookers.append(Looker(served.path, ANNA))
        for looker in lookers:
            looker.go()


def test_strangers_cost_no_more_than_their_share(car: Watched, monkeypatch: pytest.MonkeyPatch):
    """Beyond it nobody is let in for a while, and who watches does not notice."""
    monkeypatch.setattr(server, "CORE_SHARE", 0.0)
    monkeypatch.setattr(server, "BURST_S", 0.0005)
    with serving(car.folder, car.feed) as served, ExitStack() as stack:
        looker = Looker(served.path, ANNA)
        wait_for(lambda: not served._listens, SOME_S, "nobody is let in")
        late = stack.enter_context(knock(served.path))
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(1)
        car.step([(0x100, MARK)])
        looker.wait(lambda: any(part.pieces for part in looker.parts))
        looker.go()


def test_a_slow_reader_loses_and_is_told_and_nobody_waits(car: Watched):
    """It reads nothing while frames come; another one gets them all, and so does the ledger."""
    many, steps = 2000, 40
    with serving(car.folder, car.feed) as served:
        slow = connect(served.path, ANNA, frames=True)
        assert slow is not None
        quick = Looker(served.path, ANNA)
        for number in range(1, steps + 1):
            car.step([(0x100, os.urandom(8)) for _ in range(many)])
            quick.wait(lambda all_=number * 3 * many: frames_in(quick) == all_)
            waiting = [client.reader.waiting for client in served._clients.values()]
            assert max(waiting) <= live_reader.MAX_WAITING
        quick.go()
        assert car.sealer.counters.lost == 0
        seen = lost = 0
        for part in slow.parts():
            seen += sum(len(payload.frames) for _, payload in part.pieces)
            lost += part.lost[0]
            if seen + lost == steps * 3 * many:
                break
        slow.close()
    assert lost > 0
    assert seen > 0


def frames_in(looker: Looker) -> int:
    return sum(len(payload.frames) for part in looker.parts for _, payload in part.pieces)


def test_a_reader_who_stops_reading_is_closed(car: Watched, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "STUCK_S", 0.1)
    monkeypatch.setattr(live_reader, "MAX_WAITING", 4096)
    with serving(car.folder, car.feed) as served:
        slow = connect(served.path, ANNA, frames=True)
        assert slow is not None
        pause, tries = threading.Event(), 0
        while served._clients and tries < 400:  # until the kernel takes no more
            car.step([(0x100, os.urandom(8)) for _ in range(300)])
            pause.wait(0.01)
            tries += 1
        assert not served._clients
        slow.close()


def test_readers_that_die_leave_capture_as_it_was(car: Watched):
    """Closed with frames unread, again and again; the ledger has every frame."""
    with serving(car.folder, car.feed) as served:
        for number in range(20):
            slow = connect(served.path, ANNA, frames=True)
            assert slow is not None
            car.step([(0x100, number.to_bytes(8, "big"))] * 50)
            slow.close()
        wait_for(lambda: not served._clients, SOME_S, "all are gone")
        wait_for(lambda: not car.feed.wanted, SOME_S, "nothing is wanted")
    car.sealer.finish()
    held = car.opened_by(privates(ANNA))["owner"]
    assert sum(len(one.frames) for one in held) == 1000


def on_the_wire(car: Watched) -> bytes:
    """Every byte that leaves the socket while somebody watches a frame that says MARK."""
    with serving(car.folder, car.feed) as served, knock(served.path) as sock:
        say(sock, answer(challenge(sock), ANNA))
        frames, got = Frames(live.MAX_MESSAGE_BYTES), b""
        parts = 0
        while parts < 3:  # session, the first part, the frame
            data = sock.recv(1 << 16)
            got += data
            frames.feed(data)
            while frames.take() is not None:
                parts += 1
                if parts == 2:
                    car.step([(0x100, MARK)])
    return got


SECRETS = (MARK, b"owner-frames")


def test_nothing_on_the_socket_can_be_read(car: Watched):
    """Neither a frame nor the policy; and nothing at all goes to the disk in the clear."""
    got = on_the_wire(car)
    assert len(got) > 2000
    assert [one for one in SECRETS if one in got] == []
    for path in car.folder.rglob("*"):
        assert not path.is_file() or MARK not in path.read_bytes()


def test_what_is_not_sealed_is_found(car: Watched, monkeypatch: pytest.MonkeyPatch):
    """Planted: the same search on a stream in the clear."""
    monkeypatch.setattr(live_reader, "seal_segment", lambda _session, _header, payload: payload)
    got = on_the_wire(car)
    assert MARK in got
    assert b"owner-frames" in got


@contextmanager
def forwarded(path: Path, to: Path, heard: bytearray) -> Iterator[Path]:
    """What `ssh -L` does with a Unix socket: bytes go over TCP. It keeps all that it carries."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as near,
        socket.create_server(("127.0.0.1", 0)) as middle,
    ):
        near.bind(str(path))
        near.listen()

        def carry(source: socket.socket, sink: socket.socket) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    heard.extend(data)
                    sink.sendall(data)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

        def run() -> None:
            caller, _ = near.accept()
            with (
                caller, socket.create_connection(middle.getsockname()) as out,
                middle.accept()[0] as far, knock(to) as car,
            ):  # fmt: skip
                pairs = (caller, out), (far, car), (car, far)
                threads = [threading.Thread(target=carry, args=one) for one in pairs]
                for thread in threads:
                    thread.start()
                carry(out, caller)
                for thread in threads:
                    thread.join(SOME_S)

        thread = threading.Thread(target=run)
        thread.start()
        yield path
        thread.join(SOME_S)
        assert not thread.is_alive()


def test_through_a_relay_it_is_the_same_and_the_relay_reads_nothing(car: Watched):
    heard = bytearray()
    with (
        serving(car.folder, car.feed) as served,
        forwarded(car.folder / "car.sock", served.path, heard) as path,
    ):
        looker = Looker(path, ANNA)
        car.step([(0x100, MARK)])
        looker.wait(lambda: frames_in(looker) == 3)
        looker.go()
    assert len(heard) > 2000
    assert [one for one in SECRETS if one in heard] == []


def test_the_socket_file_is_open_to_all_and_goes_with_its_server(car: Watched):
    with serving(car.folder, car.feed) as served:
        assert served.path.stat().st_mode & 0o777 == 0o666
    assert not served.path.exists()


def test_nobody_is_let_in_before_it_is_known_who_may_watch(tmp_path: Path):
    """A feed whose sealer has not looked yet: a knock waits, and is answered when it has."""
    feed = LiveFeed()
    with serving(tmp_path, feed) as served, knock(served.path) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        feed.admit(())
        sock.settimeout(SOME_S)
        say(sock, answer(challenge(sock), ANNA))
        assert refusal(sock) == live_reader.STRANGER
    feed.close()
