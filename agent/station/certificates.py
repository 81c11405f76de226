"""The certificates of a region: an issuing CA, its broker, the station, the vehicles.

- P-256 everywhere: path validation for Ed25519 CAs is missing in too many libraries.
- The issuing CA has path length 0 and may name only the region's host: its key, taken alone, makes
  no broker of another name.
- The broker proves the region by exactly one `urn:inland:region:<id>` beside its DNS name.
- A client is known by its common name alone, which is also its MQTT user. There is no VIN in it.

Nothing is read or written here; the clock is an argument.

Source: RFC 5280 (4.2.1.9 path length, 4.2.1.10 name constraints).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS: Final = 3650
BROKER_DAYS: Final = 397  # the browsers' limit for a server; the car pins the CA, so it can change
CLIENT_DAYS: Final = 1825
SKEW: Final = dt.timedelta(days=1)  # valid from a day before: clocks differ


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key.

    Attributes:
        certificate: X.509.
        key: P-256.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """Return the private key as PKCS8 PEM, not encrypted: the file's mode protects it."""
        return private_pem(self.key)


def private_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Return a private key as PKCS8 PEM without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def spki_pin(certificate: x509.Certificate) -> bytes:
    """Return SHA-256 of the DER SubjectPublicKeyInfo, 32 bytes: the pin on the region card."""
    der = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).digest()


def issue_ca(region: str, host: str, now: dt.datetime) -> Issued:
    """Return a new issuing CA of a region, bound to one host name.

    Args:
        region: urn:inland:region:<id>.
        host: the only DNS name (with those below it) that its certificates may carry.
        now: time of issue, UTC.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{region.rpartition(':')[2]} issuing CA")
    builder = _builder(name, name, key.public_key(), now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(ca=True), critical=True)
    builder = builder.add_extension(x509.NameConstraints([x509.DNSName(host)], None), critical=True)
    return Issued(_sign(builder, key), key)


def issue_broker(ca: Issued, region: str, host: str, now: dt.datetime) -> Issued:
    """Return the broker's certificate: its DNS name and exactly one region URI, for servers."""
    names = (x509.DNSName(host), x509.UniformResourceIdentifier(region))
    use = ExtendedKeyUsageOID.SERVER_AUTH
    return _leaf(ca, host, use=use, now=now, days=BROKER_DAYS, names=names)


def issue_client(ca: Issued, name: str, now: dt.datetime) -> Issued:
    """Return a client certificate whose common name is the MQTT user: a vehicle or the station."""
    return _leaf(ca, name, use=ExtendedKeyUsageOID.CLIENT_AUTH, now=now, days=CLIENT_DAYS)


def _leaf(
    ca: Issued,
    name: str,
    *,
    use: x509.ObjectIdentifier,
    now: dt.datetime,
    days: int,
    names: tuple[x509.GeneralName, ...] = (),
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = _builder(subject, ca.certificate.subject, key.public_key(), now, days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Issued(_sign(builder, ca.key), key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _sign(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(key, hashes.SHA256())
