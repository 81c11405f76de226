"""Publishing policies: what `inland station policy` does to a region's TUF repository.

- A policy below 100 per cent is staged as `<group>.next.policy`; at 100 it replaces
  `<group>.policy`, and what was staged goes.
- Versions only rise within a group, those that were withdrawn included: a car that took one keeps
  it until a higher one comes. The highest stands in the signed targets metadata.
- Each command that was cut short is mended by running it again; the same publication twice changes
  nothing.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Root, TargetFile, Targets

from agent.errors import ConfigError, StationError
from agent.policy.compiled import load_policy
from agent.policy.rollout import check_group, next_target, stable_target
from agent.station.authority import RegionFolder
from agent.station.offer import MAX_BUNDLE_BYTES, file_name, room
from agent.station.policy_repository import FOLDER, LIVES, Repository, State, next_root, sealed
from agent.station.signers import KeyRing, make_signer, name_of, next_name

HIGHEST: Final = "x-inland-highest"  # in the targets metadata: group -> version
ALL: Final = 100
RENEW_AFTER: Final = dt.timedelta(days=7)  # each renewal is a new bundle for every car
WARN: Final = dt.timedelta(days=60)  # before metadata that people sign expires


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication came to.

    Attributes:
        changed: False: exactly this was on offer already.
        target: name of the target.
        policy: name of the policy.
        version: of the policy.
        percent: of the group's vehicles.
        signed_by: names of the targets keys.
    """

    changed: bool
    target: str
    policy: str
    version: int
    percent: int
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to: names of keys, the new root's version, who signed it."""

    old: str
    new: str
    path: Path
    root_version: int
    signed_by: tuple[str, ...]


def publish(
    region: RegionFolder,
    data: bytes,
    *,
    group: str,
    percent: int,
    keys: Iterable[Path],
    now: dt.datetime,
) -> Published:
    """Put a policy on offer to a vehicle group.

    Args:
        region: whose repository.
        data: compiled policy.
        group: vehicle group.
        percent: 1 to 100 of its vehicles.
        keys: key files beyond those of the repository.
        now: UTC.

    Raises:
        PolicyError: not a compiled policy, another region's, expired.
        StationError: its version does not rise, too few keys, no room, or a damaged repository.
        ConfigError: wrong group or percent, no repository, or a key file that cannot be used.
    """
    check_group(group, where="--group")
    if not 1 <= percent <= ALL:
        raise ConfigError(f"percent must be 1 to 100, not {percent}", where="--percent")
    policy = load_policy(data, region=region.card.region, now_ns=int(now.timestamp()) * 10**9)
    name = stable_target(group) if percent == ALL else next_target(group)
    target = TargetFile.from_data(name, data, ["sha256"])
    target.unrecognized_fields["custom"] = {"percent": percent, "version": policy.version}
    repository = Repository(region.path / FOLDER)
    with repository.writing():
        state = repository.state()
        targets = copy.deepcopy(state.targets)
        signed_by: tuple[str, ...] = ()
        changed = targets.targets.get(name) != target
        if changed:
            _check_rises(targets, group, target, policy.version)
            if (size := room(state, repository, group, target)) > MAX_BUNDLE_BYTES:
                raise StationError(
                    f"group '{group}' would be offered {size} bytes",
                    todo=f"a car takes at most {MAX_BUNDLE_BYTES}: withdraw the staged policy",
                )
            _note_highest(targets, group, policy.version)
            targets.targets[name] = target
            if percent == ALL:
                targets.targets.pop(next_target(group), None)
            ring = KeyRing(repository.keys, keys)
            repository.put(repository.targets / file_name(target), data)
            signed_by = repository.commit(state, ring, now, targets=targets)
    return Published(changed, name, policy.name, policy.version, percent, signed_by)


def withdraw_next(
    region: RegionFolder, *, group: str, keys: Iterable[Path], now: dt.datetime
) -> int:
    """Take the staged policy of a group off the offer; return its version.

    Raises:
        StationError: nothing is staged, too few keys, or a damaged repository.
        ConfigError: no repository, or a key file that cannot be used.
    """
    check_group(group, where="--group")
    repository = Repository(region.path / FOLDER)
    with repository.writing():
        state = repository.state()
        targets = copy.deepcopy(state.targets)
        staged = targets.targets.pop(next_target(group), None)
        if staged is None:
            raise StationError(f"nothing is staged for group '{group}'", where="--group")
        repository.commit(state, KeyRing(repository.keys, keys), now, targets=targets)
    return _version(staged)


def refresh(
    region: RegionFolder,
    *,
    now: dt.datetime,
    keys: Iterable[Path] = (),
    targets: bool = False,
    root: bool = False,
) -> State:
    """Renew the signatures that say that nothing newer exists; return the new state.

    Args:
        region: whose repository.
        now: UTC.
        keys: key files beyond those of the repository.
        targets: renew the targets metadata as well, which takes 2 of its keys.
        root: renew the root as well, which takes 2 of its keys.

    Raises:
        StationError: too few keys, or a damaged repository.
        ConfigError: no repository, or a key file that cannot be used.
    """
    repository = Repository(region.path / FOLDER)
    with repository.writing():
        state = repository.state()
        ring = KeyRing(repository.keys, keys)
        if root:
            _put_root(repository, ring, state.root, next_root(state.root, now))
            state = repository.state()
        repository.commit(state, ring, now, targets=state.targets if targets else None)
        return repository.state()


