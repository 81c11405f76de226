"""A box: opened whole by the one key, and by nothing else in no part."""

from __future__ import annotations

import tarfile
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from agent.errors import ConfigError, SealError
from agent.evidence import box
from agent.evidence.box import PIECE_BYTES
from agent.vault import keys

PRIVATE, PUBLIC = keys.generate_recipient()
MINE = {keys.kid(PUBLIC): PRIVATE}
ANSWERS = bytes(range(32))
# After heads and padding of a tar: below, at and above the end of a piece.
SIZES = (0, 1, 511, 512, PIECE_BYTES - 1536, PIECE_BYTES - 1535, 3 * PIECE_BYTES)


def made(folder: Path, *sizes: int) -> tuple[Path, dict[str, bytes]]:
    rng = Random(len(sizes))
    content = {f"file-{at}.log": rng.randbytes(size) for at, size in enumerate(sizes)}
    path = folder / "a.sealed"
    files = {name: partial(parts, data) for name, data in content.items()}
    path.write_bytes(b"".join(box.seal(files, PUBLIC, ANSWERS)))
    return path, content


def parts(data: bytes, size: int = 1000) -> Iterator[bytes]:
    yield from (data[at : at + size] for at in range(0, len(data), size))


def opened(path: Path, folder: Path) -> dict[str, bytes]:
    assert box.unseal(path, MINE, folder) == ANSWERS
    return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.mark.parametrize("size", SIZES)
def test_what_goes_in_comes_out(tmp_path: Path, size: int) -> None:
    path, content = made(tmp_path, size, 7)
    assert opened(path, tmp_path / "out") == content
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    assert box.answers(path) == ANSWERS


def test_a_box_of_nothing(tmp_path: Path) -> None:
    assert opened(made(tmp_path)[0], tmp_path / "out") == {}


def test_what_goes_in_is_never_whole_in_memory() -> None:
    """64 MiB are sealed in the room of some pieces, as rows are that are written out one by one."""
    row = bytes(range(256)) * 256

    def rows() -> Iterator[bytes]:
        return (row for _ in range(1024))

    tracemalloc.start()
    try:
        size = sum(map(len, box.seal({"frames.log": rows}, PUBLIC, ANSWERS)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 64 * 2**20
    assert most < 2 * 2**20


def test_a_content_that_changes_is_no_box() -> None:
    """The size stands before it: the second time it has to be the same."""
    sizes = iter((7, 9))
    files: dict[str, box.Content] = {"a": lambda: [bytes(next(sizes))]}
    with pytest.raises(RuntimeError, match="was not the same"):
        list(box.seal(files, PUBLIC, ANSWERS))


def test_another_key_and_a_file_that_is_none_are_said(tmp_path: Path) -> None:
    path, _ = made(tmp_path, 10)
    with pytest.raises(SealError, match="that key is not at hand"):
        box.unseal(path, {}, tmp_path / "out")
    other, _ = keys.generate_recipient()
    with pytest.raises(SealError, match="was altered"):
        box.unseal(path, {keys.kid(PUBLIC): other}, tmp_path / "out")
    with pytest.raises(ConfigError, match="No such file"):
        box.unseal(tmp_path / "none", MINE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def is_refused(data: bytes, folder: Path) -> bool:
    (folder / "b.sealed").write_bytes(data)
    try:
        opened(folder / "b.sealed", folder / "out")
    except SealError:
        return not (folder / "out").exists() and not (folder / ".out.part").exists()
    return False


def alterations(data: bytes) -> list[bytes]:
    """Every head byte changed, cuts everywhere, pieces left out, exchanged, added."""
    start = len(data) % (PIECE_BYTES + 16) if len(data) > 2 * PIECE_BYTES else len(data) // 2
    changed = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, 1300, 13)]
    head = box.HEAD_BYTES + 2 + int.from_bytes(data[box.HEAD_BYTES : box.HEAD_BYTES + 2], "big")
    step = PIECE_BYTES + box.TAG_BYTES
    pieces = [data[at : at + step] for at in range(head, len(data), step)]
    assert len(pieces) > 2
    ways = [pieces[:-1], pieces[:1], pieces[1:], [pieces[1], pieces[0], *pieces[2:]],
            [*pieces, pieces[-1]], [], [*pieces, b"x"]]  # fmt: skip
    cuts = [data[:at] for at in (0, 3, 40, 45, 500, head, start, len(data) - 1)]
    return changed + cuts + [data[:head] + b"".join(way) for way in ways]


def test_whatever_is_altered_opens_nothing(tmp_path: Path) -> None:
    path, _ = made(tmp_path, 3 * PIECE_BYTES)
    assert all(is_refused(data, tmp_path) for data in alterations(path.read_bytes()))


def test_planted_nonce_that_does_not_name_the_last_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut behind the tar's own end, such a box would open."""
    monkeypatch.setattr(box, "_nonce", lambda number, **_: number.to_bytes(12, "big"))
    tar = box._tar
    monkeypatch.setattr(box, "_tar", lambda files: iter([b"".join(tar(files)), bytes(PIECE_BYTES)]))
    path, content = made(tmp_path, 10)
    data = path.read_bytes()
    head = box.HEAD_BYTES + 2 + int.from_bytes(data[box.HEAD_BYTES : box.HEAD_BYTES + 2], "big")
    (tmp_path / "b.sealed").write_bytes(data[: head + PIECE_BYTES + box.TAG_BYTES])
    assert opened(tmp_path / "b.sealed", tmp_path / "out") == content


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/b", ".hidden", ""])
def test_a_name_that_leads_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    info = tarfile.TarInfo(name)
    monkeypatch.setattr(box, "_tar", lambda _: iter([info.tobuf(), bytes(1024)]))
    path, _ = made(tmp_path)
    assert is_refused(path.read_bytes(), tmp_path)
    assert not (tmp_path / "evil").exists()


def test_a_link_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    monkeypatch.setattr(box, "_tar", lambda _: iter([info.tobuf(), bytes(1024)]))
    assert is_refused(made(tmp_path)[0].read_bytes(), tmp_path)
