"""Who the car is and whom it trusts: plain values, put together by the service."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.vault import keys
from agent.vault.checkpoint import COSIGNATURE_V1, VerifierKey, parse_vkey


@dataclass(frozen=True, slots=True)
class Identity:
    """The car's own names and keys, and the region's public keys from its card.

    Attributes:
        region: urn:inland:region:<id>.
        vehicle: pseudonym, [a-z0-9-]{8,40}.
        ledger_key: signs checkpoints; opens nothing.
        receipt_keys: Ed25519 public keys that may sign receipts, 32 bytes each.
        cosign_keys: C2SP verifier keys that may co-sign checkpoints.
        region_key: recipient key of the region, 1216 bytes.
        owner_key: recipient key of the owner; None: no owner is enrolled.
        driver_key: recipient key of who drives now; None: nobody who is enrolled.
        epoch: ownership of the car, from 1; a transfer begins the next.

    Raises:
        ConfigError: a recipient key that is not of the suite.
        SealError: a malformed co-signing key.
    """

    region: str
    vehicle: str
    ledger_key: Ed25519PrivateKey = field(repr=False)
    receipt_keys: tuple[bytes, ...]
    cosign_keys: tuple[str, ...]
    region_key: bytes
    owner_key: bytes | None
    driver_key: bytes | None = None
    epoch: int = 1

    def __post_init__(self) -> None:
        # Seen at start, not when the first segment is to be sealed.
        for key in (self.region_key, self.owner_key, self.driver_key):
            if key is not None:
                keys.load_public(key)
        self.witnesses()

    def witnesses(self) -> tuple[VerifierKey, ...]:
        """Return the keys that may co-sign; others on the card are for other purposes."""
        parsed = (parse_vkey(text) for text in self.cosign_keys)
        return tuple(key for key in parsed if key.kind == COSIGNATURE_V1)
