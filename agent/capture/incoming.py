"""A policy bundle on its way in: assembled in memory, checked, unpacked into a folder.

Everything that comes in here is the broker's word, but for the digest: a signed receipt names it.

- One bundle at a time, at most 1 MiB, in order, in memory. A piece of another bundle, size or place
  is refused; a piece that came before and comes again changes nothing.
- Only bytes with the named SHA-256 are unpacked. A bundle that turns out wrong is not asked for
  again before a minute, then two, and so on to a day.
- Names are on an allow-list: `metadata/*.json`, `targets/<hash>.<name>`. The folder appears whole
  or not at all, synced, under one rename.
- What was made of a bundle is noted durably: one that was installed is never fetched again, one
  that was refused once a day at most, until the region offers another. One whose installation was
  cut short (a power cut, a crash) is tried three times.

Safe for two threads: the hatch's (`named`, `wanted`, `chunk`), and the one that installs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from google.protobuf.message import DecodeError

from agent.digest import sha256
from agent.errors import PolicyError
from agent.files import (
    make_folder,
    read_plain,
    remove_folder,
    replace_file,
    sync_folder,
    write_new,
)
from agent.pb.delivery_pb2 import PolicyBundle, PolicyChunk, PolicyQuestion
from agent.pb.hatch_pb2 import Accepted

MAX_BUNDLE_BYTES: Final = 1 << 20
MAX_CHUNK_BYTES: Final = 64 << 10
MAX_FILES: Final = 256  # a root metadata file for each rotation since the card was made
RETRY_NS: Final = 24 * 3600 * 10**9
MAX_TRIES: Final = 3  # installations of one bundle that were cut short
FIRST_WAIT_S: Final = 60.0  # after a bundle with the wrong digest
LAST_WAIT_S: Final = 86_400.0
MAX_IN_VAIN: Final = 5  # questions in a row that brought nothing: begin at 0 again
FOLDER: Final = "incoming"
NOTE: Final = "incoming.json"
MAX_NOTE_BYTES: Final = 16 * 1024

BEGUN: Final = "begun"
INSTALLED: Final = "installed"
REFUSED: Final = "refused"

# Of TUF: root, targets, snapshot, timestamp, with or without a version before them.
_NAME: Final = re.compile(
    r"metadata/[0-9A-Za-z_-]{1,32}(\.[0-9A-Za-z_-]{1,32}){0,2}\.json"
    r"|targets/([0-9a-f]{64}|[0-9a-f]{128})\.[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}"
)


@dataclass(frozen=True, slots=True)
class Processed:
    """What was made of the last bundle.

    Attributes:
        bundle: its SHA-256, hex.
        outcome: begun, installed or refused.
        code: why it was refused; empty if it was not.
        at_unix_ns: when, by trusted time.
        tries: installations that were begun.
    """

    bundle: str
    outcome: str
    code: str = ""
    at_unix_ns: int = 0
    tries: int = 0


class Incoming:
    """See the module's contract.

    Args:
        folder: state/policy; made when it is first needed.
        now_ns: trusted time, ns since the Unix epoch.
        clock: seconds of CLOCK_BOOTTIME.
    """

    def __init__(
        self, folder: Path, *, now_ns: Callable[[], int], clock: Callable[[], float]
    ) -> None:
        self._folder, self._now_ns, self._clock = folder, now_ns, clock
        self._lock = Lock()
        self._named = b""
        self._bytes = bytearray()
        self._size = 0  # of the bundle, as its first piece said
        self._whole: bytes | None = None  # assembled, its digest checked
        self._in_vain = 0
        self._not_before_s, self._wait_s = 0.0, FIRST_WAIT_S
        self.processed = _read(folder / NOTE)

    def named(self, digest: bytes) -> bool:
        """Take the digest that a verified receipt names; return whether that bundle is wanted."""
        with self._lock:
            if digest != self._named:
                self._named, self._wait_s, self._not_before_s = digest, FIRST_WAIT_S, 0.0
                self._start_over()
            return self._wants()

    def wanted(self) -> PolicyQuestion | None:
        """Return what to ask the region for, or None."""
        with self._lock:
            if not self._wants():
                return None
            self._in_vain += 1
            if self._in_vain > MAX_IN_VAIN:
                self._start_over()
            return PolicyQuestion(bundle=self._named, offset=len(self._bytes))

    def chunk(self, payload: bytes) -> Accepted:
        """Take a piece; `wants_policy` asks for the next one. Never raises for what is in it."""
        with self._lock:
            if not self._wants() or (piece := _parse(payload)) is None:
                return Accepted(valid=False)
            if piece.bundle != self._named or self._size not in (0, piece.size):
                return Accepted(valid=False)
            if self._bytes[piece.offset : piece.offset + len(piece.data)] == piece.data:
                return Accepted(valid=True)  # a broker may deliver twice
            if piece.offset != len(self._bytes):
                return Accepted(valid=False)
            self._size, self._in_vain = piece.size, 0
            self._bytes += piece.data
            if len(self._bytes) < self._size:
                return Accepted(valid=True, wants_policy=True)
            return Accepted(valid=self._finish())

    def progress(self) -> tuple[str, int, int]:
        """Return what is offered (SHA-256, hex), and how many of its bytes are here, of all."""
        with self._lock:
            return self._named.hex(), len(self._whole or self._bytes), self._size

    def take(self) -> str | None:
        """Unpack an assembled bundle into `incoming`, durably; return its SHA-256 as hex.

        Returns:
            None if there is nothing to install.

        Raises:
            PolicyError: it is no bundle; this is noted.
            OSError: the disk does not take it.
        """
        with self._lock:
            whole, bundle = self._whole, self._named.hex()
        if whole is None:
            return None
        tries = self.processed.tries if self.processed.bundle == bundle else 0
        self._note(Processed(bundle, BEGUN, "", self._now_ns(), tries + 1))
        try:
            unpack(whole, self._folder)
        except PolicyError:
            self.done(bundle, REFUSED, "bundle")
            raise
        return bundle

    def done(self, bundle: str, outcome: str, code: str) -> None:
        """Note durably what became of a bundle, and forget its bytes.

        Args:
            bundle: as `take` returned it.
            outcome: INSTALLED or REFUSED.
            code: stable reason of a refusal.

        Raises:
            OSError: the disk does not take it.
        """
        self._note(Processed(bundle, outcome, code, self._now_ns(), self.processed.tries))

    def _note(self, processed: Processed) -> None:
        with self._lock:
            self.processed = processed  # first: what cannot be written is not tried again at once
            if processed.outcome != BEGUN and processed.bundle == self._named.hex():
                self._start_over()
        make_folder(self._folder)
        replace_file(self._folder / NOTE, json.dumps(asdict(processed)).encode())

    def _wants(self) -> bool:
        """Return whether the named bundle is to be fetched; the lock is held."""
        if not self._named or self._whole is not None or self._clock() < self._not_before_s:
            return False
        last = self.processed
        if last.bundle != self._named.hex() or (last.outcome == BEGUN and last.tries < MAX_TRIES):
            return True
        return last.outcome != INSTALLED and abs(self._now_ns() - last.at_unix_ns) >= RETRY_NS

    def _finish(self) -> bool:
        """Check the whole; return whether it is the bundle that was named. The lock is held."""
        whole = bytes(self._bytes)
        self._bytes.clear()
        if sha256(whole) == self._named:
            self._whole = whole
            return True
        self._start_over()
        self._not_before_s = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, LAST_WAIT_S)
        return False

    def _start_over(self) -> None:
        self._bytes.clear()
        self._size, self._whole, self._in_vain = 0, None, 0


def unpack(whole: bytes, folder: Path) -> Path:
    """Write a bundle's files into `folder`/incoming, in place of what was there; return that path.

    Raises:
        PolicyError: it does not parse, or a name is not on the allow-list or comes twice.
        OSError: the disk does not take it.
    """
    files = _files(whole)
    fresh, old, place = (folder / f"{FOLDER}{end}" for end in (".new", ".old", ""))
    for remains in (fresh, old):  # of an earlier attempt
        remove_folder(remains)
    for part in (fresh, fresh / "metadata", fresh / "targets"):
        part.mkdir(mode=0o700)
    for name, data in files.items():
        write_new(fresh / name, data)
    for part in (fresh / "metadata", fresh / "targets", fresh):
        sync_folder(part)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    sync_folder(folder)
    remove_folder(old)
    return place


def _files(whole: bytes) -> dict[str, bytes]:
    try:
        bundle = PolicyBundle.FromString(whole)
    except DecodeError:
        raise PolicyError("not a policy bundle") from None
    files = {file.name: file.data for file in bundle.file}
    if not 0 < len(bundle.file) <= MAX_FILES or len(files) != len(bundle.file):
        raise PolicyError(f"a policy bundle of {len(bundle.file)} files, {len(files)} names")
    for name in files:
        if not _NAME.fullmatch(name):
            raise PolicyError(f"a policy bundle with a file that has no place here: {name[:80]!r}")
    return files


def _parse(payload: bytes) -> PolicyChunk | None:
    """Return a piece whose figures can be true, else None."""
    try:
        piece = PolicyChunk.FromString(payload)
    except DecodeError:
        return None
    fits = piece.offset + len(piece.data) <= piece.size <= MAX_BUNDLE_BYTES
    return piece if fits and 0 < len(piece.data) <= MAX_CHUNK_BYTES else None


def _read(path: Path) -> Processed:
    """Return what was noted; nothing if that cannot be read: then the bundle is fetched again."""
    try:
        found = json.loads(read_plain(path, MAX_NOTE_BYTES))
        return Processed(
            bundle=str(found["bundle"]), outcome=str(found["outcome"]), code=str(found["code"]),
            at_unix_ns=int(found["at_unix_ns"]), tries=int(found["tries"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return Processed("", "")
