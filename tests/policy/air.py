"""A region's policy repository and one car's end of it, without a broker between them."""

from __future__ import annotations

import copy
import datetime as dt
import ipaddress
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile
from tuf.api.serialization.json import JSONSerializer

from agent.policy import store
from agent.policy.compiled import read_policy
from agent.policy.model import Policy
from agent.policy.rehearsal import rehearse
from agent.policy.update import Outcome, update
from agent.region import RegionCard
from agent.station import offer as offers
from agent.station.authority import RegionFolder
from agent.station.policy_repository import Repository, create_repository
from agent.station.publish import Published, publish
from agent.station.signers import KeyRing, load_signer
from tests.policy import making

NOW = dt.datetime(2027, 1, 10, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
VEHICLE = "v-0123456789"


def policy(version: int, **more: object) -> bytes:
    return making.compiled([making.collect("one", frames=[ALL])], version=version, **more)


ALL = making.policy_pb2.FrameSelector(channel="*", any=True, last_id=0x1FFFFFFF)


class Air:
    """One region (its repository alone) and one car (its policy folder alone)."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state" / "policy"
        folder.mkdir(exist_ok=True)
        first = folder / "policy" / "metadata" / "1.root.json"
        if not first.exists():
            create_repository(folder / "policy", NOW)
        self.root = first.read_bytes()
        card = RegionCard(
            making.REGION, "broker", 8883, (ipaddress.ip_network("127.0.0.0/8"),), (), (), (), (),
            b"", self.root,
        )  # fmt: skip
        self.region = RegionFolder(folder, card)
        self.repository = Repository(folder / "policy")
        self._drops = 0

    # --- the region ---------------------------------------------------------------------------

    def offer(self, data: bytes, *, group: str = "default", percent: int = 100,
              keys: Iterable[Path] = (), now: dt.datetime = NOW) -> Published:  # fmt: skip
        """Publish as the command does."""
        return publish(self.region, data, group=group, percent=percent, keys=keys, now=now)

    def drop(self) -> Path:
        """What an OTA system would put into the car."""
        self._drops += 1
        to = self.folder / f"drop-{self._drops}"
        offers.export(self.folder, to, "default")
        return to

    def signers(self, role: str) -> list[CryptoSigner]:
        """The private keys of a role that lie in the region's folder."""
        return [load_signer(path) for path in sorted(self.repository.keys.glob(f"{role}-*.pem"))]

    def sneak(
        self,
        data: bytes,
        *,
        custom: object = None,
        by: list[CryptoSigner] | None = None,
        edit: Callable[[Metadata], object] | None = None,
    ) -> Path:
        """A drop whose signatures are made by hand: whatever the signers may be brought to sign.

        Args:
            data: offered as default.policy.
            custom: its custom data.
            by: who signs the targets; two of the right ones if left out.
            edit: changes the targets metadata before it is signed.
        """
        state = self.repository.state()
        targets, snapshot, timestamp = (
            copy.deepcopy(one) for one in (state.targets, state.snapshot, state.timestamp)
        )
        target = TargetFile.from_data("default.policy", data, ["sha256"])
        if custom is not None:
            target.unrecognized_fields["custom"] = custom
        targets.targets = {"default.policy": target}
        self.repository.put(self.repository.targets / offers.file_name(target), data)
        for one in (targets, snapshot, timestamp):
            one.version += 1
        if edit is not None:
            edit(targets)
        signers = self.signers("targets")[:2] if by is None else by
        snapshot.meta["targets.json"] = MetaFile(targets.version)
        self._write(f"{targets.version}.targets.json", targets, signers)
        self._write(f"{snapshot.version}.snapshot.json", snapshot, self.signers("snapshot"))
        timestamp.snapshot_meta = MetaFile(snapshot.version)
        self._write("timestamp.json", timestamp, self.signers("timestamp"))
        return self.drop()

    def _write(self, name: str, signed: object, signers: list[CryptoSigner]) -> None:
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer(compact=True))
        self.repository.put(self.repository.metadata / name, data)

    def ring(self, *more: Path) -> KeyRing:
        """The keys in the region's folder, and more."""
        return KeyRing(self.repository.keys, more)

    # --- the car ------------------------------------------------------------------------------

    def take(
        self,
        drop: Path | None = None,
        *,
        now: dt.datetime = NOW,
        vehicle: str = VEHICLE,
        group: str = "default",
        rehearsal: Callable[[Policy], None] = rehearse,
        state: Path | None = None,
    ) -> Outcome:
        """Install as the command does; what is on offer now if nothing else is given."""
        return update(
            drop or self.drop(), state or self.state, card_root=self.root, region=making.REGION,
            vehicle=vehicle, group=group, now_ns=int(now.timestamp()) * 10**9, rehearse=rehearsal,
        )  # fmt: skip

    def in_force(self) -> int:
        """The version in force, 0 if there is none."""
        data = store.active(self.state)
        return read_policy(data).version if data is not None else 0

    def forget_tuf(self) -> None:
        """Lose python-tuf's cache, as a wiped partition would."""
        shutil.rmtree(self.state / "tuf")
