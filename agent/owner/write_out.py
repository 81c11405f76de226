"""What was opened, as files in a new folder: all of it, or no folder.

| file | what |
|---|---|
| `frames.log`, `frames.blf`, `frames.csv` | raw frames: candump, BLF, SavvyCAN's GVRET CSV |
| `signals.csv`, `signals.jsonl` | samples |
| `decoded.csv` | signals that were asked for, out of the raw frames |
| `events.jsonl`, `cameras.jsonl` | what the agent noted |
| `presence.csv` | what became of every signal |
| `verdict.txt` | what the verifier says of the bundle |

It is readable now: the folder is for its owner alone (0700, 0600). A file without rows is left out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.draft import draft_of
from agent.errors import ConfigError
from agent.evidence import text
from agent.evidence.verifier import lines
from agent.files import cannot_write, place_folder, write_whole
from agent.frames import FrameBatch
from agent.owner.at_home import Home, frames_of, samples_of
from agent.owner.blf import write_blf
from agent.owner.frame_files import bus_numbers, gvret, has_gvret_place
from agent.owner.presence_file import presence_csv
from agent.owner.presence_matrix import Known, Row
from agent.owner.seen import decode
from agent.owner.signal_files import CSV_HEADER, csv_rows, json_lines
from agent.pb import policy_pb2


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        files: names, in order.
        left_out: frames that a GVRET CSV has no place for.
    """

    files: tuple[str, ...]
    left_out: int


def write_out(
    home: Home,
    presence: Sequence[Row],
    folder: Path,
    *,
    formats: Sequence[str],
    zone: dt.tzinfo,
    known: Sequence[Known] = (),
    progress: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write what was opened.

    Args:
        home: an opened bundle.
        presence: its matrix.
        folder: to be made; its parent is there.
        formats: of the raw frames, some of candump, blf, gvret.
        zone: of the local time beside UTC.
        known: signals to be read out of the raw frames.
        progress: called with the number of rows that were written since the last call; every
            format counts its own.

    Raises:
        ConfigError: something has that name, or it cannot be written.
        BusyError: another command is writing it.
        DiskError: the disk has no room for it.
    """
    if folder.exists():
        raise ConfigError("is there already", where=str(folder), todo="name another with -o")
    try:
        with draft_of(folder) as draft:
            frames = frames_of(home.opened)
            left_out = _frames(home, frames, draft, formats, progress)
            if known and len(frames):
                write_whole(draft / "decoded.csv", _decoded(home, frames, known, zone))
            _signals(home, draft, zone, progress)
            _lines(draft / "events.jsonl", list(home.opened.events()))
            _lines(draft / "cameras.jsonl", list(home.opened.cameras()))
            write_whole(draft / "presence.csv", presence_csv(presence))
            verdict = "".join(f"{line}\n" for line in lines(home.checked))
            write_whole(draft / "verdict.txt", [verdict.encode()])
            files = tuple(sorted(path.name for path in draft.iterdir()))
            place_folder(draft, folder)
    except OSError as error:
        raise cannot_write(error, folder, todo="name another place with -o") from None
    return Written(files, left_out)


def _frames(
    home: Home,
    frames: FrameBatch,
    folder: Path,
    formats: Sequence[str],
    progress: Callable[[int], None],
) -> int:
    """Write raw frames; return how many have no place in a GVRET CSV."""
    names = home.opened.channels.names
    if not len(frames):
        return 0
    if "candump" in formats:
        chunks = _counted(text.candump(frames, names), len(frames), text.CHUNK_ROWS, progress)
        write_whole(folder / "frames.log", chunks)
    if "blf" in formats:
        path = folder / "frames.blf"
        path.touch(0o600)
        write_blf(path, frames, bus_numbers(names), progress)
    if "gvret" not in formats:
        return 0
    chunks = _counted(gvret(frames, names), len(frames), text.CHUNK_ROWS, progress)
    write_whole(folder / "frames.csv", chunks)
    return int(np.count_nonzero(~has_gvret_place(frames)))


def _decoded(
    home: Home, frames: FrameBatch, known: Sequence[Known], zone: dt.tzinfo
) -> Iterator[bytes]:
    """Yield a CSV of signals out of raw frames, as they arrived."""
    samples = decode(frames, {number: layout for number, (_, layout) in enumerate(known)})
    dictionary = policy_pb2.Dictionary(
        signal=[
            policy_pb2.Signal(
                name=info.name, message=info.message, unit=info.unit, factor=info.factor,
                offset=info.offset, kind=policy_pb2.Signal.Kind.Name(info.kind),
                choices=dict(info.choices),
            )
            for info, _ in known
        ]
    )  # fmt: skip
    yield CSV_HEADER
    yield from csv_rows(samples, dictionary, home.opened.channels.names, zone)


def _signals(home: Home, folder: Path, zone: dt.tzinfo, progress: Callable[[int], None]) -> None:
    found, names = samples_of(home.opened), home.opened.channels.names
    if not found:
        return

    def all_rows(write: Callable[..., Iterator[bytes]], head: bytes) -> Iterator[bytes]:
        yield head
        for dictionary, batch in found:
            rows = write(batch, dictionary, names, zone)
            yield from _counted(rows, len(batch), text.CHUNK_ROWS, progress)

    write_whole(folder / "signals.csv", all_rows(csv_rows, CSV_HEADER))
    write_whole(folder / "signals.jsonl", all_rows(json_lines, b""))


def _lines(path: Path, found: list[bytes]) -> None:
    if found:
        write_whole(path, found)


def _counted(
    chunks: Iterable[bytes], rows: int, most: int, progress: Callable[[int], None]
) -> Iterator[bytes]:
    """Hand chunks on and tell how many rows they were, up to all there are."""
    left = rows
    for chunk in chunks:
        yield chunk
        progress(min(most, left))
        left -= min(most, left)
