"""The TUF repository of a region's policies on disk: made once, read, and moved on by one step.

| in `<region>/policy` | what |
|---|---|
| metadata/N.root.json | who may sign; version 1 stands in every region card |
| metadata/N.targets.json | the policies on offer, signed by 2 of 3 |
| metadata/N.snapshot.json | which targets metadata is the newest |
| metadata/timestamp.json | which snapshot is the newest; the only file that is ever replaced |
| targets/<sha256>.<name> | the policies |
| keys/ | agent/station/signers.py |

- A step writes new files first and `timestamp.json` last, each durably: a reader sees the state
  before or after, whole. What a crash leaves behind is not referred to, and the next step writes
  over it.
- One writer at a time: `writing` holds the folder.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from agent.errors import ConfigError, StationError
from agent.files import read_plain, sync_folder, write_whole
from agent.policy.update import MAX_ONLINE_BYTES, MAX_ROOT_BYTES, MAX_TARGETS_BYTES
from agent.station.signers import COUNTS, HINT, THRESHOLDS, KeyRing, make_signer

FOLDER: Final = "policy"
LIVES: Final = {  # of the metadata of each role, days
    "root": 5 * 365,  # the keys are offline: bringing them together is work
    "targets": 365,
    "snapshot": 30,
    "timestamp": 30,  # longer than that nobody can withhold a new policy unnoticed
}
MAX_SIZES: Final = {
    "root": MAX_ROOT_BYTES,
    "targets": MAX_TARGETS_BYTES,
    "snapshot": MAX_ONLINE_BYTES,
    "timestamp": MAX_ONLINE_BYTES,
}
MODE: Final = 0o644  # nothing in metadata and targets is secret; the region's folder has 0700

T = TypeVar("T", bound=Signed)


@dataclass(frozen=True, slots=True)
class State:
    """The newest metadata, as cars see it.

    Attributes:
        roots: the whole chain, oldest first.
        targets: the policies on offer.
        snapshot: names the version of `targets`.
        timestamp: names the version of `snapshot`.
    """

    roots: tuple[Root, ...]
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp

    @property
    def root(self) -> Root:
        """The root in force."""
        return self.roots[-1]

    def expiries(self) -> dict[str, dt.datetime]:
        """Return when the metadata of each role expires, UTC."""
        return {
            "root": self.root.expires,
            "targets": self.targets.expires,
            "snapshot": self.snapshot.expires,
            "timestamp": self.timestamp.expires,
        }


class Repository:
    """One region's repository.

    Args:
        folder: `<region>/policy`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metadata, self.targets = folder / "metadata", folder / "targets"

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.folder / "keys"

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the repository against another writer.

        Raises:
            ConfigError: there is none, or it cannot be written.
        """
        try:
            with (self.folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except FileNotFoundError:
            raise no_repository(self.folder) from None
        except OSError as error:
            raise ConfigError(
                f"cannot write the policy repository: {error.strerror}", where=str(self.folder)
            ) from None

    def state(self) -> State:
        """Read the newest metadata.

        Raises:
            ConfigError: there is no repository.
            StationError: a file of it is damaged.
        """
        timestamp = self._load("timestamp.json", Timestamp)
        snapshot = self._load(f"{timestamp.snapshot_meta.version}.snapshot.json", Snapshot)
        targets = self._load(f"{snapshot.meta['targets.json'].version}.targets.json", Targets)
        roots: list[Root] = []
        while (self.metadata / f"{len(roots) + 1}.root.json").exists():
            roots.append(self._load(f"{len(roots) + 1}.root.json", Root))
        return State(tuple(roots), targets, snapshot, timestamp)

    def commit(
        self,
        state: State,
        ring: KeyRing,
        now: dt.datetime,
        *,
        targets: Targets | None = None,
        roots: Sequence[Root] = (),
    ) -> tuple[str, ...]:
        """Put new metadata on offer: targets if given, then snapshot, then timestamp.

        Args:
            state: the newest metadata.
            ring: the keys at hand.
            now: UTC.
            targets: the policies to be on offer; None: as they are.
            roots: roots under each of which all must be valid; the one in force if left out.

        Returns:
            The names of the keys that signed the targets.

        Raises:
            StationError: not enough keys are at hand. Nothing has changed for any reader.
            OSError: it cannot be written; see `writing`.
        """
        valid_under = tuple(roots) or (state.root,)
        signed_by: tuple[str, ...] = ()
        snapshot, timestamp = copy.deepcopy(state.snapshot), copy.deepcopy(state.timestamp)
        # All is signed before anything is written: a missing key leaves nothing behind.
        new: list[tuple[str, bytes]] = []
        if targets is not None:
            targets = _next(targets, state.targets.version, now)
            data, signed_by = sealed(targets, ring, valid_under)
            new.append((f"{targets.version}.targets.json", data))
            snapshot.meta["targets.json"] = MetaFile.from_data(targets.version, data, ["sha256"])
        snapshot = _next(snapshot, snapshot.version, now)
        data, _ = sealed(snapshot, ring, valid_under)
        new.append((f"{snapshot.version}.snapshot.json", data))
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        timestamp = _next(timestamp, timestamp.version, now)
        new.append(("timestamp.json", sealed(timestamp, ring, valid_under)[0]))
        for name, data in new:
            self.put(self.metadata / name, data)
        return signed_by

    def put(self, path: Path, data: bytes) -> None:
        """Write one file durably.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(path, [data], mode=MODE)
        sync_folder(path.parent)

    def _load(self, name: str, kind: type[T]) -> T:
        path = self.metadata / name
        try:
            signed: Signed = Metadata.from_bytes(read_plain(path, MAX_TARGETS_BYTES)).signed
        except FileNotFoundError:
            raise no_repository(self.folder, name) from None
        except (OSError, RepositoryError) as error:
            why = (isinstance(error, OSError) and error.strerror) or error
            raise StationError(f"cannot be read: {why}", where=str(path)) from None
        if not isinstance(signed, kind):
            raise StationError(f"holds {signed.type} metadata", where=str(path))
        return signed


