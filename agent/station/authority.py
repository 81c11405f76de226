"""A region's folder: its authority, its keys, its card; made once, read by every station command.

- `create_region` builds the folder beside its final place and renames it: a region is whole or
  absent. An existing one is never touched.
- Private files have mode 0600 in a folder of mode 0700. Nothing is encrypted at rest here: who
  needs an HSM for `ca.key` or `recipient.key` moves those files; `serve` reads neither.

| file | what |
|---|---|
| region.toml | the card that goes into every car, agent/region.py |
| ca.pem, ca.key | issuing CA; needed by `enroll` alone |
| broker.pem, broker.key | the broker's certificate, proves the region |
| station.pem, station.key | the station's own MQTT client certificate, user `station` |
| receipt.key, cosign.key | Ed25519: receipts; co-signatures of checkpoints |
| openings.key | Ed25519: signs the station's own ledger of openings |
| recipient.key | opens what is sealed to the region; needed by `open` alone |
| zones.key | 32 bytes; seals the protected zones of policies, and opens them in the region's cars |
| broker/ | generated broker configuration |
| policy/ | the TUF repository of policies and its keys, agent/station/policy_repository.py |
| station.db | what has been received, agent/station/store.py |
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import ipaddress
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.errors import ConfigError
from agent.files import (
    cannot_write,
    make_folder,
    place_folder,
    read_plain,
    read_private_file,
    sync_folder,
    write_new,
    write_whole,
)
from agent.policy.zone_file import KEY_BYTES
from agent.policy.zone_key import load_zones_key
from agent.region import URI_PREFIX, RegionCard, load_region_card
from agent.station import certificates
from agent.station.broker import write_mosquitto_files
from agent.station.certificates import Issued
from agent.vault import keys
from agent.vault.checkpoint import COSIGNATURE_V1, VerifierKey

STATION_USER: Final = "station"
MAX_PEM_BYTES: Final = 64 * 1024
WARN: Final = dt.timedelta(days=30)  # before a certificate ends, `serve` says so
REGION_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
HOST: Final = re.compile(
    r"(?=.{1,64}\Z)([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z]([a-z0-9-]*[a-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class RegionFolder:
    """One region on this machine.

    Attributes:
        path: the folder.
        card: its region card.
    """

    path: Path
    card: RegionCard

    @property
    def region_id(self) -> str:
        """The id without its URN prefix, as topics carry it."""
        return self.card.region.removeprefix(URI_PREFIX)

    @property
    def cosign_name(self) -> str:
        """Name in the region's C2SP verifier key."""
        return cosign_name(self.region_id)

    def signing_key(self, name: str) -> Ed25519PrivateKey:
        """Return receipt.key, cosign.key or openings.key.

        Raises:
            ConfigError: the file is missing or holds something else.
        """
        key = _load_private(self.path / f"{name}.key")
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("not an Ed25519 key", where=str(self.path / f"{name}.key"))
        return key

    def issuing_ca(self) -> Issued:
        """Return the issuing CA with its key.

        Raises:
            ConfigError: the files are missing or do not hold one.
        """
        key = _load_private(self.path / "ca.key")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("not an EC key", where=str(self.path / "ca.key"))
        return Issued(_load_certificate(self.path / "ca.pem"), key)

    def zones_key(self) -> bytes:
        """Return the key of the region's zones, 32 bytes; made now if an older region has none.

        Raises:
            ConfigError: the file is not such a key, or cannot be made.
            DiskError: the disk has no room for it.
        """
        path = self.path / "zones.key"
        try:
            with contextlib.suppress(FileExistsError):  # as it should be
                write_new(path, os.urandom(KEY_BYTES))
            sync_folder(path.parent)  # cars get it now
        except OSError as error:
            raise cannot_write(error, path) from None
        return load_zones_key(path)


def cosign_name(region_id: str) -> str:
    """Return the name under which a region co-signs checkpoints."""
    return f"inland-region-{region_id}"


def load_region(path: Path) -> RegionFolder:
    """Return the region of a folder.

    Raises:
        ConfigError: there is none, or its card is malformed.
    """
    if not (path / "region.toml").is_file():
        raise ConfigError(
            "no region here", where=str(path), todo="make one with `inland station init`"
        )
    return RegionFolder(path.resolve(), load_region_card(path / "region.toml"))


