"""The keys of a region's policy repository: made, found, named.

Keys are Ed25519, PKCS8 PEM, mode 0600, in `<region>/policy/keys`. The public halves and their names
stand in the root metadata, so that it can always be said whose signature is missing. A key that was
moved away is handed in by its path when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, Root

from agent.errors import ConfigError, StationError
from agent.files import read_private_file, sync_folder, write_new

NAME_FIELD: Final = "x-inland-name"  # beside the public key in the root metadata
THRESHOLDS: Final = {"root": 2, "targets": 2, "snapshot": 1, "timestamp": 1}
COUNTS: Final = {"root": 3, "targets": 3, "snapshot": 1, "timestamp": 1}
HINT: Final = """\
The keys of this region's policy repository (Ed25519, PKCS8 PEM).

root-1 .. root-3        two of them change who may sign. They belong offline, each with a
                        different person, in a different place.
targets-1 .. targets-3  two of them publish a policy. They belong to the people who answer for
                        policies, e.g. legal and engineering; not to this machine.
snapshot-1, timestamp-1 stay here: the station signs with them that nothing newer exists.

To take a key offline, copy its file to where it will live, check that copy, and remove it here:
    inland station policy ls --region <this region>        says which keys are here
When it is needed, hand it in by its path:
    inland station policy publish FILE.policy --region <this region> --key /media/a/targets-1.pem \\
        --key /media/b/targets-2.pem
A key that may be known to others is replaced, which needs two of the root keys:
    inland station policy rotate targets targets-1 --region <this region>
Cars have root-1 .. root-3 in their region card, so losing two root keys cannot be mended.
"""


class KeyRing:
    """The private keys that are at hand, by key id.

    Args:
        folder: keys of the repository.
        more: paths of further key files.

    Raises:
        ConfigError: a file that is not an Ed25519 key, or that others can read.
    """

    def __init__(self, folder: Path, more: Iterable[Path] = ()) -> None:
        self.folder = folder
        self._signers: dict[str, CryptoSigner] = {}
        for path in (*sorted(folder.glob("*.pem")), *more):
            self.add(load_signer(path))

    def add(self, signer: CryptoSigner) -> None:
        """Take one more key."""
        self._signers[signer.public_key.keyid] = signer

    def __contains__(self, keyid: str) -> bool:
        return keyid in self._signers

    def sign(self, metadata: Metadata[Any], role: str, roots: Sequence[Root]) -> tuple[str, ...]:
        """Sign with each key at hand that the role has under any of the roots.

        Args:
            metadata: to be signed; its old signatures go.
            role: whose metadata it is.
            roots: root metadata under each of which it must be valid.

        Returns:
            The names of the keys that signed.

        Raises:
            StationError: not enough keys are at hand.
        """
        metadata.signatures.clear()
        names = []
        for keyid in dict.fromkeys(one for root in roots for one in root.roles[role].keyids):
            if (signer := self._signers.get(keyid)) is not None:
                metadata.sign(signer, append=True)
                names.append(name_of(next(r.keys[keyid] for r in roots if keyid in r.keys)))
        for root in roots:
            keyids = root.roles[role].keyids
            here = [keyid for keyid in keyids if keyid in self._signers]
            if len(here) < root.roles[role].threshold:
                known = ", ".join(name_of(root.keys[keyid]) for keyid in keyids)
                found = ", ".join(name_of(root.keys[keyid]) for keyid in here) or "none"
                raise StationError(
                    f"{role} is signed by {root.roles[role].threshold} of {known}; here: {found}",
                    where=str(self.folder), todo="hand in the others with --key FILE",
                )  # fmt: skip
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return tuple(names)


def name_of(key: Key) -> str:
    """Return the name of a public key."""
    return str(key.unrecognized_fields.get(NAME_FIELD, key.keyid[:8]))


def make_signer(folder: Path, name: str) -> CryptoSigner:
    """Return the key of a name: a new one, or the one that an interrupted command left.

    Raises:
        ConfigError: it is there and is not a key of ours, or the folder cannot be written.
    """
    path = folder / f"{name}.pem"
    if not path.exists():
        try:
            write_new(path, CryptoSigner.generate_ed25519().private_bytes)
            sync_folder(folder)  # before anybody is told of the key
        except OSError as error:
            raise ConfigError(f"cannot write: {error.strerror}", where=str(path)) from None
    signer = load_signer(path)
    signer.public_key.unrecognized_fields[NAME_FIELD] = name
    return signer


def load_signer(path: Path) -> CryptoSigner:
    """Return the key of a PEM file.

    Raises:
        ConfigError: not an Ed25519 key, or a file that others can read.
    """
    try:
        key = load_pem_private_key(read_private_file(path, "the signing key"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"no usable private key: {error}", where=str(path)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("not an Ed25519 key", where=str(path))
    return CryptoSigner(key)


def next_name(role: str, roots: Iterable[Root]) -> str:
    """Return the first name of a role that no root has used: targets-4 after targets-3."""
    used = [0]
    for root in roots:
        for key in root.keys.values():
            match = re.fullmatch(rf"{role}-([0-9]{{1,6}})", name_of(key))
            used.append(int(match[1]) if match else 0)
    return f"{role}-{max(used) + 1}"
