"""The socket files of capture: made with a mode, taken over only from a process that is gone."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from agent.errors import HatchError
from agent.files import short_name


def bind(path: Path, *, mode: int = 0o660) -> tuple[socket.socket, int]:
    """Return a listening socket and the inode of its file.

    Args:
        path: the socket file; its folder must exist.
        mode: who may connect.

    Raises:
        HatchError: somebody answers there already, or it cannot be bound.
    """
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The file gets the mode of the socket: never open to others. chmod undoes the umask.
        os.fchmod(sock.fileno(), mode)
        with short_name(path) as name:
            sock.bind(name)
        path.chmod(mode)
        sock.listen(32)  # of them, those beyond what is served are crowded out at once
        sock.setblocking(False)
        return sock, path.lstat().st_ino
    except OSError as error:
        sock.close()
        raise HatchError(f"cannot bind: {error}", where=str(path)) from None


def accept(listener: socket.socket) -> tuple[socket.socket, int] | None:
    """Return a client and its user's id; None: it went away again."""
    try:
        sock, _ = listener.accept()
    except (BlockingIOError, ConnectionError):
        return None
    _, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return sock, uid


def remove(path: Path, inode: int) -> None:
    """Remove the socket file if it is still the one that `bind` has made."""
    if path.exists() and path.lstat().st_ino == inode:
        path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_socket():
        raise HatchError("is not a socket", where=str(path), todo="move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            with short_name(path) as name:
                probe.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise HatchError(f"cannot tell who is there: {error}", where=str(path)) from None
    raise HatchError("another capture answers here", where=str(path), todo="stop it first")