def refresh_when_due(region: RegionFolder, now: dt.datetime) -> bool:
    """Renew snapshot and timestamp once they are a week old; return whether they were.

    For `inland station serve`, once a day. Raises as `refresh`.
    """
    state = Repository(region.path / FOLDER).state()
    if state.timestamp.expires - now > dt.timedelta(days=LIVES["timestamp"]) - RENEW_AFTER:
        return False
    refresh(region, now=now)
    return True


def rotate(
    region: RegionFolder, role: str, name: str, *, keys: Iterable[Path], now: dt.datetime
) -> Rotated:
    """Replace one key of a role by a new one.

    What the role has signed is signed again first, so that it holds under the old root and the new
    one; then the new root appears, signed by enough keys of both. A reader sees no moment between.

    Args:
        region: whose repository.
        role: root, targets, snapshot or timestamp.
        name: of the key that goes, as `listing` tells it.
        keys: key files beyond those of the repository.
        now: UTC.

    Raises:
        StationError: no such key, too few keys, or a damaged repository.
        ConfigError: no repository, or a key file that cannot be used.
    """
    repository = Repository(region.path / FOLDER)
    with repository.writing():
        state = repository.state()
        old = {name_of(state.root.keys[one]): one for one in state.root.roles[role].keyids}
        if name not in old:
            gone = any(name_of(key) == name for root in state.roots for key in root.keys.values())
            what = "was replaced already" if gone else f"is no key of {role}"
            raise StationError(f"'{name}' {what}", todo=f"{role} has {', '.join(old)}")
        fresh = next_root(state.root, now)
        fresh.revoke_key(old[name], role)
        ring = KeyRing(repository.keys, keys)
        new = next_name(role, state.roots)
        signer = make_signer(repository.keys, new)
        fresh.add_key(signer.public_key, role)
        ring.add(signer)
        if role != "root":
            again = state.targets if role == "targets" else None
            repository.commit(state, ring, now, targets=again, roots=(state.root, fresh))
        signed_by = _put_root(repository, ring, state.root, fresh)
    return Rotated(name, new, repository.keys / f"{new}.pem", fresh.version, signed_by)


def listing(region: RegionFolder) -> dict[str, Any]:
    """Return what is on offer, until when it is signed, and by which keys; for people and programs.

    Raises:
        ConfigError, StationError: the repository cannot be read.
    """
    repository = Repository(region.path / FOLDER)
    state = repository.state()
    ring = KeyRing(repository.keys)
    return {
        "region": region.card.region,
        "offers": [
            {
                "group": name.split(".")[0],
                "target": name,
                "version": _version(target),
                "percent": (target.custom or {}).get("percent"),
                "bytes": target.length,
                "digest": target.hashes["sha256"],
            }
            for name, target in sorted(state.targets.targets.items())
        ],
        "expires": {role: end.isoformat() for role, end in state.expiries().items()},
        "versions": {
            "root": state.root.version, "targets": state.targets.version,
            "snapshot": state.snapshot.version, "timestamp": state.timestamp.version,
        },
        "keys": {
            role: [
                {"name": name_of(state.root.keys[one]), "here": one in ring} for one in of.keyids
            ]
            for role, of in state.root.roles.items()
        },
    }  # fmt: skip


def expiring(region: RegionFolder, now: dt.datetime) -> list[str]:
    """Return a warning for each signature of people that is near its end; for `serve`.

    Raises:
        ConfigError, StationError: the repository cannot be read.
    """
    ends = Repository(region.path / FOLDER).state().expiries()
    return [
        f"the policy repository's {role} metadata is valid until {ends[role].date()}: run "
        f"`inland station policy refresh --{role} --region {region.path}`"
        for role in ("root", "targets")
        if ends[role] - now < WARN
    ]


def _check_rises(targets: Targets, group: str, target: TargetFile, version: int) -> None:
    """Check that no car that took an earlier policy would refuse this one."""
    highest = int(targets.unrecognized_fields.get(HIGHEST, {}).get(group, 0))
    staged = targets.targets.get(next_target(group))
    if staged is not None and staged.hashes == target.hashes and _version(staged) == version:
        return  # the same policy for more or fewer vehicles
    if version <= highest:
        raise StationError(
            f"version {version} is not above version {highest}, "
            f"which group '{group}' is or was offered",
            todo="raise 'version' and build it again",
        )


def _note_highest(targets: Targets, group: str, version: int) -> None:
    noted = targets.unrecognized_fields.setdefault(HIGHEST, {})
    noted[group] = max(version, noted.get(group, 0))


def _version(target: TargetFile) -> int:
    return int(target.custom["version"]) if target.custom else 0


def _put_root(repository: Repository, ring: KeyRing, old: Root, fresh: Root) -> tuple[str, ...]:
    roots: Sequence[Root] = (old, fresh)
    data, names = sealed(fresh, ring, roots)
    repository.put(repository.metadata / f"{fresh.version}.root.json", data)
    return names
