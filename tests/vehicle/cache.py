"""Where images and payloads wait for the next run: made once, found by what went into them.

A thing is made in a folder beside its place and renamed into it, under a lock: two runs that want
the same thing at once make it once, and a run that is killed half-way leaves nothing that looks
finished. What nobody has used for a while is forgotten.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# A payload is new with every change of the sources, and 170 MB.
KEEP_DAYS = {"image": 3.0, "kernel": 3.0, "wheels": 14.0, "payload": 0.1}


def folder() -> Path:
    """The cache, made if it is not there."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    made = Path(base) / "inland-vehicle"
    made.mkdir(parents=True, exist_ok=True)
    return made


def key(parts: Iterable[str | bytes]) -> str:
    """A short name for what goes in."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Nobody else makes things of this kind meanwhile; a killed holder holds nothing."""
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def get(kind: str, named: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of a thing; `make` fills it if it is not there yet."""
    place = folder() / f"{kind}-{named}"
    with locked(kind):
        if not place.exists():
            _clear(kind)
            unfinished = Path(tempfile.mkdtemp(prefix=f"making-{kind}-", dir=folder()))
            unfinished.chmod(0o755)
            try:
                make(unfinished)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        os.utime(place)
    return place


def _clear(kind: str) -> None:
    """Remove what a killed run left half made (we hold the lock), and what is no longer used."""
    for left in folder().glob(f"making-{kind}-*"):
        shutil.rmtree(left, ignore_errors=True)
    oldest = time.time() - KEEP_DAYS[kind] * 86_400
    for place in folder().glob(f"{kind}-*"):
        if place.stat().st_mtime < oldest:
            shutil.rmtree(place, ignore_errors=True)