def no_repository(folder: Path, name: str = "") -> ConfigError:
    """Return what to say where there is no repository."""
    return ConfigError(
        f"no policy repository here{f': {name} is missing' if name else ''}", where=str(folder),
        todo="`inland station init` makes one with the region",
    )  # fmt: skip


def create_repository(folder: Path, now: dt.datetime) -> str:
    """Make the repository of a new region, with nothing on offer.

    Args:
        folder: `<region>/policy`, which does not exist yet.
        now: UTC.

    Returns:
        The root metadata for the region card.

    Raises:
        OSError: it cannot be written.
    """
    repository = Repository(folder)
    for path in (folder, repository.metadata, repository.targets, repository.keys):
        path.mkdir(mode=0o700)
    (repository.keys / "README").write_text(HINT, "utf-8")
    root = Root(version=1, expires=_until("root", now), consistent_snapshot=True)
    for role, count in COUNTS.items():
        for number in range(1, count + 1):
            root.add_key(make_signer(repository.keys, f"{role}-{number}").public_key, role)
        root.roles[role].threshold = THRESHOLDS[role]
    ring = KeyRing(repository.keys)
    data, _ = sealed(root, ring, (root,))
    repository.put(repository.metadata / "1.root.json", data)
    empty = State((root,), Targets(), Snapshot(), Timestamp())
    empty.targets.version = empty.snapshot.version = empty.timestamp.version = 0  # 1 comes next
    repository.commit(empty, ring, now, targets=empty.targets)
    return data.decode("utf-8")


def sealed(signed: Signed, ring: KeyRing, roots: Sequence[Root]) -> tuple[bytes, tuple[str, ...]]:
    """Return signed metadata as bytes, and the names of the keys that signed.

    Raises:
        StationError: not enough keys are at hand, or more bytes than a car takes.
    """
    metadata: Metadata[Any] = Metadata(signed)
    names = ring.sign(metadata, signed.type, roots)
    data = metadata.to_bytes(JSONSerializer(compact=True))
    if len(data) > MAX_SIZES[signed.type]:
        raise StationError(
            f"the {signed.type} metadata would have {len(data)} bytes",
            todo=f"a car takes at most {MAX_SIZES[signed.type]}",
        )
    return data, names


def next_root(root: Root, now: dt.datetime) -> Root:
    """Return a copy of a root as the next version, good for as long as a root is."""
    return _next(root, root.version, now)


def _next(signed: T, version: int, now: dt.datetime) -> T:
    fresh = copy.deepcopy(signed)
    fresh.version = version + 1
    fresh.expires = _until(signed.type, now)
    return fresh


def _until(role: str, now: dt.datetime) -> dt.datetime:
    return now + dt.timedelta(days=LIVES[role])
