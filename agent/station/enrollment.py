"""Enrolling a vehicle: its pseudonym, its two keys, its bundle, its row in the station's store.

The bundle is what the factory puts into the car. The station keeps the pseudonym and the public
ledger key, never the private ones, and knows nothing of a VIN.

| file of the bundle | what |
|---|---|
| region.toml | the region card |
| vehicle.pem, vehicle.key | MQTT client certificate; its common name is the pseudonym |
| ledger.key | Ed25519, PKCS8 PEM: signs the car's ledger |
| zones.key | the region's: opens the protected zones of policies, in memory |
| agent.toml | configuration that names them, relative to itself |
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import ConfigError
from agent.files import make_folder, place_folder, write_new
from agent.policy.rollout import check_group
from agent.station import certificates
from agent.station.authority import RegionFolder
from agent.station.store import Store

PSEUDONYM: Final = re.compile(r"[a-z0-9-]{8,40}")
PSEUDONYM_BYTES: Final = 10  # 80 random bits: no two cars meet, nobody guesses one

AGENT_TOML: Final = """\
# The agent of one car. Paths are relative to this file; the `channel` of a log to where inland is
# started.
# As a boot service: state = "/var/lib/inland", run = "/run/inland".
state = "state"
run = "run"
region_card = "region.toml"

[vehicle]
id = "{vehicle}"
group = "{group}"
certificate = "vehicle.pem"
key = "vehicle.key"
ledger_key = "ledger.key"
zones_key = "zones.key"

# One table a bus, with python-can's keys. Remove the hashes and name your interface.
# [[bus]]
# name = "can0"
# interface = "socketcan"
# channel = "can0"
# fd = true
"""


def enroll_vehicle(
    region: RegionFolder,
    store: Store,
    bundle: Path,
    *,
    vehicle: str | None,
    group: str = "default",
    now: dt.datetime,
    rng: Callable[[int], bytes],
) -> str:
    """Write a vehicle's bundle and register it; return its pseudonym.

    Args:
        region: where it belongs.
        store: the station's store.
        bundle: a folder that does not exist yet, or is empty.
        vehicle: pseudonym to use; None: a random one.
        group: vehicles of one group are offered the same policies.
        now: time of issue, UTC.
        rng: random bytes.

    Raises:
        ConfigError: a malformed or taken pseudonym, a malformed group, or the folder is not empty.
    """
    vehicle = f"v-{rng(PSEUDONYM_BYTES).hex()}" if vehicle is None else vehicle
    if not PSEUDONYM.fullmatch(vehicle):
        raise ConfigError(
            f"'{vehicle}' must be 8 to 40 of a-z, 0-9 and '-'", where="--vehicle",
            todo="never a VIN: leave it out for a random pseudonym",
        )  # fmt: skip
    check_group(group, where="--group")
    if store.vehicle(vehicle) is not None:
        raise ConfigError(f"'{vehicle}' is enrolled already", where="--vehicle")
    bundle = bundle.absolute()
    if bundle.exists() and (not bundle.is_dir() or any(bundle.iterdir())):
        raise ConfigError("not empty", where=str(bundle), todo="name another folder")
    make_folder(bundle.parent, mode=0o777)
    ledger_key = Ed25519PrivateKey.generate()
    zones_key = region.zones_key()
    client = certificates.issue_client(region.issuing_ca(), vehicle, now)
    draft = Path(tempfile.mkdtemp(prefix=f".{bundle.name}.", dir=bundle.parent))  # mode 0700
    try:
        (draft / "vehicle.pem").write_bytes(client.certificate_pem())
        write_new(draft / "vehicle.key", client.key_pem())
        write_new(draft / "ledger.key", certificates.private_pem(ledger_key))
        write_new(draft / "zones.key", zones_key)
        (draft / "region.toml").write_bytes((region.path / "region.toml").read_bytes())
        (draft / "agent.toml").write_text(AGENT_TOML.format(vehicle=vehicle, group=group), "utf-8")
        # Registered before the bundle appears: a bundle in hand always belongs to a known vehicle.
        public = ledger_key.public_key().public_bytes_raw()
        store.enroll(vehicle, public, int(now.timestamp()), group)
        place_folder(draft, bundle)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return vehicle
