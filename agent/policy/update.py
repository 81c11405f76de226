"""From a dropped policy repository to a policy in force: the car's end of the air.

The way of a policy, each step refusing on its own: TUF (root chain from the region card, threshold
of signers, no older metadata than seen before, expiry by trusted time, hash of the file) → the
target of this vehicle → the door (`load_policy`: region, version range, expiry) → the floor → a dry
run → `store.install`. Whatever is refused, the policy in force stays.

What python-tuf leaves to its user is done here: its cache is written durably, its clock is ours,
its files come from a folder and never over HTTP. The cache is a convenience; the floor beside it
is what an older policy does not get past even when the cache is lost.

Imports python-tuf (24 MB): for one-shot processes alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from agent.digest import sha256
from agent.errors import ConfigError, PolicyError
from agent.files import make_folder, sync_folder, write_whole
from agent.policy import probation, store
from agent.policy.compiled import load_policy
from agent.policy.drop_dir import METADATA, TARGETS, DropDir
from agent.policy.model import MAX_BYTES, Policy
from agent.policy.rollout import check_group, next_target, stable_target, takes_part

CACHE: Final = "tuf"
MAX_ROTATIONS: Final = 64  # new roots in one update
MAX_ROOT_BYTES: Final = 64 * 1024
MAX_TARGETS_BYTES: Final = 256 * 1024
MAX_ONLINE_BYTES: Final = 16 * 1024  # snapshot, timestamp

# What hostile metadata makes python-tuf raise beyond its own two families.
_NONSENSE: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update came to.

    Attributes:
        changed: False: these bytes were in force already.
        name: of the policy.
        version: of the policy.
        digest: SHA-256 of the compiled policy.
    """

    changed: bool
    name: str
    version: int
    digest: bytes


def update(
    drop: Path,
    folder: Path,
    *,
    card_root: bytes,
    region: str,
    vehicle: str,
    group: str,
    now_ns: int,
    rehearse: Callable[[Policy], None],
) -> Outcome:
    """Take the policy that a dropped repository offers this vehicle.

    Args:
        drop: folder with `metadata` and `targets`.
        folder: state/policy; made if it is not there.
        card_root: root metadata of the region card, version 1.
        region: urn:inland:region:<id> of the card.
        vehicle: pseudonym; decides whether it goes first with a staged policy.
        group: vehicle group, whose target is taken.
        now_ns: trusted time, ns since 1970.
        rehearse: the dry run; raises PolicyError.

    Raises:
        PolicyError: refused, with the reason; the policy in force stays.
        PolicyLaterError: the disk is full or failing.
        ConfigError: no repository there, no such group, or a folder that cannot be written.
    """
    check_group(group, where="[vehicle] group")
    if not (drop / "metadata").is_dir():
        raise ConfigError(
            "holds no policy repository", where=str(drop),
            todo="name the folder that holds 'metadata' and 'targets'",
        )  # fmt: skip
    cache = folder / CACHE
    with _refusing(drop, cache):
        store.make_own(folder)
        make_folder(cache)
        with store.alone(cache):
            client = _Client(cache, DropDir(drop), card_root, now_ns)
            data, version = _fetch(client, vehicle, group)
    policy = load_policy(data, region=region, now_ns=now_ns)
    if version not in (None, policy.version):
        raise PolicyError(f"the repository calls it version {version}",
                          where=f"policy {policy.name} version {policy.version}")  # fmt: skip
    changed = store.check_version(folder, policy)
    if changed:
        rehearse(policy)
    changed = store.install(folder, data, proven=probation.has_proved_itself(folder))
    return Outcome(changed, policy.name, policy.version, policy.digest)


def _fetch(client: _Client, vehicle: str, group: str) -> tuple[bytes, int | None]:
    """Return the target of a vehicle and the version that the signers gave it."""
    client.refresh()
    target, version = _choose(client, vehicle, group)
    if target.length > MAX_BYTES:
        raise PolicyError(f"{target.path} has {target.length} bytes", todo=f"at most {MAX_BYTES}")
    name = f"{target.hashes['sha256']}.{target.path}"
    data = client.drop.download_bytes(TARGETS + name, target.length)
    target.verify_length_and_hashes(data)
    return data, version


@contextlib.contextmanager
def _refusing(drop: Path, cache: Path) -> Iterator[None]:
    """Turn whatever a repository provokes into one PolicyError, and a full disk into another."""
    todo = ""
    try:
        yield
        return
    except OSError as error:
        raise store.disk_error(error, cache) from None
    except ExpiredMetadataError as error:
        said, todo = str(error), "ask the region for a fresh repository"
    except (RepositoryError, DownloadError, *_NONSENSE) as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
    raise PolicyError(f"the policy repository is refused: {said}", where=str(drop), todo=todo)


def _choose(client: Updater, vehicle: str, group: str) -> tuple[TargetFile, int | None]:
    """Return the vehicle's target and its version: the staged one if it takes part."""
    staged = client.get_targetinfo(next_target(group))
    if staged is not None:
        version, percent = _custom(staged)
        if version is None or percent is None:
            raise PolicyError(f"{staged.path} does not say for whom it is")
        if takes_part(vehicle, version=version, percent=percent):
            return staged, version
    stable = client.get_targetinfo(stable_target(group))
    if stable is None:
        raise PolicyError(f"the region offers no policy for vehicle group '{group}'")
    return stable, _custom(stable)[0]


def _custom(target: TargetFile) -> tuple[int | None, int | None]:
    """Return (version, percent) of a target's custom data, None for what is not said."""
    told: Any = target.custom if target.custom is not None else {}
    if not isinstance(told, dict):
        raise PolicyError(f"{target.path} has malformed custom data")
    version, percent = told.get("version"), told.get("percent")
    for value, most in ((version, 2**63 - 1), (percent, 100)):
        if value is not None and (type(value) is not int or not 0 <= value <= most):
            raise PolicyError(f"{target.path} has malformed custom data")
    return version, percent


class _Client(Updater):
    """python-tuf's updater with a durable cache and the car's trusted time."""

    def __init__(self, cache: Path, drop: DropDir, root: bytes, now_ns: int) -> None:
        self.drop = drop
        for torn in cache.rglob(".*"):  # a write that a power cut ended
            torn.unlink()
        known = len(list(cache.glob("root_history/*.root.json")))
        config = UpdaterConfig(
            max_root_rotations=MAX_ROTATIONS + known,  # it counts from the card's root each time
            max_delegations=1,
            root_max_length=MAX_ROOT_BYTES,
            timestamp_max_length=MAX_ONLINE_BYTES,
            snapshot_max_length=MAX_ONLINE_BYTES,
            targets_max_length=MAX_TARGETS_BYTES,
        )
        super().__init__(str(cache), METADATA, None, TARGETS, drop, config, bootstrap=root)
        # It would ask the wall clock, which says 1970 or whatever somebody set.
        self._trusted_set.reference_time = dt.datetime.fromtimestamp(now_ns / 1e9, dt.UTC)

    def _persist_file(self, filename: str, data: bytes) -> None:
        """Write a file of the cache durably (python-tuf renames without fsync)."""
        path = Path(filename)
        if path.is_file() and sha256(path.read_bytes()) == sha256(data):
            return
        write_whole(path, [data])
        sync_folder(path.parent)

    def _update_root_symlink(self) -> None:
        """Leave no link: the root is always the card's, and the chain from there."""
