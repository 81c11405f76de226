"""A policy repository as a folder: what python-tuf reads instead of a web server.

An OTA system, a USB stick or the capture process dropped `metadata/*.json` and `targets/*` there.
Nothing in it is trusted: names are of one plain form, so that none leads out of the folder; only
regular files are read, never through a symbolic link, a FIFO never blocks, and nothing is read
beyond the size that the caller allows. There is no network in here.

Imports python-tuf (24 MB): for one-shot processes alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient import FetcherInterface

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"
_NAME: Final = re.compile(r"(metadata|targets)/([A-Za-z0-9][A-Za-z0-9._-]{0,150})")
_CHUNK: Final = 64 * 1024
_ABSENT: Final = 404
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class DropDir(FetcherInterface):
    """Hands out the files of one folder by "metadata/<name>" and "targets/<name>".

    Args:
        folder: the folder that was dropped.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return one file.

        Args:
            url: metadata/<name> or targets/<name>.
            max_length: bytes that it may have.

        Raises:
            DownloadHTTPError: it is not there (404: python-tuf takes that for "no newer root").
            DownloadLengthMismatchError: it is larger than that.
            DownloadError: not a name, not a regular file, or not readable.
        """
        pieces, size = [], 0
        for piece in self._fetch(url):
            size += len(piece)
            if size > max_length:
                raise DownloadLengthMismatchError(f"{url} has more than {max_length} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def _fetch(self, url: str) -> Iterator[bytes]:
        """Yield the bytes of a file in pieces, each read when it is asked for."""
        match = _NAME.fullmatch(url)
        if match is None:
            raise DownloadError(f"'{url[:80]}' is no name in a policy repository")
        with contextlib.ExitStack() as stack:
            try:
                folder = os.open(self._folder / match[1], _FLAGS | os.O_DIRECTORY)
                stack.callback(os.close, folder)
                file = os.open(match[2], _FLAGS, dir_fd=folder)
                stack.callback(os.close, file)
            except FileNotFoundError:
                raise DownloadHTTPError(f"{url} is missing", _ABSENT) from None
            except OSError as error:
                raise DownloadError(f"{url} cannot be read: {error.strerror}") from None
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise DownloadError(f"{url} is not a regular file")
            while piece := os.read(file, _CHUNK):
                yield piece