def create_region(
    path: Path, *, region_id: str, host: str, port: int, prefixes: tuple[str, ...], now: dt.datetime
) -> RegionFolder:
    """Make a region: authority, certificates, keys, card, broker configuration.

    Args:
        path: a folder that does not exist yet, or is empty.
        region_id: e.g. "cn"; lower case letters, digits, hyphens, at most 32.
        host: DNS name of the broker; the CA may issue for no other.
        port: TCP port of the broker, 1 to 65535.
        prefixes: CIDR ranges that a car may dial, at least one.
        now: time of issue, UTC.

    Raises:
        ConfigError: an argument that cannot be used, or the folder is taken.
    """
    _check(region_id, host, port, prefixes)
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            "not empty; a region is never overwritten", where=str(path), todo="name another folder"
        )
    make_folder(path.parent, mode=0o777)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))  # mode 0700
    try:
        _fill(draft, path, region_id=region_id, host=host, port=port, prefixes=prefixes, now=now)
        place_folder(draft, path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return load_region(path)


def renew_certificates(region: RegionFolder, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """Issue new certificates, with new keys, for the broker and the station.

    Cars pin the issuing CA, so they notice nothing. Each file is replaced whole, the key first; a
    broker that starts between the two refuses the pair, and the next run mends it.

    Returns:
        When the broker's and the station's certificates end, UTC.

    Raises:
        ConfigError: the issuing CA cannot be read.
    """
    ca, card = region.issuing_ca(), region.card
    broker = certificates.issue_broker(ca, card.region, card.host, now)
    station = certificates.issue_client(ca, STATION_USER, now)
    for name, issued in (("broker", broker), ("station", station)):
        for suffix, content in (("key", issued.key_pem()), ("pem", issued.certificate_pem())):
            write_whole(region.path / f"{name}.{suffix}", [content])
    sync_folder(region.path)
    return broker.certificate.not_valid_after_utc, station.certificate.not_valid_after_utc


def ending_soon(region: RegionFolder, now: dt.datetime) -> list[str]:
    """Return a warning for each of the broker's and the station's certificates near its end.

    Raises:
        ConfigError: a certificate cannot be read.
    """
    warnings = []
    for name in ("broker", "station"):
        end = _load_certificate(region.path / f"{name}.pem").not_valid_after_utc
        if end - now < WARN:
            warnings.append(
                f"{name}.pem is valid until {end.date()}: run `inland station renew {region.path}`"
            )
    return warnings


def _fill(
    draft: Path,
    final: Path,
    *,
    region_id: str,
    host: str,
    port: int,
    prefixes: tuple[str, ...],
    now: dt.datetime,
) -> None:
    region = URI_PREFIX + region_id
    ca = certificates.issue_ca(region, host, now)
    broker = certificates.issue_broker(ca, region, host, now)
    station = certificates.issue_client(ca, STATION_USER, now)
    for name, issued in (("ca", ca), ("broker", broker), ("station", station)):
        write_new(draft / f"{name}.key", issued.key_pem())
        (draft / f"{name}.pem").write_bytes(issued.certificate_pem())
    receipt, cosign, openings = (Ed25519PrivateKey.generate() for _ in range(3))
    for name, key in (("receipt", receipt), ("cosign", cosign), ("openings", openings)):
        write_new(draft / f"{name}.key", certificates.private_pem(key))
    private, public = keys.generate_recipient()
    write_new(draft / "recipient.key", private)
    write_new(draft / "zones.key", os.urandom(KEY_BYTES))
    public_raw = cosign.public_key().public_bytes_raw()
    vkey = VerifierKey(cosign_name(region_id), COSIGNATURE_V1, public_raw).text()
    card = _card_text(
        region,
        host=host, port=port, prefixes=prefixes, ca=ca, receipt=receipt,
        vkey=vkey, recipient=public, policy_root=_repository(draft / "policy", now),
    )  # fmt: skip
    (draft / "region.toml").write_text(card, "utf-8")
    (draft / "broker").mkdir(mode=0o700)
    write_mosquitto_files(draft / "broker", final, region_id=region_id, port=port)


def _repository(folder: Path, now: dt.datetime) -> str:
    from agent.station.policy_repository import create_repository  # noqa: PLC0415 - tuf is slow

    return create_repository(folder, now)


def _card_text(
    region: str,
    *,
    host: str,
    port: int,
    prefixes: tuple[str, ...],
    ca: Issued,
    receipt: Ed25519PrivateKey,
    vkey: str,
    recipient: bytes,
    policy_root: str,
) -> str:
    pem = ca.certificate_pem().decode("ascii")
    listed = ", ".join(f'"{ipaddress.ip_network(prefix)}"' for prefix in prefixes)
    return (
        "# The region card. It goes onto a read-only place in the car; a policy never changes it.\n"
        f'region = "{region}"\n'
        f'host = "{host}"\n'
        f"port = {port}\n"
        f"prefixes = [{listed}]\n"
        f'issuing_ca = ["""\n{pem}"""]\n'
        f'spki = ["{_base64(certificates.spki_pin(ca.certificate))}"]\n'
        f'receipt_keys = ["{_base64(receipt.public_key().public_bytes_raw())}"]\n'
        f'cosign_keys = ["{vkey}"]\n'
        f'recipient_key = "{_base64(recipient)}"\n'
        f"policy_root = '{policy_root}'\n"
    )


def _check(region_id: str, host: str, port: int, prefixes: tuple[str, ...]) -> None:
    if not REGION_ID.fullmatch(region_id):
        raise ConfigError(
            f"region '{region_id}' must be 1 to 32 of a-z, 0-9 and '-'", where="--region"
        )
    if not HOST.fullmatch(host):
        raise ConfigError(
            f"'{host}' is not a DNS name in lower case", where="--host",
            todo="the broker is known by its name; addresses go into --prefix",
        )  # fmt: skip
    if not 0 < port < 65536:
        raise ConfigError(f"port must be 1 to 65535, not {port}", where="--port")
    if not prefixes:
        raise ConfigError("at least one address prefix is needed", where="--prefix")
    for prefix in prefixes:
        try:
            ipaddress.ip_network(prefix)
        except ValueError as error:
            raise ConfigError(str(error), where="--prefix") from None


def _load_private(path: Path) -> object:
    try:
        return load_pem_private_key(read_private_file(path, "the key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"no usable private key: {error}", where=str(path)) from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_plain(path, MAX_PEM_BYTES))
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", where=str(path)) from None
    except ValueError as error:
        raise ConfigError(f"no usable certificate: {error}", where=str(path)) from None
