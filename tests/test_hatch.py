"""The hatch: whatever the other side does, capture stays small, quick and alive."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import hatch
from agent.errors import HatchError, SpoolError
from agent.hatch import Frames, HatchClient, HatchServer, frame
from agent.pb import hatch_pb2 as pb
from agent.pb.delivery_pb2 import CheckpointUpload, PolicyChunk, PolicyQuestion
from agent.pb.hatch_pb2 import Accepted, Batch, HatchReply, HatchRequest, LinkReport, StatusQuestion

ASK_STATUS = HatchRequest(status=StatusQuestion()).SerializeToString()


@pytest.fixture(autouse=True)
def quick_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hatch, "TURN_S", 0.02)


def answer(request: HatchRequest) -> HatchReply:
    kind = request.WhichOneof("what")
    if kind == "next":
        skipped = sum(len(awaiting.index) for awaiting in request.next.skip)
        return HatchReply(batch=Batch(pending=skipped, trusted_unix_ns=request.next.count))
    if kind == "deliver" and request.deliver.kind == "huge":
        return HatchReply(status=bytes(hatch.MAX_REPLY_BYTES))
    if kind == "deliver" and request.deliver.kind == "failing":
        raise SpoolError("disk full", where="spool.db")
    if kind == "status":
        return HatchReply(status=b"{}")
    if kind == "presence":
        return HatchReply(presence=pb.Present(refused="no"))
    if kind == "policy":
        return HatchReply(policy=PolicyQuestion())
    if kind == "deliver" and request.deliver.kind == "policy":
        return HatchReply(accepted=Accepted(valid=True, wants_policy=True))
    if kind == "checkpoint":
        return HatchReply(checkpoint=CheckpointUpload())
    return HatchReply(accepted=Accepted(valid=True, confirmed=7))


@contextmanager
def serving(
    path: Path,
    allowed: frozenset[int] = frozenset({os.getuid()}),
    visitors: frozenset[str] = frozenset(),
    reserved: Mapping[str, frozenset[int]] | None = None,
) -> Iterator[HatchServer]:
    server = HatchServer(
        path, answer, allowed_uids=allowed, visitors=visitors, reserved=reserved or {}
    )
    stop = threading.Event()
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    try:
        yield server
        assert thread.is_alive()
    finally:
        stop.set()
        thread.join(10)
        server.close()


@contextmanager
def raw(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(5)
        sock.connect(str(path))
        yield sock


def closed_by_server(sock: socket.socket) -> bool:
    with suppress(ConnectionError):
        return sock.recv(1) == b""
    return True


def check_frames(messages: list[bytes], cuts: list[int], decoder: Frames) -> None:
    stream = b"".join(frame(message, 4096) for message in messages)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    got = []
    for start, end in pairwise(edges):
        decoder.feed(stream[start:end])
        while (message := decoder.take()) is not None:
            got.append(message)
    assert got == messages
    assert not decoder.holds_part()


MESSAGES = st.lists(st.binary(max_size=300), max_size=6)
CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@settings(max_examples=60, deadline=None)
@given(MESSAGES, CUTS)
def test_messages_survive_any_fragmentation(messages: list[bytes], cuts: list[int]) -> None:
    check_frames(messages, cuts, Frames(4096))


def test_fragmentation_check_finds_a_planted_bug() -> None:
    class Sloppy(Frames):
        """Forgets what it holds when a read ends inside a message."""

        def feed(self, data: bytes) -> None:
            if self.holds_part():
                self._bytes.clear()
            super().feed(data)

    @settings(max_examples=200, deadline=None, database=None, report_multiple_bugs=False)
    @given(MESSAGES, CUTS)
    def run(messages: list[bytes], cuts: list[int]) -> None:
        check_frames(messages, cuts, Sloppy(4096))

    with pytest.raises((AssertionError, HatchError)):
        run()


def test_every_truncation_is_no_message() -> None:
    whole = frame(b"sixteen bytes...", 100)
    for end in range(len(whole)):
        decoder = Frames(100)
        decoder.feed(whole[:end])
        assert decoder.take() is None
        assert decoder.holds_part() is (end > 0)


@given(st.integers(101, 2**32 - 1))
def test_announced_length_over_the_limit_is_refused_before_it_comes(size: int) -> None:
    decoder = Frames(100)
    decoder.feed(struct.pack(">I", size))
    with pytest.raises(HatchError, match="announced"):
        decoder.take()


def test_questions_are_answered(tmp_path: Path) -> None:
    with serving(tmp_path / "hatch") as server:
        client = HatchClient(server.path)
        batch = client.next(5, 1000, {b"a" * 16: {1, 2}, b"b" * 16: [9]})
        assert (batch.trusted_unix_ns, batch.pending) == (5, 3)
        accepted = client.deliver("receipt", b"x" * 100_000)
        assert (accepted.valid, accepted.confirmed) == (True, 7)
        client.report(LinkReport(connected=True))
        assert client.status() == b"{}"
        assert client.checkpoint() is None
        assert client.policy() is None
        chunk = PolicyChunk(bundle=bytes(32), size=1 << 20, data=bytes(64 << 10))
        assert client.deliver("policy", chunk.SerializeToString()).wants_policy
        client.close()
        assert server.path.stat().st_mode & 0o777 == 0o660
    assert not server.path.exists()


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    """A socket's name has 108 bytes at most (unix(7)); a folder's may be longer."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    with serving(folder / "hatch.sock"):
        client = HatchClient(folder / "hatch.sock")
        assert client.status()
        client.close()


