"""The part of the story in which an authority orders an opening, and the owner learns of it."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cli.demo_people import Person, run
from agent.station.authority import load_region
from agent.station.order import ID_BYTES, AuthorityOrder, write
from agent.vault.keys import raw_public

NAME: Final = "City police"
REFERENCE: Final = "case 17"
BASIS: Final = "a law of this demo, article 1"
EXPIRES_S: Final = 86_400
OWN_COPY: Final = "routine"  # the lane of the rule that keeps each frame once


class Authority:
    """Somebody whose orders the region has to serve.

    Args:
        folder: for what is ordered and served.
        region: the region's folder.
    """

    def __init__(self, folder: Path, region: Path) -> None:
        self._folder, self._region = folder, region
        self._key = Ed25519PrivateKey.generate()

    def be_trusted(self) -> None:
        """Have the key written into the region folder, as a person there would."""
        public = base64.b64encode(raw_public(self._key)).decode()
        run("station", "order-key", "add", str(self._region), NAME, public)

    def order(self, vehicle: str, from_ns: int, to_ns: int) -> Path:
        """Sign an order to open a window of a car; both moments are in it."""
        now_s = int(time.time())
        wanted = AuthorityOrder(
            os.urandom(ID_BYTES).hex(), load_region(self._region).card.region, REFERENCE, BASIS,
            NAME, "Officer Zhao", vehicle, from_ns, to_ns, (OWN_COPY,), now_s, now_s + EXPIRES_S, 0,
        )  # fmt: skip
        file = self._folder / "order.json"
        file.write_bytes(write(wanted, self._key))
        return file

    def served(self, order: Path, *, forged: bool = False) -> tuple[int, Path]:
        """Have the region serve an order; return the exit code and where the frames are."""
        out = self._folder / ("forged-case" if forged else "case-17")
        done = run(
            "station", "order", str(self._region), str(order), "-o", str(out), "--json",
            expected=(0, 1, 2, 3),
        )  # fmt: skip
        return done.code, out / "frames.log"


def forge(order: Path) -> Path:
    """Return a copy of an order with one letter of its reference changed."""
    copy = order.with_name("forged.json")
    copy.write_bytes(order.read_bytes().replace(REFERENCE.encode(), b"case 18"))
    return copy


def stamps_of(log: Path) -> list[tuple[int, str]]:
    """Return (ns since the Unix epoch, frame) of each line of a candump log."""
    found = []
    for line in log.read_text("ascii").splitlines():
        stamp, _, frame = line.split(" ", 2)
        seconds, _, micros = stamp.strip("()").partition(".")
        found.append((int(seconds) * 10**9 + int(micros) * 1000, frame))
    return found


def middle_of(frames: list[tuple[int, str]]) -> tuple[int, int]:
    """Return the moments between which the middle third of these frames lies."""
    return frames[len(frames) // 3][0], frames[2 * len(frames) // 3][0]


def openings_of(person: Person, bundle: Path) -> list[dict[str, Any]]:
    """Return who was given something of the car, as a person reads it in the region's answer."""
    found: list[dict[str, Any]] = person.ledger(bundle)["openings"]
    return found
