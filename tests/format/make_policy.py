"""The vectors of what a policy says and how it travels; see make_vectors.py, which writes them.

A region is made, offers one policy to all and a later one to some, and changes a root key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import tempfile
from pathlib import Path

from agent.pb.delivery_pb2 import PolicyChunk, PolicyQuestion
from agent.pb.policy_pb2 import Policy
from agent.policy.build import build_text
from agent.policy.compiled import read_policy
from agent.policy.zone_file import seal_zones
from agent.policy.zones import Zone, pack_zones
from agent.region import RegionCard
from agent.station.authority import RegionFolder
from agent.station.offer import bundle
from agent.station.policy_repository import FOLDER, create_repository
from agent.station.publish import publish, rotate

REGION = "urn:inland:region:cn"
NOW = dt.datetime.fromtimestamp(1_795_000_000, dt.UTC)
GROUP, PERCENT = "taxis", 40
KEY, NONCE = bytes(range(32)), bytes(range(64, 76))
ZONES = (
    Zone("military", ((1_000_000, 2_000_000), (1_000_000, 2_010_000), (1_010_000, 2_005_000))),
    Zone("port", ((-500_000, -700_000), (-500_000, -690_000), (-490_000, -690_000))),
)
DBC = """\
VERSION ""
BU_: Car
BO_ 256 Drive: 8 Car
 SG_ Speed : 0|16@1+ (0.01,0) [0|0] "km/h" Car
 SG_ Gear : 16|4@1+ (1,0) [0|0] "" Car
BO_ 512 Place: 8 Car
 SG_ Latitude : 0|32@1- (1E-07,0) [0|0] "deg" Car
 SG_ Longitude : 32|32@1- (1E-07,0) [0|0] "deg" Car
BO_ 513 Receiver: 8 Car
 SG_ Fix : 0|2@1+ (1,0) [0|0] "" Car
BO_ 768 Camera: 8 Car
 SG_ Id : 0|8@1+ (1,0) [0|0] "" Car
 SG_ Reason : 8|8@1+ (1,0) [0|0] "" Car
 SG_ State : 16|8@1+ (1,0) [0|0] "" Car
 SG_ Clip : 32|32@1+ (1,0) [0|0] "" Car
VAL_ 256 Gear 0 "P" 1 "D" ;
"""
POLICY = """\
policy = "format"
version = {version}
region = "cn"
not_after = 2027-06-30
contact = "privacy@example.com"
dbc = ["car.dbc"]
driving = 'Gear == "D" or can0:Drive.Speed > 3'

[[collect]]
id = "area"
category = "location.track"
purpose = "diagnostics_repair"
basis = "consent"
necessity = "faults by area"
signals = ["Latitude", "Longitude"]
every = "10s"
keep = "7d"
recipients = "region"
precision = {{ space = "100m" }}

[[consent]]
category = "location.track"
max_days = 30
each_drive = true

[recorder]
window = "30min"
frames = ["can0:0x100-0x1FF"]
purpose = "safety_event"
basis = "safety"
necessity = "what came before"
recipients = "region"

[[event]]
id = "hard-brake"
when = "Speed > 30 and rate(Speed, 0.5s) < -25 for 150ms"
hold = {{ before = "30min", after = "30s" }}
upload = true
at_most = "20/day"
snapshot = ["Gear"]
purpose = "safety_event"
basis = "safety"
necessity = "whether the brakes did their part"
recipients = "region"
keep = "365d"

[camera]
parked = "off"
driving = "metadata"
trigger = {{ camera = "Id", reason = "Reason", state = "State", clip = "Clip" }}
position = {{ latitude = "Latitude", longitude = "Longitude", speed = "Speed", fix = "Fix >= 2" }}
zones_file = "zones.sealed"
purpose = "safety_event"
basis = "safety"
necessity = "which clips exist"
recipients = "region"
keep = "7d"
"""

# J1939: the position and the speed of whoever sends them, torque for the engine from one sender.
GROUPS_DBC = """\
VERSION ""
BU_: Truck
BO_ 2566845438 Place: 8 Truck
 SG_ Latitude : 0|32@1+ (1E-07,-210) [0|0] "deg" Truck
 SG_ Longitude : 32|32@1+ (1E-07,-210) [0|0] "deg" Truck