def test_failures_of_capture_are_told_and_the_hatch_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path / "hatch") as server:
        client = HatchClient(server.path)
        with pytest.raises(HatchError, match=r"spool.db: disk full"):
            client.deliver("failing", b"")
        with pytest.raises(HatchError, match="is over the hatch's"):
            client.deliver("huge", b"")
        with pytest.raises(HatchError, match="is over the hatch's"):
            client.deliver("receipt", bytes(hatch.MAX_REQUEST_BYTES))
        assert client.status() == b"{}"
        client.close()


def test_client_reconnects_after_capture_restarts(tmp_path: Path) -> None:
    client = HatchClient(tmp_path / "hatch")
    with pytest.raises(HatchError, match="capture does not answer"):
        client.status()
    for _ in range(2):
        with serving(client.path):
            assert client.status() == b"{}"
        with pytest.raises(HatchError, match="capture does not answer"):
            client.status()


def test_uid_that_is_not_allowed_is_closed_unheard(tmp_path: Path) -> None:
    with serving(tmp_path / "hatch", frozenset({os.getuid() + 1})) as server:
        with raw(server.path) as sock:
            assert closed_by_server(sock)
        assert (server.counts.refused, server.counts.answered) == (1, 0)


def test_a_visitor_may_ask_what_visitors_may_and_nothing_else(tmp_path: Path) -> None:
    """A member of the socket's group, whom the file's mode lets in: the status, no entry."""
    nobody_else = frozenset({os.getuid() + 1})
    with serving(tmp_path / "hatch", nobody_else, frozenset({"status"})) as server:
        client = HatchClient(server.path)
        assert client.status() == b"{}"
        for question in (
            lambda: client.next(1, 100, {}),
            lambda: client.deliver("receipt", b""),
            lambda: client.report(LinkReport()),
            client.policy,
            client.checkpoint,
        ):
            with pytest.raises(HatchError, match="closed the hatch"):
                question()
            assert client.status() == b"{}"
        client.close()
        assert (server.counts.refused, server.counts.answered) == (5, 6)


def test_what_is_reserved_is_closed_to_others_who_may_ask(tmp_path: Path) -> None:
    """The uplink may ask for entries; an enrollment it may not even ask for."""
    for who, allowed in ((os.getuid() + 1, False), (os.getuid(), True)):
        reserved = {"presence": frozenset({who})}
        with serving(tmp_path / "hatch", reserved=reserved) as server:
            client = HatchClient(server.path)
            if allowed:
                assert client.presence(pb.Presence(code="123456")).refused == "no"
            else:
                with pytest.raises(HatchError, match="closed the hatch"):
                    client.presence(pb.Presence(code="123456"))
            assert client.status() == b"{}"
            client.close()
            assert server.counts.refused == (not allowed)


