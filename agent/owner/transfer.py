"""A sold car forgets: one ownership ends, the next begins, and a power cut leaves no third thing.

    1  intent      state/transfer.json, durable           until here nothing has begun
    2  custody     the TPM's counter rises, then state/epoch.json
    3  counts      what is going to be erased, into the intent, for a second attempt
    4  vault       bodies dropped with a reason, memory forgotten, Transfer entry, checkpoint
    5  files       people, consents, order, quarantine; counts of events in the run folder
    6  certificate state/certificates/epoch-<n>.json
    7  the intent is removed                              complete

- Every step may be done again. Whoever opens the state folder next, agent or command, goes on from
  wherever it was cut, before anything else: a car with an intent does not drive under the old one.
- Two who go on at once are one after the other: 2 is under the intent's lock, the rest under the
  lock of the state folder.
- Entries of the ledger stay. What the region is still to get stays, see `vault/parting.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from agent import shared_file
from agent.errors import ConfigError, InlandError
from agent.files import make_folder, read_if_there, replace_file, sync_folder
from agent.owner import certificate, custody, hold, presence, register
from agent.owner.custody import Epoch
from agent.owner.slot import KEY as PEOPLE
from agent.owner.tpm import Tpm
from agent.pb import ledger_pb2, moment_pb2, sealed_pb2
from agent.policy import consent_file
from agent.strict_json import fields, listed, parse_json, text, whole
from agent.vault import salvage
from agent.vault.identity import Identity
from agent.vault.parting import Survey

FILE: Final = "transfer.json"
CERTIFICATES: Final = "certificates"
FORMAT: Final = 1
MAX_BYTES: Final = 1 << 20
REMEMBERED: Final = (PEOPLE, "drive")  # keys of what the vault forgets
RUN_FILES: Final = ("events.json", presence.NAME)
QUALITIES: Final[dict[int, str]] = {
    moment_pb2.CLOCK_REGION: "region", moment_pb2.CLOCK_WALL: "wall",
    moment_pb2.CLOCK_FLOOR: "floor",
}  # fmt: skip


class Parted(Protocol):
    """What a transfer needs of the vault."""

    def survey(self) -> Survey:
        """Return what a transfer would take out."""
        ...

    def part(self, what: ledger_pb2.Transfer, gone: Any, forget: Any) -> tuple[int, str]:
        """Take it out, once."""
        ...

    def entry(self, index: int) -> tuple[bytes, tuple[bytes, ...], int]:
        """Return an entry and its proof."""
        ...

    def trusted(self) -> tuple[int, int]:
        """Return time and quality."""
        ...

    @property
    def log_id(self) -> bytes:
        """Return the id of the ledger."""
        ...


@dataclass(frozen=True, slots=True)
class Intent:
    """What was begun.

    Attributes:
        before: the ownership that ends.
        erased: what goes; None: not counted yet.
        forgotten: how many people, consents and quarantined files.
    """

    before: Epoch
    erased: tuple[ledger_pb2.Erased, ...] | None = None
    forgotten: Mapping[str, int] | None = None


def pending(state: Path) -> Intent | None:
    """Return the transfer that was begun and is not complete; None: there is none.

    Raises:
        ConfigError: the intent is damaged.
    """
    path = state / FILE
    data = read_if_there(path, MAX_BYTES)
    if data is None:
        return None
    try:
        form, number, kept, counter, erased, forgotten = fields(
            parse_json(data),
            "format", "epoch", "custody", "counter", "erased", "forgotten",
        )  # fmt: skip
        if whole(form) != FORMAT:
            raise ValueError("a format of another version")
        intent = Intent(Epoch(whole(number), text(kept), whole(counter)))
        if erased is not None:
            intent = replace(
                intent, erased=tuple(map(_erased, listed(erased))),
                forgotten={text(key): whole(forgotten[key]) for key in forgotten},
            )  # fmt: skip
    except (ValueError, TypeError):
        raise ConfigError(
            "a transfer was begun, and what was written of it is damaged", where=str(path),
            todo="put the file back; nothing is started without it",
        ) from None  # fmt: skip
    return intent


def begin(state: Path, before: Epoch) -> None:
    """Write the intent: from here on it will be completed, whatever happens.

    Raises:
        OSError: it cannot be written; nothing was begun.
    """
    with shared_file.held(state / FILE, wait=True):
        _write(state, Intent(before))


def take_custody(state: Path, tpm: Tpm | None) -> None:
    """Begin the next ownership if a transfer was begun: before anybody asks which one it is.

    Raises:
        ConfigError, TpmError, OSError: it cannot go on.
    """
    if not (state / FILE).exists():
        return
    with shared_file.held(state / FILE, wait=True):
        if (intent := pending(state)) is not None:
            sync_folder(state)  # the name may be of a command that was killed before it was durable
            custody.advance(state, tpm, intent.before)


def complete(state: Path, run: Path, vault: Parted, identity: Identity) -> Path | None:
    """Go on to the end, with the vault that is open; return the certificate, None: nothing to do.

    Raises:
        InlandError: it cannot go on now; the next start tries again.
        OSError: likewise.
    """
    intent = pending(state)
    if intent is None:
        return None
    found = vault.survey()
    if intent.erased is None or intent.forgotten is None:
        intent = replace(intent, erased=found.erased, forgotten=_counted(state))
        with shared_file.held(state / FILE, wait=True):
            _write(state, intent)
    what = ledger_pb2.Transfer(
        from_epoch=intent.before.number, to_epoch=intent.before.number + 1,
        custody=intent.before.custody, erased=intent.erased,
    )  # fmt: skip
    index, note = vault.part(what, found.gone, REMEMBERED)
    _forget(state, run)
    stored, path, _ = vault.entry(index)
    proof = certificate.Proof(vault.log_id, stored, index, path, note)
    place = _certify(state, vault, identity, intent, proof)
    (state / FILE).unlink(missing_ok=True)
    sync_folder(state)
    return place


def certificate_of(state: Path, number: int) -> Path:
    """Return where the certificate of the end of an ownership stands."""
    return state / CERTIFICATES / f"epoch-{number}.json"


def _certify(
    state: Path, vault: Parted, identity: Identity, intent: Intent, proof: certificate.Proof
) -> Path:
    place = certificate_of(state, intent.before.number)
    unix_ns, quality = vault.trusted()
    made = certificate.make(
        region=identity.region, vehicle=identity.vehicle, unix_s=unix_ns // 10**9,
        quality=QUALITIES.get(quality, "floor"), forgotten=intent.forgotten or {}, proof=proof,
        key=identity.ledger_key,
    )  # fmt: skip
    make_folder(place.parent)
    replace_file(place, made.encode())
    return place


def _write(state: Path, intent: Intent) -> None:
    erased = (
        None
        if intent.erased is None
        else [[one.lane, one.recipients, one.bodies, one.bytes] for one in intent.erased]
    )
    values = {
        "format": FORMAT, "epoch": intent.before.number, "custody": intent.before.custody,
        "counter": intent.before.counter, "erased": erased,
        "forgotten": None if intent.forgotten is None else dict(intent.forgotten),
    }  # fmt: skip
    shared_file.write(state / FILE, json.dumps(values).encode() + b"\n")


def _erased(value: object) -> ledger_pb2.Erased:
    lane, recipients, bodies, size = map(whole, listed(value))
    return ledger_pb2.Erased(
        lane=sealed_pb2.Lane.Name(lane),
        recipients=sealed_pb2.Recipients.Name(recipients),
        bodies=bodies, bytes=size,
    )  # fmt: skip


def _counted(state: Path) -> dict[str, int]:
    try:
        people = len(register.read(state / register.FILE).people)
    except InlandError:
        people = 0
    try:
        consents = len(consent_file.read(state / consent_file.FILE).grants)
    except InlandError:
        consents = 0
    return {"people": people, "consents": consents, "quarantined": len(salvage.aside(state))}


def _forget(state: Path, run: Path) -> None:
    """Remove what is of the owner before, and of nobody else."""
    for name in (register.FILE, consent_file.FILE, hold.FILE):
        stem = Path(name).stem
        for path in sorted(state.glob(f"{stem}.*")):
            if path.suffix != ".lock":
                path.unlink(missing_ok=True)
    import shutil  # noqa: PLC0415 - it loads three compressors, and says what it cannot remove

    for path in salvage.aside(state):
        shutil.rmtree(path)
    sync_folder(state)
    if (state / "quarantine").is_dir():
        sync_folder(state / "quarantine")
    for name in RUN_FILES:
        (run / name).unlink(missing_ok=True)
    if run.is_dir():
        sync_folder(run)  # it should be in memory; who has it on a disk keeps nothing there either
