"""A bundle that comes in pieces, over a broker that nobody has to trust."""

from __future__ import annotations

import hashlib
import json
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture import incoming
from agent.capture.incoming import (
    BEGUN,
    FIRST_WAIT_S,
    INSTALLED,
    MAX_BUNDLE_BYTES,
    MAX_CHUNK_BYTES,
    MAX_IN_VAIN,
    REFUSED,
    RETRY_NS,
    Incoming,
    unpack,
)
from agent.errors import PolicyError
from agent.pb.delivery_pb2 import PolicyBundle, PolicyChunk, PolicyFile, PolicyQuestion

ROOT = ("metadata/1.root.json", b"{}")
TARGET = (f"targets/{'ab' * 32}.default.policy", b"policy" * 1000)


def pack(*files: tuple[str, bytes]) -> bytes:
    return PolicyBundle(
        file=[PolicyFile(name=name, data=data) for name, data in files or (ROOT, TARGET)]
    ).SerializeToString()


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def piece(data: bytes, offset: int, length: int, /, **changes: object) -> bytes:
    fields = {
        "bundle": digest(data), "size": len(data), "offset": offset,
        "data": data[offset : offset + length],
    }  # fmt: skip
    return PolicyChunk(**{**fields, **changes}).SerializeToString()


class World:
    """A state folder that outlives its Incoming, and clocks that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_ns, self.clock_s = folder, 1_800_000_000 * 10**9, 100.0
        self.start()

    def start(self) -> None:
        self.incoming = Incoming(
            self.folder, now_ns=lambda: self.now_ns, clock=lambda: self.clock_s
        )

    def fetch(self, data: bytes, step: int = 2000) -> None:
        """What the uplink and an honest region do."""
        more = self.incoming.named(digest(data))
        while more:
            question = self.incoming.wanted()
            assert question is not None
            assert question.bundle == digest(data)
            accepted = self.incoming.chunk(piece(data, question.offset, step))
            assert accepted.valid
            more = accepted.wants_policy


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "policy")


def test_a_bundle_becomes_a_folder(world: World):
    data = pack()
    world.fetch(data)
    assert world.incoming.wanted() is None
    assert world.incoming.take() == digest(data).hex()
    folder = world.folder / "incoming"
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert files == dict([ROOT, TARGET])
    modes = {stat.S_IMODE(p.stat().st_mode) for p in [folder, *folder.rglob("*")]}
    assert modes == {0o700, 0o600}
    assert sorted(p.name for p in world.folder.iterdir()) == ["incoming", "incoming.json"]


def test_what_was_installed_is_never_fetched_again(world: World):
    data = pack()
    world.fetch(data)
    bundle = world.incoming.take()
    world.incoming.done(bundle, INSTALLED, "")
    for _ in range(2):
        assert not world.incoming.named(digest(data))
        assert world.incoming.wanted() is None
        world.now_ns += 2 * RETRY_NS
        world.start()
    assert world.incoming.named(digest(b"another"))


def test_what_was_refused_is_fetched_again_once_a_day_or_for_another(world: World):
    data = pack()
    world.fetch(data)
    world.incoming.done(world.incoming.take(), REFUSED, "refused")
    world.start()
    assert not world.incoming.named(digest(data))
    world.now_ns += RETRY_NS - 1
    assert not world.incoming.named(digest(data))
    world.now_ns += 1
    assert world.incoming.named(digest(data))
    world.fetch(data)
    world.incoming.done(world.incoming.take(), REFUSED, "refused")
    assert not world.incoming.named(digest(data)), "again a day"
    assert world.incoming.named(digest(b"another"))


def test_an_installation_that_was_cut_short_is_tried_three_times(world: World):
    """A power cut is no refusal; a bundle that takes the process down each time is one."""
    data = pack()
    for _ in range(3):
        world.fetch(data)
        assert world.incoming.take() is not None
        assert world.incoming.processed.outcome == BEGUN
        world.start()
    assert not world.incoming.named(digest(data))
    world.now_ns += RETRY_NS
    assert world.incoming.named(digest(data))


def test_nothing_named_nothing_wanted(world: World):
    assert not world.incoming.named(b"")
    assert world.incoming.wanted() is None
    assert not world.incoming.chunk(piece(pack(), 0, 10)).valid
    assert world.incoming.take() is None
    assert not world.folder.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": bytes(32)},
        {"bundle": b""},
        {"size": 0},
        {"size": MAX_BUNDLE_BYTES + 1},
        {"size": 2 << 20},
        {"size": 99},
        {"offset": 100},
        {"offset": 0xFFFFFFFF},
        {"data": b""},
        {"data": bytes(MAX_CHUNK_BYTES + 1), "size": MAX_BUNDLE_BYTES},
    ],
)
def test_a_piece_that_was_not_asked_for_is_refused(world: World, changes: dict[str, object]):
    data = pack()
    world.incoming.named(digest(data))
    assert not world.incoming.chunk(piece(data, 0, 100, **changes)).valid
    assert world.incoming.wanted() == PolicyQuestion(bundle=digest(data), offset=0)


def test_a_forged_piece_in_between_changes_nothing(world: World):
    data = pack()
    world.incoming.named(digest(data))
    assert world.incoming.chunk(piece(data, 0, 1000)).wants_policy
    for forged in (
        piece(data, 1000, 100, size=len(data) + 1), piece(data, 1001, 100), b"\xff", b"",
        piece(data, 0, 100, data=b"x" * 100),
    ):  # fmt: skip
        assert not world.incoming.chunk(forged).valid
    again = world.incoming.chunk(piece(data, 0, 1000))
    assert (again.valid, again.wants_policy) == (True, False), "a broker may deliver twice"
    world.fetch(data)
    assert world.incoming.take() is not None


def test_a_wrong_whole_is_dropped_and_waits_ever_longer(world: World):
    data = pack()
    bad = data[:-1] + bytes([data[-1] ^ 1])
    world.incoming.named(digest(data))
    for round_ in range(3):
        assert not world.incoming.chunk(piece(bad, 0, len(bad), bundle=digest(data))).valid
        assert world.incoming.take() is None
        assert world.incoming.wanted() is None
        world.clock_s += FIRST_WAIT_S * 2**round_ - 1
        assert world.incoming.wanted() is None
        world.clock_s += 1
        assert world.incoming.wanted() is not None
    world.fetch(data)
    assert world.incoming.take() is not None


def test_a_first_piece_that_lied_about_the_size_is_forgotten(world: World):
    """Nobody else could ever finish it."""
    data = pack()
    world.incoming.named(digest(data))
    assert world.incoming.chunk(piece(data, 0, 100, size=len(data) + 1)).valid
    assert not world.incoming.chunk(piece(data, 100, 100)).valid
    offsets = [world.incoming.wanted().offset for _ in range(MAX_IN_VAIN + 1)]
    assert offsets == [100] * MAX_IN_VAIN + [0]
    world.fetch(data)
    assert world.incoming.take() is not None


def test_another_bundle_named_in_between_begins_anew(world: World):
    old, new = pack(), pack(ROOT)
    world.incoming.named(digest(old))
    world.incoming.chunk(piece(old, 0, 100))
    assert world.incoming.named(digest(new))
    assert not world.incoming.chunk(piece(old, 100, 100)).valid
    world.fetch(new)
    assert world.incoming.take() == digest(new).hex()


def test_another_bundle_that_arrives_while_one_is_installed_is_not_lost(world: World):
    old, new = pack(), pack(ROOT)
    world.fetch(old)
    installing = world.incoming.take()
    world.fetch(new)
    world.incoming.done(installing, INSTALLED, "")
    assert world.incoming.take() == digest(new).hex()


def test_memory_is_bounded_by_the_largest_bundle(world: World):
    data = pack(ROOT, ("targets/" + "0" * 64 + ".p", random.Random(1).randbytes(MAX_BUNDLE_BYTES)))
    assert len(data) > MAX_BUNDLE_BYTES
    world.incoming.named(digest(data))
    assert not world.incoming.chunk(piece(data, 0, MAX_CHUNK_BYTES)).valid
    assert world.incoming.progress() == (digest(data).hex(), 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "", "metadata", "metadata/", "metadata/.json", "metadata/../x.json", "../metadata/x.json",
        "/etc/x.json", "metadata/a/b.json", "metadata/x.json/", "targets/x", "targets/../a.policy",
        f"targets/{'ab' * 32}", f"targets/{'ab' * 32}.", f"targets/{'ab' * 32}...", "x.json",
        f"targets/{'ab' * 32}.a/b", "metadata/x.json\n", "metadata/1.2.3.4.json",
        "metadata\\x.json",
        f"targets/{'AB' * 32}.x",
    ],
)  # fmt: skip
def test_a_name_off_the_list_is_refused(world: World, name: str):
    world.fetch(pack(ROOT, (name, b"x")))
    with pytest.raises(PolicyError, match="no place"):
        world.incoming.take()
    assert world.incoming.processed.outcome == REFUSED
    assert not (world.folder / "incoming").exists()
    assert world.incoming.take() is None
    assert world.incoming.wanted() is None


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x12\x00", pack(ROOT, ROOT), pack(*[
    (f"metadata/{n}.root.json", b"") for n in range(1, 300)
])])  # fmt: skip
def test_what_is_no_bundle_is_refused(world: World, data: bytes):
    world.fetch(data)
    with pytest.raises(PolicyError):
        world.incoming.take()


def test_a_folder_of_before_is_replaced_whole(world: World):
    for files in ((ROOT, TARGET), (ROOT, ("metadata/2.root.json", b"[]"))):
        world.fetch(pack(*files))
        world.incoming.done(world.incoming.take(), INSTALLED, "")
        folder = world.folder / "incoming"
        assert sum(p.is_file() for p in folder.rglob("*")) == 2
    # What a power cut left behind is in nobody's way.
    for remains in ("incoming.new", "incoming.old"):
        (world.folder / remains / "metadata").mkdir(parents=True)
    unpack(pack(), world.folder)
    assert sorted(p.name for p in world.folder.iterdir()) == ["incoming", "incoming.json"]


def test_a_symlink_in_the_way_is_not_followed(world: World, tmp_path: Path):
    (tmp_path / "victim").mkdir()
    world.folder.mkdir()
    (world.folder / "incoming").symlink_to(tmp_path / "victim")
    unpack(pack(), world.folder)
    assert not (world.folder / "incoming").is_symlink()
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("note", ["", "[]", "{}", '{"bundle": 1}', "\xff", '{"bundle":"x"'])
def test_a_note_that_cannot_be_read_is_no_note(world: World, note: str):
    world.folder.mkdir()
    (world.folder / "incoming.json").write_text(note, "latin-1")
    world.start()
    assert world.incoming.named(digest(pack()))


def test_what_cannot_be_noted_is_still_not_tried_again_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    data = pack()
    world.fetch(data)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(incoming, "replace_file", full)
    with pytest.raises(OSError, match="No space"):
        world.incoming.take()
    with pytest.raises(OSError, match="No space"):
        world.incoming.done(digest(data).hex(), REFUSED, "storage")
    assert not world.incoming.named(digest(data))


def test_the_note_is_plain_json(world: World):
    data = pack()
    world.fetch(data)
    world.incoming.done(world.incoming.take(), REFUSED, "bundle")
    assert json.loads((world.folder / "incoming.json").read_bytes()) == {
        "bundle": digest(data).hex(), "outcome": "refused", "code": "bundle",
        "at_unix_ns": world.now_ns, "tries": 1,
    }  # fmt: skip


DATA = pack(ROOT, ("metadata/2.root.json", b"x" * 50))
WHOLE = digest(DATA)


def check_only_the_named(make: Callable[[Path], Incoming], pieces: list[bytes], tmp: Path) -> None:
    """Whatever comes: nothing but the named bytes is ever handed on, and never more is held."""
    subject = make(tmp)
    subject.named(WHOLE)
    for payload in pieces:
        subject.chunk(payload)
        _, held, _ = subject.progress()
        assert held <= MAX_BUNDLE_BYTES
        assert subject._whole in (None, DATA)


def pieces_of_anything() -> st.SearchStrategy[bytes]:
    offsets = st.sampled_from([0, 1, 10, 20, len(DATA) - 1])
    lengths = st.sampled_from([1, 10, 19, len(DATA)])
    honest = st.builds(piece, st.just(DATA), offsets, lengths)
    lying = st.builds(
        lambda offset, data, size: PolicyChunk(
            bundle=WHOLE, size=size, offset=offset, data=data
        ).SerializeToString(),
        offsets, st.binary(min_size=1, max_size=len(DATA)),
        st.sampled_from([len(DATA), 20, 1 << 21]),
    )  # fmt: skip
    return honest | lying | st.binary(max_size=20)


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(pieces_of_anything(), max_size=12))
def test_no_pieces_make_another_bundle(tmp_path_factory: pytest.TempPathFactory, pieces):
    folder = tmp_path_factory.mktemp("in")
    check_only_the_named(lambda f: Incoming(f, now_ns=lambda: 1, clock=lambda: 0.0), pieces, folder)


def test_a_door_that_trusts_the_broker_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The planted bug: any whole counts."""
    bad = bytes(len(DATA))
    monkeypatch.setattr(incoming, "sha256", lambda data: WHOLE)
    with pytest.raises(AssertionError):
        check_only_the_named(
            lambda f: Incoming(f, now_ns=lambda: 1, clock=lambda: 0.0),
            [piece(bad, 0, len(bad), bundle=WHOLE)], tmp_path,
        )  # fmt: skip