def test_planted_hatch_without_the_rule_answers_an_uplink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above would see it."""
    monkeypatch.setattr(HatchServer, "_may_ask", lambda *_: True)
    reserved = {"presence": frozenset({os.getuid() + 1})}
    with serving(tmp_path / "hatch", reserved=reserved) as server:
        client = HatchClient(server.path)
        assert client.presence(pb.Presence(code="123456")).refused == "no"
        client.close()


def test_a_socket_that_is_closed_to_us_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hatch.socket.socket, "connect", refuse)
    with pytest.raises(HatchError, match="say sudo, or join the group of this socket"):
        HatchClient(tmp_path / "hatch").status()


JUNK = [
    b"\xff\xff\xff\xff",
    struct.pack(">I", hatch.MAX_REQUEST_BYTES + 1),
    frame(b"", 10),
    frame(b"\xff" * 40, 100),
    frame(b"\x0a\xff\xff\xff\xff\x0f", 100),
]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_closed_and_counted(junk: bytes, tmp_path: Path) -> None:
    with serving(tmp_path / "hatch") as server:
        with raw(server.path) as sock:
            sock.sendall(junk)
            assert closed_by_server(sock)
        client = HatchClient(server.path)
        assert client.status() == b"{}"
        client.close()
        assert server.counts.junk == 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HatchServer]:
    with serving(tmp_path_factory.mktemp("shared") / "hatch") as server:
        yield server


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_leave_the_hatch_working(shared: HatchServer, data: bytes, framed: bool) -> None:
    with raw(shared.path) as sock:
        sock.sendall(frame(data, 200) if framed else data)
    client = HatchClient(shared.path)
    assert client.status() == b"{}"
    client.close()


def test_every_truncated_request_leaves_the_hatch_working(shared: HatchServer) -> None:
    request = HatchRequest(report=LinkReport(connected=True, peer="x")).SerializeToString()
    whole = frame(request, 1000)
    for end in range(len(whole)):
        with raw(shared.path) as sock:
            sock.sendall(whole[:end])
    client = HatchClient(shared.path)
    assert client.status() == b"{}"
    client.close()


def test_half_a_message_is_closed_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hatch, "STUCK_S", 0.05)
    monkeypatch.setattr(hatch, "TURN_S", 0.02)
    with serving(tmp_path / "hatch") as server, raw(server.path) as sock:
        sock.sendall(b"\0\0")
        assert closed_by_server(sock)
        assert server.counts.junk == 1


def test_client_that_reads_no_replies_is_not_read_either(tmp_path: Path) -> None:
    """Its questions wait in the kernel, not in capture's memory."""
    question = frame(ASK_STATUS, 100)
    with serving(tmp_path / "hatch") as server, raw(server.path) as sock:
        sock.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 64 << 20:
                sent += sock.send(question * 4096)
        client = HatchClient(server.path)
        assert client.status() == b"{}"
        client.close()
        assert sent < 8 << 20


def test_the_silent_client_makes_room(tmp_path: Path) -> None:
    with serving(tmp_path / "hatch") as server:
        client = HatchClient(server.path)
        assert client.status() == b"{}"
        with raw(server.path) as oldest:
            others = []
            for _ in range(2 * hatch.MAX_CLIENTS):
                others.append(HatchClient(server.path))
                assert others[-1].status() == b"{}"
                assert client.status() == b"{}"  # the one that works is not the one that goes
            assert closed_by_server(oldest)
        for other in [*others, client]:
            other.close()
        assert server.counts.crowded_out >= hatch.MAX_CLIENTS


def test_flood_of_questions_costs_a_bounded_share_of_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer is made expensive, so that the bound and not the socket limits it."""
    monkeypatch.setattr(hatch, "BURST_S", 0.01)
    used: list[float] = []

    def costly(request: HatchRequest) -> HatchReply:
        used.append(time.thread_time())
        while time.thread_time() - used[-1] < 0.004:
            pass
        return HatchReply(status=b"{}")

    stop = threading.Event()
    server = HatchServer(tmp_path / "h", costly, allowed_uids=frozenset({os.getuid()}))
    thread = threading.Thread(target=server.serve, args=(stop,))
    thread.start()
    begun = time.monotonic()
    with raw(server.path) as sock:
        while time.monotonic() - begun < 0.6:
            sock.sendall(frame(ASK_STATUS, 100))
            sock.recv(100)
    stop.set()
    thread.join(10)
    server.close()
    share = (used[-1] - used[0]) / (time.monotonic() - begun)
    assert share < 1.3 * hatch.CORE_SHARE, share


def test_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "hatch"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    with serving(path) as server:
        client = HatchClient(server.path)
        assert client.status() == b"{}"
        client.close()


def test_second_capture_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hatch"
    with serving(path):
        with pytest.raises(HatchError, match="another capture answers"):
            HatchServer(path, answer, allowed_uids=frozenset())
        client = HatchClient(path)
        assert client.status() == b"{}"
        client.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hatch"
    path.write_text("precious")
    with pytest.raises(HatchError, match="is not a socket"):
        HatchServer(path, answer, allowed_uids=frozenset())
    assert path.read_text() == "precious"


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(HatchError, match=r"missing/hatch: cannot bind"):
        HatchServer(tmp_path / "missing" / "hatch", answer, allowed_uids=frozenset())


def test_wrong_kind_of_answer_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path / "hatch") as server:
        client = HatchClient(server.path)
        with pytest.raises(HatchError, match="instead of 'batch'"):
            client._ask(HatchRequest(status=StatusQuestion()), "batch")
        client.close()


def test_unexpected_error_of_capture_ends_the_thread_that_serves(tmp_path: Path) -> None:
    """A failing disk must end the process, not look like a client that went away."""

    def fails(request: HatchRequest) -> HatchReply:
        raise OSError("fsync failed")

    server = HatchServer(tmp_path / "hatch", fails, allowed_uids=frozenset({os.getuid()}))
    raised: list[BaseException] = []

    def serve() -> None:
        try:
            server.serve(threading.Event())
        except OSError as error:
            raised.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with raw(server.path) as sock:
        sock.sendall(frame(ASK_STATUS, 100))
        thread.join(10)
    server.close()
    assert [str(error) for error in raised] == ["fsync failed"]
