"""Proof that whoever enrolls is at the car: a code on the car's display, typed at the command.

| state | what comes | what happens |
|---|---|---|
| idle | enroll | the key is looked at; a code is shown, for 120 s |
| shown | enroll | another code, for that key |
| shown | the code | that key is enrolled; idle |
| shown | another code | counted; the third wrong one: idle, and nothing is shown for 10 minutes |
| shown | 120 s | idle |

- The code is six digits, for one key and role; the display can say which. It is compared by
  its hash, so that time tells nothing (hmac would load another OpenSSL, 4 MiB), and whoever guesses
  has three in a million in ten minutes, over all attempts.
- Wrong ones are counted until somebody is enrolled, also over several codes.
- The file of the code is in the run folder, for the display; nothing of it survives a boot.
- Root in the car reads the file, or writes the register itself: this keeps others out, not root.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from agent.digest import sha256
from agent.errors import InlandError, OwnerError
from agent.owner import register
from agent.owner.public import PublicKey
from agent.pb.hatch_pb2 import Enroll, Present
from agent.pb.hatch_pb2 import Presence as Question

NAME: Final = "presence.json"
FORMAT: Final = 1
DIGITS: Final = 6
GOOD_S: Final = 120
MAX_WRONG: Final = 3
WAIT_S: Final = 600
MODE: Final = 0o640

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """A code on the display."""

    code: str
    role: str
    key: PublicKey
    until_s: float  # CLOCK_BOOTTIME


class Presence:
    """See the module. Safe for several threads.

    Args:
        path: of the code, in the run folder.
        people: the register, in the state folder.
        epoch: present ownership of the car.
        boottime_s: reads CLOCK_BOOTTIME.
        now_ns: trusted time.
        rng: returns so many random bytes.
    """

    def __init__(
        self, path: Path, people: Path, epoch: int, *, boottime_s: Callable[[], float],
        now_ns: Callable[[], int], rng: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        self._path, self._people, self._epoch = path, people, epoch
        self._boottime_s, self._now_ns, self._rng = boottime_s, now_ns, rng
        self._lock = Lock()
        self._shown: _Shown | None = None
        self._wrong = 0
        self._wait_until_s = 0.0
        path.unlink(missing_ok=True)  # of a run that was killed: its code is worth nothing

    def answer(self, question: Question) -> Present:
        """Return what becomes of a question of `inland owner enroll`."""
        try:
            with self._lock:
                if question.WhichOneof("what") == "enroll":
                    return self._begin(question.enroll)
                return self._try(question.code)
        except InlandError as error:
            return Present(refused=str(error))

    def expire(self) -> None:
        """Take a code off the display whose time is over."""
        with self._lock:
            if self._shown is not None and self._boottime_s() >= self._shown.until_s:
                self._end()

    def _begin(self, asked: Enroll) -> Present:
        self._end()
        wait_s = self._wait_until_s - self._boottime_s()
        if wait_s > 0:
            raise OwnerError(f"{MAX_WRONG} codes were wrong",
                             todo=f"try again in {int(wait_s) + 1} s")  # fmt: skip
        if asked.role not in register.ROLES:
            raise OwnerError(f"'{asked.role[:20]}' is no role")
        key = PublicKey(asked.recipient, asked.sign, asked.name)
        self._register().check_room(asked.role, key)
        code = f"{int.from_bytes(self._rng(8), 'big') % 10**DIGITS:0{DIGITS}}"  # bias below 10^-13
        self._shown = _Shown(code, asked.role, key, self._boottime_s() + GOOD_S)
        self._show(self._shown)
        log.info("a code for enrolling %s %s is shown", asked.role, key.kid)
        return Present(seconds=GOOD_S)

    def _register(self) -> register.Register:
        """Return who is enrolled; a damaged file is nobody, as for who seals."""
        try:
            return register.of_epoch(self._people, self._epoch)
        except InlandError:
            return register.Register(self._epoch)

    def _try(self, code: str) -> Present:
        shown = self._shown
        if shown is None or self._boottime_s() >= shown.until_s:
            self._end()
            raise OwnerError("no code is shown: its time is over, or it was used up",
                             todo="begin again with `inland owner enroll`")  # fmt: skip
        if sha256(code.encode()) != sha256(shown.code.encode()):
            self._wrong += 1
            if self._wrong >= MAX_WRONG:
                self._wrong, self._wait_until_s = 0, self._boottime_s() + WAIT_S
                self._end()
                raise OwnerError(f"{MAX_WRONG} codes were wrong",
                                 todo=f"try again in {WAIT_S} s")  # fmt: skip
            left = MAX_WRONG - self._wrong
            tries = "one try is left" if left == 1 else f"{left} tries are left"
            return Present(refused=f"that is not the code: {tries}", seconds=self._left(shown))
        self._end()
        try:
            with register.edit(self._people, epoch=self._epoch, mend=True) as held:
                held.register = held.register.enroll(shown.role, shown.key, self._now_ns())
        except OSError as error:
            raise OwnerError(
                f"cannot be written: {error.strerror}", where=str(self._people)
            ) from None
        self._wrong = 0
        log.warning("%s %s is enrolled", shown.role, shown.key.kid)
        return Present(id=shown.key.kid)

    def _left(self, shown: _Shown) -> int:
        return max(1, int(shown.until_s - self._boottime_s()))

    def _show(self, shown: _Shown) -> None:
        values = {
            "format": FORMAT, "code": shown.code, "what": "enroll", "role": shown.role,
            "key": shown.key.kid, "until_boottime_ns": int(shown.until_s * 1e9),
        }  # fmt: skip
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, MODE), "w") as file:
                os.fchmod(file.fileno(), MODE)
                file.write(json.dumps(values) + "\n")
            fresh.replace(self._path)  # not synced: it means nothing after a boot
        except OSError as error:
            self._shown = None
            raise OwnerError(f"the code cannot be shown: {error.strerror}",
                             where=str(self._path)) from None  # fmt: skip

    def _end(self) -> None:
        self._shown = None
        self._path.unlink(missing_ok=True)
