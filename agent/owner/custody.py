"""Which ownership of the car this is, and what keeps that number from going back.

| custody | the number stands in `state/epoch.json` | an older disk image that is put back |
|---|---|---|
| tpm | with the value that a counter of the TPM had | is refused: the counter is ahead |
| file | alone | cannot be noticed |

- Which one is the configuration's choice (`tpm` in [vehicle]). A state that has begun with a TPM is
  not taken into use without it.
- A transfer raises the counter first and writes the file second. Between the two the journal of the
  transfer (transfer.py) says so, and the next start goes on.
- Neither keeps a key: what was stored is sealed to keys that were never in the car.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import shared_file
from agent.errors import ConfigError
from agent.files import read_if_there
from agent.owner.tpm import Tpm
from agent.strict_json import fields, parse_json, text, whole

FILE: Final = "epoch.json"
FORMAT: Final = 1
BY_FILE: Final = "file"
BY_TPM: Final = "tpm"
MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Epoch:
    """One ownership.

    Attributes:
        number: from 1.
        custody: file or tpm.
        counter: of the TPM in this ownership; 0: file.
    """

    number: int = 1
    custody: str = BY_FILE
    counter: int = 0


def present(state: Path, tpm: Tpm | None) -> Epoch:
    """Return the present ownership; a state that has none yet begins with the first.

    Raises:
        ConfigError: the state is of an older ownership, or of another computer, or its custody is
            not the configured one.
        TpmError: the TPM does not answer.
        OSError: the file cannot be written.
    """
    found = look(state, tpm)
    if found is None or (found.custody == BY_FILE and tpm is not None):
        found = Epoch(found.number if found else 1)
        if tpm is not None:
            found = Epoch(found.number, BY_TPM, tpm.found())
        _write(state / FILE, found)
    return found


def look(state: Path, tpm: Tpm | None) -> Epoch | None:
    """Return the ownership that a state folder has, held against its TPM; nothing is written.

    Raises:
        ConfigError, TpmError: as `present` does.
    """
    path = state / FILE
    found = read(path)
    if found is None or found.custody == BY_FILE:
        return found
    if tpm is None:
        raise ConfigError("the TPM that keeps the ownership of this car is not configured",
                          where=str(path), todo="write tpm in [vehicle] again")  # fmt: skip
    counter = tpm.read()
    if counter != found.counter:
        older = "older than the last transfer" if counter > found.counter else "of another computer"
        raise ConfigError(
            f"this state is {older}: ownership {found.number} was begun at {found.counter}, "
            f"and the TPM is at {counter}", where=str(state),
            todo="nothing is started with it; put the present state back, or an empty folder",
        )  # fmt: skip
    return found


def number(state: Path) -> int:
    """Return the number of the ownership that a state says it is of, without asking a TPM.

    Raises:
        ConfigError: the file is damaged.
    """
    found = read(state / FILE)
    return found.number if found is not None else 1


def advance(state: Path, tpm: Tpm | None, before: Epoch) -> Epoch:
    """Begin the next ownership, or go on beginning it; done again, it changes nothing.

    Args:
        state: folder.
        tpm: that keeps the present one; None: the file does.
        before: the ownership that ends.

    Raises:
        ConfigError, TpmError, OSError: as `present` does.
    """
    path = state / FILE
    after = Epoch(before.number + 1, before.custody)
    if before.custody == BY_TPM:
        if tpm is None:
            return present(state, tpm)  # says what is wrong
        counter = tpm.read()
        if counter == before.counter:
            counter = tpm.increment()
        if counter != before.counter + 1:
            return present(state, tpm)  # an image of a transfer that is long over
        after = Epoch(after.number, BY_TPM, counter)
    if read(path) != after:
        _write(path, after)
    return after


def read(path: Path) -> Epoch | None:
    """Return what the file says; None if there is none.

    Raises:
        ConfigError: it cannot be read, or is damaged.
    """
    data = read_if_there(path, MAX_BYTES)
    if data is None:
        return None
    try:
        values = fields(parse_json(data), "format", "epoch", "custody", "counter")
        form, epoch, custody, counter = values
        known = text(custody) in (BY_FILE, BY_TPM) and bool(whole(counter)) == (custody == BY_TPM)
        if whole(form) != FORMAT or not whole(epoch) or not known:
            raise ValueError("values that cannot be")
    except ValueError:
        raise ConfigError(
            "the number of the ownership is damaged", where=str(path),
            todo="put the file back, or begin with an empty state folder",
        ) from None  # fmt: skip
    return Epoch(epoch, custody, counter)


def _write(path: Path, epoch: Epoch) -> None:
    values = {"format": FORMAT, "epoch": epoch.number, "custody": epoch.custody,
              "counter": epoch.counter}  # fmt: skip
    with shared_file.held(path, wait=True):
        shared_file.write(path, json.dumps(values).encode() + b"\n")
