"""What the region offers a vehicle group, as one message and as a folder.

The bundle of a group is what `inland policy install` takes: the whole root chain, the newest
timestamp, snapshot and targets metadata, and the policies of that group. It is the same bytes as
long as the repository is the same, so its hash names it, and it is made once per state.

Reads the repository only; needs no key and no lock, because a step of the repository shows in
`timestamp.json` alone.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Final

from tuf.api.metadata import TargetFile, Targets

from agent.errors import ConfigError, StationError
from agent.files import make_folder, place_folder, read_plain, write_new
from agent.pb.delivery_pb2 import PolicyBundle
from agent.policy.rollout import check_group, next_target, stable_target
from agent.station.policy_repository import FOLDER, Repository, State

MAX_BUNDLE_BYTES: Final = 1 << 20  # a car takes no more


def bundle(region_folder: Path, group: str) -> bytes:
    """Return the bundle on offer to a group: a PolicyBundle; b"" if nothing is.

    Cheap while the repository stays the same: one look at one file.

    Args:
        region_folder: the region's folder.
        group: vehicle group.

    Raises:
        ConfigError, StationError: the repository cannot be read.
    """
    try:
        seen = (region_folder / FOLDER / "metadata" / "timestamp.json").stat()
    except FileNotFoundError:
        return b""
    return _bundle(region_folder, group, (seen.st_ino, seen.st_mtime_ns, seen.st_size))


@functools.lru_cache(maxsize=16)
def _bundle(region_folder: Path, group: str, _state: tuple[int, int, int]) -> bytes:
    repository = Repository(region_folder / FOLDER)
    state = repository.state()
    targets = of_group(state.targets, group)
    if not targets:
        return b""
    metadata = [f"{root.version}.root.json" for root in state.roots]
    metadata += [
        "timestamp.json", f"{state.snapshot.version}.snapshot.json",
        f"{state.targets.version}.targets.json",
    ]  # fmt: skip
    names = [f"metadata/{name}" for name in metadata]
    names += [f"targets/{file_name(target)}" for target in targets]
    message = PolicyBundle()
    for name in sorted(set(names)):
        try:
            message.file.add(name=name, data=read_plain(repository.folder / name, MAX_BUNDLE_BYTES))
        except OSError as error:
            raise StationError(
                f"cannot be read: {error.strerror}", where=str(repository.folder / name)
            ) from None
    data = message.SerializeToString(deterministic=True)
    if len(data) > MAX_BUNDLE_BYTES:
        raise StationError(
            f"what group '{group}' is offered has {len(data)} bytes",
            where=str(repository.folder),
            todo=f"a car takes at most {MAX_BUNDLE_BYTES}",
        )
    return data


def of_group(targets: Targets, group: str) -> list[TargetFile]:
    """Return the targets of a group: for all, then staged."""
    names = (stable_target(group), next_target(group))
    return [targets.targets[name] for name in names if name in targets.targets]


def file_name(target: TargetFile) -> str:
    """Return the name of a target's file, which its hash begins."""
    return f"{target.hashes['sha256']}.{target.path}"


def room(state: State, repository: Repository, group: str, more: TargetFile) -> int:
    """Return about how many bytes a group's bundle has once a target is on offer as well."""
    metadata = sum(one.stat().st_size for one in repository.metadata.glob("*.root.json"))
    others = [one for one in of_group(state.targets, group) if one.path != more.path]
    listed = 300 * (len(state.targets.targets) + 1)  # bytes of an entry in the targets metadata
    return metadata + listed + sum(one.length for one in others) + more.length + 8192


def export(region_folder: Path, to: Path, group: str) -> list[str]:
    """Write what a group is offered as a folder that `inland policy install` takes.

    Args:
        region_folder: the region's folder.
        to: a folder that does not exist yet, or is empty.
        group: vehicle group.

    Returns:
        The names of its files.

    Raises:
        ConfigError: no such group, nothing is on offer to it, or the folder is taken or cannot be
            written.
        StationError: the repository cannot be read.
    """
    check_group(group, where="--group")
    data = bundle(region_folder, group)
    if not data:
        raise ConfigError(
            f"nothing is on offer to group '{group}'",
            where="--group",
            todo="`inland station policy publish` puts a policy on offer",
        )
    to = to.absolute()
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError("not empty", where=str(to), todo="name another folder")
    try:
        make_folder(to.parent, mode=0o777)
        draft = Path(tempfile.mkdtemp(prefix=f".{to.name}.", dir=to.parent))
        try:
            files = PolicyBundle.FromString(data).file
            for folder in ("metadata", "targets"):
                (draft / folder).mkdir()
            for file in files:
                write_new(draft / file.name, file.data)
            place_folder(draft, to)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write: {error.strerror}", where=str(to)) from None
    return [file.name for file in files]
