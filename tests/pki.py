"""A test PKI: one root, the region's issuing CA, a sibling region's, and a public CA.

`Pki.leaf` makes a broker's certificate with the defect that a test is about.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.region import RegionCard

HOST = "broker.north.test"
REGION = "urn:inland:region:north"
SIBLING = "urn:inland:region:south"
VEHICLE = "car-7f3a9c21"
SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def pin(certificate: x509.Certificate) -> bytes:
    key = certificate.public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def _write(path: Path, chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey) -> Path:
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes("".join(map(pem, chain)).encode() + text)
    path.chmod(0o600)
    return path


class Authority:
    """A CA; P-256, because Ed25519 CAs are not taken everywhere."""

    def __init__(
        self, name: str, parent: Authority | None = None, *, depth: int = 0, dns: Sequence[str] = ()
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.parent = parent
        self.certificate = _build(
            name, self.key.public_key(), parent or self, name_constraint=dns, ca_depth=depth
        )


def _build(
    name: str,
    public: ec.EllipticCurvePublicKey,
    issuer: Authority,
    *,
    ca_depth: int | None = None,
    name_constraint: Sequence[str] = (),
    names: Sequence[x509.GeneralName] = (),
    purpose: x509.ObjectIdentifier | None = None,
    start_days: float = -1,
    days: float = 365,
) -> x509.Certificate:
    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = dt.datetime.now(dt.UTC) + dt.timedelta(days=start_days)
    is_ca = ca_depth is not None
    signer = issuer.certificate.subject if hasattr(issuer, "certificate") else own
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(signer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, ca_depth), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(aki, critical=False)
        .add_extension(_usage(is_ca), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if purpose:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if name_constraint:
        permitted = [x509.DNSName(name) for name in name_constraint]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return builder.sign(issuer.key, hashes.SHA256())


def _usage(is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Pki:
    """Everything a region, its sibling and an impostor need, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Authority("maker root", depth=1)
        self.region = Authority("region north", self.root, dns=("north.test",))
        self.sibling = Authority("region south", self.root)
        self.public = Authority("some public CA")
        self.ca_file = folder / "region-ca.pem"
        self.ca_file.write_text(pem(self.region.certificate) + pem(self.root.certificate))
        self.public_file = folder / "public-ca.pem"
        self.public_file.write_text(pem(self.public.certificate))
        self.vehicle_file = self.vehicle(VEHICLE)

    def vehicle(self, name: str) -> Path:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _build(name, key.public_key(), self.region, purpose=CLIENT)
        return _write(self.folder / f"{name}.pem", [certificate], key)

    def leaf(
        self,
        name: str,
        *,
        issuer: Authority | None = None,
        dns: Sequence[str] = (HOST,),
        uris: Sequence[str] = (REGION,),
        purpose: x509.ObjectIdentifier | None = SERVER,
        start_days: float = -1,
        days: float = 365,
    ) -> Path:
        """Return a PEM file with certificate, issuer and key of a broker."""
        by = issuer or self.region
        key = ec.generate_private_key(ec.SECP256R1())
        names = [*map(x509.DNSName, dns), *map(x509.UniformResourceIdentifier, uris)]
        certificate = _build(
            name, key.public_key(), by, names=names, purpose=purpose, start_days=start_days,
            days=days,
        )  # fmt: skip
        return _write(self.folder / f"{name}.pem", [certificate, by.certificate], key)

    def card(
        self,
        port: int,
        *,
        prefixes: Sequence[str] = ("127.0.0.0/8",),
        receipt_key: bytes = bytes(32),
        pins: Sequence[bytes] | None = None,
    ) -> RegionCard:
        return RegionCard(
            region=REGION,
            host=HOST,
            port=port,
            prefixes=tuple(map(ipaddress.ip_network, prefixes)),
            issuing_ca=(pem(self.region.certificate),),
            spki=tuple(pins or (pin(self.region.certificate),)),
            receipt_keys=(receipt_key,),
            cosign_keys=(),
            recipient_key=bytes(1216),
        )
