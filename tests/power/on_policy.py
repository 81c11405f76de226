"""The policy on its way into force, back out of it, and the bundle that it came in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from unittest import mock

from agent import files
from agent.capture import incoming as incoming_module
from agent.capture.incoming import INSTALLED, Incoming
from agent.capture.slot import PolicySlot
from agent.digest import sha256
from agent.errors import PolicyError
from agent.pb.delivery_pb2 import PolicyBundle, PolicyChunk
from agent.policy import probation, store
from agent.policy.update import update
from tests.policy import making
from tests.policy.air import NOW, VEHICLE, Air, policy
from tests.power.workloads import Note, Say, bug, workload

NOW_NS = int(NOW.timestamp()) * 10**9
BOOT = b"\x01" * 16
NAMES = {
    "active.policy", "previous.policy", "floor", "probation.json", "tuf", "incoming",
    "incoming.json",
}  # fmt: skip


def place(folder: Path) -> Path:
    return folder / "state" / "policy"


def sound(folder: Path, notes: list[Note]) -> None:
    """Start as the agent does; then an update has to come to its end, whatever was left lying."""
    state = place(folder)
    versions, floor = next((note[1:] for note in notes[::-1] if note[0] == "force"), ((0,), 0))
    in_force = _boot(state)
    assert in_force in versions, f"version {in_force} is in force, not one of {versions}"
    assert store.floor(state) >= max(floor, in_force), "the floor fell"
    if 0 < in_force < store.floor(state):  # gone back: never forward to the same again
        with contextlib.suppress(PolicyError):
            store.install(state, policy(store.floor(state)))
        assert _boot(state) == in_force, "a policy that was put back is in force again"
    for drop, root in (note[1:] for note in notes if note[0] == "air"):
        update(
            Path(drop), state, card_root=root, region=making.REGION, vehicle=VEHICLE,
            group="default", now_ns=NOW_NS, rehearse=lambda _: None,
        )  # fmt: skip
    store.install(state, policy(7))
    assert _boot(state) == store.floor(state) == 7
    probation.proven(state)
    assert {path.name for path in state.iterdir()} <= NAMES, "something is left for ever"


def _boot(state: Path) -> int:
    """Return the version that a started agent decides by; 0: none."""
    slot = PolicySlot(state, making.REGION)
    change = slot.look(NOW_NS)
    assert change is not None
    assert change.why == "started", change.why
    if change.policy is not None and probation.began(state, change.hash, b"\x02" * 16, 0):
        change = slot.put_back(NOW_NS)
    return change.policy.version if change.policy is not None else 0


@workload(check=sound)
def policies(folder: Path, say: Say) -> Iterator[None]:
    """The first one; an update over the air; three deaths under it; the next that is higher."""
    state = place(folder)
    air = Air(folder.parent / "air")
    air.offer(policy(6))
    drop = air.drop()
    air.offer(policy(7))
    say("air", str(air.drop()), air.root)
    yield
    say("force", (0, 5), 0)
    store.install(state, policy(5))
    say("force", (5,), 5)
    probation.began(state, sha256(policy(5)), BOOT, 0)
    probation.proven(state)
    say("force", (5, 6), 5)
    assert air.take(drop, state=state, rehearsal=lambda _: None).changed
    say("force", (6,), 6)
    for second in (1, 20, 40):
        assert not probation.began(state, sha256(policy(6)), BOOT, second * 10**9)
    say("force", (5, 6), 6)
    assert probation.began(state, sha256(policy(6)), BOOT, 60 * 10**9)
    say("force", (5,), 6)
    say("force", (5, 7), 6)
    assert air.take(state=state, rehearsal=lambda _: None).version == 7
    say("force", (7,), 7)
    probation.began(state, sha256(policy(7)), BOOT, 80 * 10**9)
    probation.ended_clean(state)


@workload(check=sound)
def installation(folder: Path, say: Say) -> Iterator[None]:
    """An installation that was cut short by a kill is done again."""
    state = place(folder)
    store.install(state, policy(5))
    say("force", (5, 6), 5)
    yield
    store.install(state, policy(6))
    say("force", (6,), 6)


@workload(check=sound)
def going_back(folder: Path, say: Say) -> Iterator[None]:
    """A way back that was cut short by a kill is gone again."""
    state = place(folder)
    store.install(state, policy(5))
    store.install(state, policy(6))
    for second in (1, 20, 40):
        assert not probation.began(state, sha256(policy(6)), BOOT, second * 10**9)
    say("force", (5, 6), 6)
    yield
    data = store.active(state)
    assert data is not None
    probation.began(state, sha256(data), BOOT, 60 * 10**9)
    say("force", (5,), 6)


# --- bundles --------------------------------------------------------------------------------------


def bundle(seed: int) -> bytes:
    rng, out = Random(seed), PolicyBundle()
    for name in ("metadata/timestamp.json", f"metadata/{seed}.root.json", f"targets/{'a' * 64}.p"):
        out.file.add(name=name, data=rng.randbytes(1500 * seed))
    return out.SerializeToString()


def fetch(state: Path, whole: bytes) -> Incoming:
    """Bring a bundle in, piece by piece, as the hatch does."""
    incoming = Incoming(state, now_ns=lambda: NOW_NS, clock=lambda: 0.0)
    digest = sha256(whole)
    assert incoming.named(digest)
    for at in range(0, len(whole), 4000):
        piece = PolicyChunk(
            bundle=digest, offset=at, size=len(whole), data=whole[at : at + 4000]
        )  # fmt: skip
        assert incoming.chunk(piece.SerializeToString()).valid
    return incoming


def unpacked(folder: Path, notes: list[Note]) -> None:
    """What stands there is one bundle, whole; one that was installed is not fetched again."""
    state = place(folder)
    seeds = next(note[1] for note in notes[::-1] if note[0] == "place")
    assert _seed(state / "incoming") in seeds
    word, *values = notes[-1]
    if word == "installed":
        incoming = Incoming(state, now_ns=lambda: NOW_NS, clock=lambda: 0.0)
        assert not incoming.named(sha256(bundle(*values))), "what was installed is fetched again"
    incoming = fetch(state, bundle(3))
    assert incoming.take() == sha256(bundle(3)).hex()
    assert _seed(state / "incoming") == 3
    incoming.done(sha256(bundle(3)).hex(), INSTALLED, "")
    assert {path.name for path in state.iterdir()} <= NAMES, "something is left for ever"


def _seed(there: Path) -> int:
    """Return which bundle stands there, whole; 0: nothing."""
    if not there.exists():
        return 0
    found = {str(one.relative_to(there)): one for one in there.rglob("*") if one.is_file()}
    for seed in (1, 2, 3):
        files = {file.name: file.data for file in PolicyBundle.FromString(bundle(seed)).file}
        if {name: path.read_bytes() for name, path in found.items()} == files:
            return seed
    raise AssertionError(f"a bundle that nobody sent: {sorted(found)}")


@workload(check=unpacked)
def bundles(folder: Path, say: Say) -> Iterator[None]:
    """One bundle, then another in its place."""
    yield
    state = place(folder)
    for seed, before in ((1, 0), (2, 1)):
        say("place", (0, before, seed))
        incoming = fetch(state, bundle(seed))
        name = incoming.take()
        assert name is not None
        say("place", (seed,))
        incoming.done(name, INSTALLED, "")
        say("installed", seed)


# --- bugs ----------------------------------------------------------------------------------------


@bug(policies)
def policy_without_its_content() -> AbstractContextManager[object]:
    """Written and renamed, not synced: what python-tuf does to its own files."""
    return mock.patch.object(store, "write_new", Path.write_bytes)


@bug(policies)
@contextlib.contextmanager
def policy_without_its_name() -> Iterator[None]:
    """The file is synced, the folder is not."""
    with mock.patch.object(store, "sync_folder"), mock.patch.object(files, "sync_folder"):
        yield


@bug(policies)
def floor_after_the_switch() -> AbstractContextManager[object]:
    """Gone back first, noted then: in between the bad policy looks like one that may come again."""

    def put_back(folder: Path) -> None:
        floor = store._read_floor(folder)
        (folder / store.PREVIOUS).replace(folder / store.ACTIVE)
        store.sync_folder(folder)
        store._write_floor(folder, store._Floor(floor.version, floor.digest, put_back=True))

    return mock.patch.object(store, "put_back", put_back)


@bug(bundles)
def folders_of_a_bundle_not_synced() -> AbstractContextManager[object]:
    """Only the folder that the bundle appears in is."""
    real = incoming_module.sync_folder
    return mock.patch.object(
        incoming_module, "sync_folder", lambda path: real(path) if path.name == "policy" else None
    )
