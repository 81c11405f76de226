"""A box: some files, sealed to one recipient key, as a region hands over what an order opened.

    "iBX1" | kid (8) | for (32) | u16 BE length | HPKE-sealed secret | pieces

- `for` is the SHA-256 of what it answers, so whoever opens it sees that it is for their order.
- The secret is sealed as that of a session is (keys.py); it is bound to all before it.
- Pieces: the content in parts of 65,536 bytes, each under AES-256-GCM with a key of this box alone.
  The nonce is the number of the piece (11 bytes BE) and 1 in the last piece, else 0: nothing can be
  cut off, put in or moved. What comes before the secret's length is authenticated with each.
- The content is a tar of plain files without folders.

Source: RFC 9180 (HPKE), age's STREAM (Rogaway et al.), POSIX.1-2001 (pax).
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from shutil import copyfileobj
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.draft import draft_of
from agent.errors import ConfigError, SealError
from agent.files import place_folder
from agent.vault import keys
from agent.vault.session import hkdf

MAGIC: Final = b"iBX1"
PIECE_BYTES: Final = 65_536
TAG_BYTES: Final = 16
HEAD_BYTES: Final = len(MAGIC) + keys.KID_BYTES + 32
SECRET_BYTES: Final = 32
MAX_WRAP_BYTES: Final = 4096  # one has 1,168
_BLOCK: Final = 512  # of a tar
_LABEL: Final = b"inland/box/v1"
Content = Callable[[], Iterable[bytes]]
_NAME: Final = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


def seal(files: Mapping[str, Content], public: bytes, answers: bytes) -> Iterator[bytes]:
    """Yield a box, sealed as it is made: what is in it is nowhere whole, and on no disk.

    Args:
        files: what makes the content of each file, by name. It is made twice, the same each time: a
            tar says the size before the content.
        public: recipient's key, 1216 bytes.
        answers: SHA-256 of what it answers.

    Raises:
        ConfigError: the key is none.
        RuntimeError: a content had another size the second time.
    """
    head = MAGIC + keys.kid(public) + answers
    secret = os.urandom(SECRET_BYTES)
    wrap = keys.hpke_suite().encrypt(secret, keys.load_public(public), info=_LABEL + b"\0" + head)
    yield head + len(wrap).to_bytes(2, "big") + wrap
    cipher, number, buffer = AESGCM(hkdf(secret, _LABEL, 32)), 0, bytearray()
    for part in _tar(files):
        buffer += part
        while len(buffer) > PIECE_BYTES:  # the last piece is not known before the end
            yield cipher.encrypt(_nonce(number, last=False), bytes(buffer[:PIECE_BYTES]), head)
            del buffer[:PIECE_BYTES]
            number += 1
    yield cipher.encrypt(_nonce(number, last=True), bytes(buffer), head)


def _nonce(number: int, *, last: bool) -> bytes:
    # A key is of one box and a number of one piece: no nonce comes twice.
    return number.to_bytes(11, "big") + bytes([last])


def _tar(files: Mapping[str, Content]) -> Iterator[bytes]:
    for name, content in sorted(files.items()):
        info = tarfile.TarInfo(name)
        info.size, info.mode = sum(map(len, content())), 0o600
        yield info.tobuf(tarfile.PAX_FORMAT)
        left = info.size
        for part in content():
            left -= len(part)
            yield part
        if left:
            raise RuntimeError(f"{name} was not the same the second time")
        yield bytes(-info.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def unseal(path: Path, privates: Mapping[bytes, bytes], folder: Path) -> bytes:
    """Open a box into a new folder, all of it or nothing; return what it answers.

    Args:
        path: of the box.
        privates: recipients' private keys by kid.
        folder: to be made.

    Raises:
        ConfigError: no such file, or something stands where the folder would.
        BusyError: another command is writing it.
        SealError: it is no box, for another key, or was altered or cut.
        OSError: the folder cannot be written.
    """
    if folder.exists():
        raise ConfigError("is there already", where=str(folder), todo="name another with -o")
    with _opened(path) as file:
        pieces = _Pieces(file, privates, str(path))
        with draft_of(folder) as draft:
            _untar(pieces, draft, str(path))
            place_folder(draft, folder)
    return pieces.answers


def answers(path: Path) -> bytes:
    """Return what a box says that it answers; whether that is so, `unseal` finds.

    Raises:
        ConfigError: no such file.
    """
    with _opened(path) as file:
        return file.read(HEAD_BYTES)[-32:]


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None


class _Pieces:
    """The content of a box as a file that is read once, from the front."""

    def __init__(self, file: IO[bytes], privates: Mapping[bytes, bytes], where: str) -> None:
        self._file, self._where = file, where
        self._head = file.read(HEAD_BYTES)
        size = int.from_bytes(file.read(2), "big")
        wrap = file.read(min(size, MAX_WRAP_BYTES))
        if self._head[:4] != MAGIC or len(self._head) < HEAD_BYTES or len(wrap) != size:
            raise SealError("no sealed box", where=where)
        kid, self.answers = self._head[4:12], self._head[12:]
        if kid not in privates:
            raise SealError(f"it is sealed to {kid.hex()}, and that key is not at hand",
                            where=where)  # fmt: skip
        info = _LABEL + b"\0" + self._head
        try:
            private = keys.load_private(privates[kid])
            secret = keys.hpke_suite().decrypt(wrap, private, info=info)
        except (InvalidTag, ValueError):
            raise SealError("it was altered", where=where) from None
        self._cipher = AESGCM(hkdf(secret, _LABEL, 32))
        self._number, self._rest = 0, b""
        self._next = file.read(PIECE_BYTES + TAG_BYTES)
        self.is_over = False

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and not self.is_over:
            self._rest += self._piece()
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def _piece(self) -> bytes:
        sealed, self._next = self._next, self._file.read(PIECE_BYTES + TAG_BYTES)
        self.is_over = not self._next
        nonce = _nonce(self._number, last=self.is_over)
        self._number += 1
        try:
            return self._cipher.decrypt(nonce, sealed, self._head)
        except (InvalidTag, ValueError):
            raise SealError("it was altered or cut", where=self._where) from None


def _untar(pieces: _Pieces, folder: Path, where: str) -> None:
    try:
        with tarfile.open(fileobj=pieces, mode="r|") as tar:  # type: ignore[call-overload]
            for info in tar:
                content = tar.extractfile(info) if info.isreg() and not info.issparse() else None
                if content is None or _NAME.fullmatch(info.name) is None:
                    raise SealError("something other than plain files is in it", where=where)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                handle = os.open(folder / info.name, flags, 0o600)
                with os.fdopen(handle, "wb") as file:
                    copyfileobj(content, file, PIECE_BYTES)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise SealError(f"what is in it cannot be read: {error}", where=where) from None
    while not pieces.is_over:  # behind the end of the tar as well: a box is whole, or it is none
        pieces.read(PIECE_BYTES)