BO_ 2566844926 Motion: 8 Truck
 SG_ Speed : 8|16@1+ (0.00390625,0) [0|0] "km/h" Truck
BO_ 2348810251 Torque: 8 Truck
 SG_ Wanted : 24|8@1+ (1,-125) [0|0] "%" Truck
BO_ 2566844161 Own: 8 Truck
 SG_ Lamp : 0|2@1+ (1,0) [0|0] "" Truck
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";
BA_DEF_DEF_ "VFrameFormat" "J1939PG";
BA_ "VFrameFormat" BO_ 2566844161 1;
"""
GROUPS = """\
policy = "groups"
version = 1
region = "cn"
not_after = 2027-06-30
dbc = ["truck.dbc"]

[[collect]]
id = "area"
category = "location.track"
purpose = "diagnostics_repair"
basis = "consent"
necessity = "faults by area"
signals = ["Latitude", "Longitude"]
every = "10s"
keep = "7d"
recipients = "region"
precision = { space = "100m" }

[[consent]]
category = "location.track"
max_days = 30
each_drive = true

[[collect]]
id = "motion"
category = "powertrain"
purpose = "diagnostics_repair"
basis = "safety"
necessity = "faults of the drive"
signals = ["Speed", "Wanted", "Lamp"]
keep = "7d"
recipients = "region"
"""
GROUP_IDS = (
    0x18FEF3FE, 0x18FEF31C, 0x0CFEF317, 0x18FEF100, 0x1CFEF121, 0x19FEF100, 0x18FDF100,
    0x0C00000B, 0x18000F0B, 0x0C000003, 0x18FEEF01, 0x0CFEEF01, 0x18FEEF02, 0x18FEF2FE,
)  # fmt: skip


def policies(folder: Path, zones: bytes) -> list[bytes]:
    """Return version 7 and version 8 of a policy, compiled."""
    (folder / "car.dbc").write_text(DBC, "ascii")
    (folder / "zones.sealed").write_bytes(zones)
    texts = [POLICY.format(version=version) for version in (7, 8)]
    return [build_text(text, where="the vectors", folder=folder) for text in texts]


def group_vectors() -> dict[str, object]:
    """A compiled policy over J1939 groups, and the signals that frames of some ids hold."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "truck.dbc").write_text(GROUPS_DBC, "ascii")
        data = build_text(GROUPS, where="the vectors", folder=Path(name))
    layouts = read_policy(data).layouts
    return {
        "policy": data.hex(),
        "decode": [decode.SerializeToString().hex() for decode in Policy.FromString(data).decode],
        "holds": {
            f"{one:08X}": [
                number
                for number, layout in enumerate(layouts)
                if (one ^ layout.arbitration_id) & ~layout.free_bits == 0
            ]
            for one in GROUP_IDS
        },
    }


def policy_vectors() -> dict[str, object]:
    """Sealed zones, a compiled policy that holds them, and the bundle that brings it to a car."""
    plain = pack_zones(ZONES)
    sealed = seal_zones(plain, KEY, NONCE, REGION)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stable, staged = policies(folder, sealed)
        root = create_repository(folder / FOLDER, NOW)
        card = RegionCard(
            REGION, "broker", 8883, (ipaddress.ip_network("127.0.0.0/8"),), (), (), (), (), b"",
            root.encode(),
        )  # fmt: skip
        region = RegionFolder(folder, card)
        publish(region, stable, group=GROUP, percent=100, keys=(), now=NOW)
        publish(region, staged, group=GROUP, percent=PERCENT, keys=(), now=NOW)
        rotate(region, "root", "root-2", keys=(), now=NOW)
        whole = bundle(folder, GROUP)
    digest = hashlib.sha256(whole).digest()
    return {
        "region": REGION,
        "group": GROUP,
        "zones": {
            "key": KEY.hex(),
            "plain": plain.hex(),
            "sealed": sealed.hex(),
            "polygons": [[zone.zone_class, [list(at) for at in zone.ring]] for zone in ZONES],
        },
        "policies": {"7": stable.hex(), "8": staged.hex()},
        "root": root,
        "bundle": whole.hex(),
        "digest": digest.hex(),
        "question": PolicyQuestion(bundle=digest, offset=32768).SerializeToString().hex(),
        "chunk": PolicyChunk(bundle=digest, size=len(whole), offset=0, data=whole[:40])
        .SerializeToString()
        .hex(),
    }
