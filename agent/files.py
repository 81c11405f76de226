"""Files that are there whole or not at all, and still are after a power cut.

Content is synced before its name appears; what reads and writes lets OSError through: what it means
is the caller's to say. Secrets are read by one rule: nobody but their owner may touch the file. No
reader takes more than its limit into memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from agent.errors import ConfigError, DiskError, InlandError

MAX_KEY_FILE_BYTES: Final = 16 * 1024  # a PEM Ed25519 key has 119
PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # the disk may have room another time
_OTHERS: Final = 0o077
# The service manager may give a credential to one user by an ACL, whose mask shows as the group's
# bits. The folder around it is closed to everybody else.
_OTHERS_BY_ACL: Final = 0o037


def write_new(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read.

    Raises:
        FileExistsError: something has that name already; it is not touched.
        OSError: it cannot be written.
    """
    # The mode at creation: at no moment could others read it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)  # half of it, which is ours
        raise


def write_whole(path: Path, chunks: Iterable[bytes], *, mode: int = 0o600) -> None:
    """Write a file beside its place and rename it over what was there, whatever that was.

    Args:
        path: its place.
        chunks: its content; an error in them leaves the old file.
        mode: permissions of the file.

    Raises:
        OSError: it cannot be written.
    """
    import tempfile  # noqa: PLC0415 - capture starts quickly, and never needs this

    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_output(path: Path, chunks: Iterable[bytes], *, mode: int = 0o600) -> None:
    """Write what somebody asked for to where they said: as `write_whole`, where that is a file.

    A device or a pipe is written to and never replaced; through a link its target is. A pipe that
    nobody reads is an error: it is not waited for.

    Raises:
        OSError: it cannot be written.
    """
    if not path.exists() or path.is_file() or path.is_dir():
        write_whole(path.resolve(), chunks, mode=mode)
        return
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(handle, "wb") as special:
        os.set_blocking(handle, True)
        special.writelines(chunks)


def replace_file(path: Path, content: bytes) -> None:
    """Put a small file in place of what was there, durably. For one writer at a time.

    What a write leaves that was cut short has one name (`path`.new): the next one takes it away.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, content)
    fresh.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path, *, mode: int = 0o700) -> None:
    """Make a folder, and those above it, durably: what is in a folder without a name is lost.

    One that is there may be of a run that was killed before its name was synced: that is done now.

    Args:
        folder: to be made.
        mode: of the folder; those above it get the usual one.

    Raises:
        OSError: it cannot be made.
    """
    made = not folder.exists()
    if made and not folder.parent.exists():
        make_folder(folder.parent, mode=0o777)
    folder.mkdir(mode=mode, exist_ok=True)
    try:
        sync_folder(folder.parent)
    except PermissionError:
        if made:
            raise  # who may write there, and not read, has to say so


def place_folder(draft: Path, place: Path) -> None:
    """Give a finished folder its name, durably and with all that is in it.

    Raises:
        OSError: the disk did not take it, or something has that name.
    """
    for path in draft.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(draft)
    draft.rename(place)
    sync_folder(place.parent)


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Give a short name for a Unix socket, however deep its folder lies: 108 bytes, unix(7).

    Raises:
        OSError: the folder is not there.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all that is in it, as far as it can be removed. Links are not followed.

    As `shutil.rmtree` does it; but that loads three compressors into a process that stays.
    """
    if folder.is_symlink():
        return
    for place, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            path = Path(place, name)
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: renames and new files.

    Raises:
        OSError: the disk did not take it.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def credentials_folder() -> Path | None:
    """Return the folder of what the service manager handed to this process: systemd.exec(5)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(folder) if folder.startswith("/") else None


def file_identity(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from the one that was renamed over it; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def open_plain(path: Path) -> BufferedReader:
    """Open a plain file for reading.

    Nothing is waited for: a pipe under the name of a file would hold up whoever reads it.

    Raises:
        OSError: missing, unreadable, or not a plain file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if stat.S_ISREG(mode := os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a plain file", str(path))


def read_plain(path: Path, most: int) -> bytes:
    """Return a plain file, or its first `most` + 1 bytes: whoever sees that many knows it.

    Raises:
        OSError: see `open_plain`.
    """
    with open_plain(path) as file:
        return file.read(most + 1)


def read_text(path: Path, most: int) -> str:
    """Return a text of at most so many bytes, UTF-8.

    Raises:
        OSError: see `open_plain`, or it is larger.
        UnicodeDecodeError: another encoding, or no text.
    """
    data = read_plain(path, most)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 10} KiB", str(path))
    return data.decode("utf-8")


def cannot_write(error: OSError, path: Path, *, todo: str = "") -> InlandError:
    """Return what to say of a place that a command could not write; `todo` if it never will be."""
    what = f"cannot write: {error.strerror}"
    if error.errno in PASSING:
        return DiskError(what, where=str(path), todo="try again when the disk has room")
    return ConfigError(what, where=str(path), todo=todo)


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return in a few words why `read_text` gave nothing."""
    return "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error.strerror)


def read_private_file(path: Path, what: str) -> bytes:
    """Return the bytes of a secret file that nobody but its owner may touch.

    The mode is read from the open file, so that it cannot be exchanged between look and read.

    Raises:
        ConfigError: missing, unreadable, not a plain file, too large, or open to group or others.
    """
    closed_to = _OTHERS_BY_ACL if path.parent == credentials_folder() else _OTHERS
    try:
        with open_plain(path) as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {what}: {error.strerror}", where=str(path)) from None
    if mode & closed_to:
        raise ConfigError(f"{what} can be read by others (mode {mode:04o})", where=str(path),
                          todo=f"chmod 600 {path}")  # fmt: skip
    return _small(data, path, MAX_KEY_FILE_BYTES)


def read_small(path: Path, most: int) -> bytes:
    """Return a small plain file that somebody named.

    Raises:
        ConfigError: missing, unreadable, not a plain file, or of more than `most` bytes.
    """
    try:
        return _small(read_plain(path, most), path, most)
    except OSError as error:
        raise _unreadable(error, path) from None


def read_if_there(path: Path, most: int) -> bytes | None:
    """Return a small file of our own, as `read_plain` does; None if there is none.

    Raises:
        ConfigError: it cannot be read, or is not a plain file.
    """
    try:
        return read_plain(path, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(error, path) from None


def _small(data: bytes, path: Path, most: int) -> bytes:
    if len(data) > most:
        raise ConfigError(f"more than {most} bytes", where=str(path))
    return data


def _unreadable(error: OSError, path: Path) -> ConfigError:
    return ConfigError(f"cannot be read: {error.strerror}", where=str(path))
