"""Verification of the region's signed receipts. Pure.

A receipt is the only thing that lets the car forget a body. It counts only if

1. one of the region card's receipt keys signed exactly the bytes that came;
2. it names this vehicle, and as many leaves as indices, within bounds.

That each leaf is the entry that the car stored under that index is checked against the ledger by
the caller. Anything else is turned away with a stable code, counted, and changes nothing.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from agent.errors import SealError
from agent.pb import delivery_pb2
from agent.vault import keys

PREFIX: Final = b"inland/receipt/1\0"  # no signature of another purpose can pass for a receipt
MAX_ENTRIES: Final = 1024
MAX_BYTES: Final = 256 * 1024  # the packet limit
LEAF_BYTES: Final = 32
LOG_BYTES: Final = 16
BUNDLE_BYTES: Final = (0, 32)  # of the SHA-256 of a policy bundle; 0: none is on offer


class RefusedReceiptError(SealError):
    """A receipt that is not one.

    Args:
        code: stable reason for the ledger's refusal entry.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"receipt refused ({code})")
        self.code = code


def verify_receipt(
    payload: bytes, *, receipt_keys: tuple[bytes, ...], vehicle: str
) -> delivery_pb2.Receipt:
    """Return the receipt that a SignedReceipt's bytes hold.

    Raises:
        RefusedReceiptError: malformed, of an unknown key, wrongly signed, or for another vehicle.
    """
    if len(payload) > MAX_BYTES:
        raise RefusedReceiptError("malformed")
    signed, receipt = delivery_pb2.SignedReceipt(), delivery_pb2.Receipt()
    try:
        signed.ParseFromString(payload)
        key = next((k for k in receipt_keys if keys.kid(k) == signed.kid), None)
        if key is None:
            raise RefusedReceiptError("key")
        # Over the bytes as they came; they are parsed only once they are known to be the region's.
        Ed25519PublicKey.from_public_bytes(key).verify(signed.signature, PREFIX + signed.receipt)
        receipt.ParseFromString(signed.receipt)
    except DecodeError:
        raise RefusedReceiptError("malformed") from None
    except InvalidSignature:
        raise RefusedReceiptError("signature") from None
    if receipt.vehicle != vehicle:
        raise RefusedReceiptError("vehicle")
    if (
        len(receipt.index) != len(receipt.leaf)
        or len(receipt.index) > MAX_ENTRIES
        or len(receipt.log) != LOG_BYTES
        or len(receipt.policy) not in BUNDLE_BYTES
        or any(len(leaf) != LEAF_BYTES for leaf in receipt.leaf)
    ):
        raise RefusedReceiptError("malformed")
    return receipt
