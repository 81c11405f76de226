"""What goes and what stays when a car is sold: by recipients, lane, consent, confirmed or not."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from agent.errors import ConfigError, InlandError, OwnerError, SealError, TpmError
from agent.owner import certificate, custody, hold, register, transfer
from agent.pb import ledger_pb2, sealed_pb2
from agent.policy import consent_file
from agent.policy.consent import Book
from agent.vault import parting
from agent.vault.opening import open_session
from agent.vault.scribe import Scribe
from agent.vault.shelves import Shelf
from tests.owner import selling
from tests.owner.people import ANNA, BELA, enroll
from tests.owner.test_custody import Counter as Tpm
from tests.vault.world import LEDGER, PRIVATES, RECEIPT, VEHICLE, Car, Region, draft
from tests.vault.world import hold as hold_piece

SETS = ("REGION", "OWNER", "SHARED", "BOTH", "DRIVER")
LANES = ("INCIDENT", "EVENT", "ROUTINE", "RECORDER")


class Sold(Car):
    """A car with bodies of every set and lane, some of them with the region, and people."""

    def fill(self) -> dict[tuple[str, str, bool, str], int]:
        """Seal; return entries by (set, lane, confirmed, consent)."""
        from agent.vault.enrolled import Enrolled

        self.vault.admit(Enrolled(ANNA.public.recipient, BELA.public.recipient))
        made = {}
        for confirmed in (True, False):
            for who in SETS:
                for lane in LANES:
                    for consent in ("", "location.track"):
                        if lane == "RECORDER" and consent:
                            continue
                        recorded = self._piece() if lane == "RECORDER" else None
                        index = self.vault.seal(draft(
                            600, lane=sealed_pb2.Lane.Value(lane), consent=consent,
                            recipients=sealed_pb2.Recipients.Value(who), recorded=recorded,
                        ))  # fmt: skip
                        made[who, lane, confirmed, consent] = index
            if confirmed:
                self.drain()
        self.vault.remember("people", b'[{}, ""]')
        self.vault.remember("drive", b"a drive that nobody may know of")
        enroll(self.folder / register.FILE, ANNA)
        enroll(self.folder / register.FILE, BELA, register.DRIVER)
        with consent_file.edit(self.folder / consent_file.FILE, wait=True) as held:
            held.book = Book(id="0123456789abcdef", serial=0)
        (self.folder / "consent.json").write_text("damaged")
        (self.folder / "consent.damaged-1").write_text("damaged")
        (self.folder / "owners.damaged-3").write_text("damaged")
        self.run = self.folder.parent / "run"
        self.run.mkdir(exist_ok=True)
        (self.run / "events.json").write_text("{}")
        return made

    def _piece(self) -> tuple[int, int]:
        begin = self.vault.recorded_ns()
        return begin, begin + 10**9

    def drain(self) -> None:
        self.region = Confirming()
        while batch := self.vault.take(64, 1 << 20, {})[0]:
            self.region.confirm(self.vault, batch)

    def here(self) -> set[int]:
        return {row[0] for row in self.vault._spool.rows("SELECT i FROM body")}

    def sell(self, tpm=None) -> Path:
        self.vault.close()
        place = selling.sell(self.folder, self.run, tpm)
        self.start()
        return place


class Confirming(Region):
    """Holds entries without opening them: most are not for it."""

    def confirm(self, vault, batch) -> None:
        from agent.vault import tree

        done = [
            (one.upload.log, one.upload.index, tree.leaf_hash(one.upload.entry)) for one in batch
        ]
        for one in batch:
            self.store[one.upload.log, one.upload.index] = (one.upload.entry, one.upload.body, "")
            entry = ledger_pb2.Entry.FromString(one.upload.entry)
            if entry.HasField("session"):
                with suppress(SealError):
                    reader = open_session(one.upload.body, PRIVATES)
                    self.sessions[entry.session.session] = reader
        _, valid = vault.receipt(self.receipt(done))
        assert valid


@pytest.fixture
def car(tmp_path: Path):
    made = Sold(tmp_path / "state")
    yield made
    made.vault.close()


def stays(who: str, lane: str, confirmed: bool, consent: str) -> bool:
    """The rule in one line: only what the region is still to get."""
    return who in ("REGION", "SHARED") and lane != "RECORDER" and not confirmed and not consent


def test_only_what_the_region_is_still_to_get_stays(car: Sold):
    """All sets, lanes, confirmed or not, under a consent or not: 70 bodies."""
    made = car.fill()
    assert set(made.values()) <= car.here()
    car.sell()
    here = car.here()
    wrong = {key for key, index in made.items() if (index in here) != stays(*key)}
    assert wrong == set()
    assert sum(stays(*key) for key in made) == 6


def test_sessions_that_open_nothing_more_go_as_well(car: Sold):
    """Of five sets two still have something; nobody is wrapped a secret for nothing."""
    car.fill()
    car.sell()
    left = Counter(
        sealed_pb2.Recipients.Name(entry.session.recipients)
        for entry in car.entries()
        if entry.HasField("session") and entry.index in car.here()
    )
    assert left == {"REGION": 1, "SHARED": 1}


def test_every_body_that_went_has_a_reason_and_entries_stay(car: Sold):
    made = car.fill()
    before = [entry.SerializeToString() for entry in car.entries()]
    car.sell()
    assert [entry.SerializeToString() for entry in car.entries()][: len(before)] == before
    dropped = {
        i for drop in car.what("drop") if drop.reason == ledger_pb2.Drop.TRANSFERRED
        for one in drop.range for i in range(one.first, one.last + 1)
    }  # fmt: skip
    assert dropped >= {index for key, index in made.items() if not stays(*key)}
    assert dropped & car.here() == set()
    assert [(one.from_epoch, one.to_epoch, one.custody) for one in car.what("transfer")] == [
        (1, 2, "file")
    ]


def test_the_region_gets_what_stays_and_takes_the_rest_as_explained(car: Sold):
    car.fill()
    car.sell()
    batch, pending = car.vault.take(500, 1 << 20, {})
    assert len(batch) == pending
    done = car.region.take(batch)
    assert car.vault.receipt(car.region.receipt(done))[1]
    assert len(car.region.payloads) == 6


@pytest.mark.parametrize(
    "bug",
    ["_ON_ITS_WAY", "_REGIONS", "sessions"],
)
def test_planted_rules_that_keep_too_much_are_found(car: Sold, monkeypatch, bug: str):
    """The recorder's window, the owner's own, a session for nobody."""
    if bug == "_ON_ITS_WAY":
        monkeypatch.setattr(parting, bug, tuple(range(12)))
    elif bug == "_REGIONS":
        monkeypatch.setattr(parting, bug, (1, 2, 3, 4, 5))
    else:
        survey = parting.survey

        def planted(rows):
            found = survey(rows)
            sessions = {row[0] for row in rows("SELECT i FROM item WHERE session=i")}
            return parting.Survey(
                tuple(i for i in found.gone if i not in sessions), found.erased, found.held
            )

        monkeypatch.setattr(parting, "survey", planted)
    found = 0
    for test in (
        test_only_what_the_region_is_still_to_get_stays,
        test_sessions_that_open_nothing_more_go_as_well,
    ):
        try:
            test(car)
        except AssertionError:
            found += 1
        car.vault.close()
        car.folder = car.folder.parent / "again"
        car.start()
    assert found


def test_people_consents_memory_and_counts_are_forgotten(car: Sold):
    """Not a byte of what was remembered is left in the file or its log."""
    car.fill()
    car.vault.remember("kept", b"stays")
    car.sell()
    left = {path.name for path in car.folder.iterdir()}
    assert not {one for one in left if one.startswith(("owners", "consent")) and ".lock" not in one}
    assert list(car.run.iterdir()) == []
    assert car.vault.remembered("drive") is None
    assert car.vault.remembered("kept") == b"stays"
    for path in (car.folder / "spool").iterdir():
        assert b"nobody may know of" not in path.read_bytes()


def test_planted_forgetting_that_only_unlinks_leaves_bytes(car: Sold, monkeypatch):
    """SQLite's own deletion leaves the value in a page: the test above sees it."""
    from agent.vault.memory import Memory

    def forget(self, *keys):
        with self._spool.write() as transaction:
            for key in keys:
                transaction.run("DELETE FROM memory WHERE k=?", (key,))

    monkeypatch.setattr(Memory, "forget", forget)
    car.fill()
    car.sell()
    assert any(
        b"nobody may know of" in path.read_bytes() for path in (car.folder / "spool").iterdir()
    )


def test_what_follows_is_of_the_next_epoch_and_of_nobody(car: Sold):
    car.fill()
    car.sell()
    assert custody.number(car.folder) == 2
    assert register.of_epoch(car.folder / register.FILE, 2).people == ()


def test_an_open_hold_ends_with_the_transfer(car: Sold):
    """Its Incident entry says interrupted; nothing is held for the next owner."""
    car.fill()
    record = car.vault.seal(draft(300, lane=sealed_pb2.INCIDENT))
    hold_piece(car.vault, record, 0, 10**15, upload=False)
    assert parting.survey(car.vault._spool.rows).held > 1
    car.sell()
    assert car.vault.holds() == []
    assert [one.state for one in car.what("incident")] == [ledger_pb2.Incident.INTERRUPTED]


def test_an_incident_that_was_carried_over_counts_as_held(car: Sold):
    car.fill()
    before = parting.survey(car.vault._spool.rows).held
    with car.vault._spool.write() as transaction:
        for i, shelf in enumerate((Shelf.KEPT, Shelf.INCIDENT, Shelf.ROUTINE)):
            transaction.run(
                "INSERT INTO salvage(log, i, shelf, entry, blob) VALUES(?,?,?,?,?)",
                (bytes(16), i, int(shelf), b"entry", b"body"),
            )
    assert parting.survey(car.vault._spool.rows).held == before + 2


def test_quarantined_files_are_removed(car: Sold):
    car.fill()
    (car.folder / "quarantine" / "0001").mkdir(parents=True)
    (car.folder / "quarantine" / "0001" / "spool.db").write_bytes(b"of the owner before")
    car.sell()
    assert list((car.folder / "quarantine").iterdir()) == []


def test_the_certificate_counts_what_went_and_names_nobody(car: Sold):
    made = car.fill()
    place = car.sell()
    text = place.read_text()
    found = certificate.check(text.encode())
    assert sum(one["bodies"] for one in found["erased"]) == sum(not stays(*key) for key in made)
    assert (found["from_epoch"], found["to_epoch"], found["custody"]) == (1, 2, "file")
    assert found["forgotten"]["people"] == 2
    for key in (ANNA, BELA):
        assert key.public.kid not in text
        assert key.public.recipient[:30].hex() not in text
    lanes = {(one["recipients"], one["lane"]) for one in found["erased"]}
    assert ("owner", "routine") in lanes


def test_every_altered_byte_of_a_certificate_is_found(car: Sold):
    car.fill()
    whole = car.sell().read_bytes()
    values = json.loads(whole)
    for at in range(0, len(whole), 3):
        altered = bytearray(whole)
        altered[at] ^= 1
        if altered == whole or _same(bytes(altered), values):
            continue
        with pytest.raises(OwnerError):
            certificate.check(bytes(altered))
    for key in values:
        with pytest.raises(OwnerError, match="not a whole certificate"):
            certificate.check(json.dumps({k: v for k, v in values.items() if k != key}).encode())


def _same(data: bytes, values: dict) -> bool:
    """White space means nothing."""
    try:
        return bool(json.loads(data) == values)
    except ValueError:
        return False


def test_a_certificate_that_claims_more_than_its_entry_is_found(car: Sold):
    """Signed anew by the car's own key: the ledger says something else."""
    car.fill()
    values = json.loads(car.sell().read_bytes())
    values["erased"][0]["bodies"] += 1
    del values["signature"]
    values["signature"] = certificate._b64(LEDGER.sign(certificate._signed(values)))
    with pytest.raises(OwnerError, match="does not say what its entry says"):
        certificate.check(json.dumps(values).encode())


# --- cuts -----------------------------------------------------------------------------------------

STEPS = (
    (custody, "advance"), (transfer, "_counted"), (transfer, "_forget"), (transfer, "_certify"),
    (parting, "part"), (parting, "_drop_salvaged"), (Scribe, "sign"), (transfer, "sync_folder"),
)  # fmt: skip


class CutError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("by_tpm", [False, True], ids=["file", "tpm"])
@pytest.mark.parametrize(("where", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_end_at_any_step_is_completed_by_the_next_start(
    car: Sold, monkeypatch, where, name: str, when: str, by_tpm: bool
):
    """Once, with the same counts; the TPM's counter rises by one."""
    tpm = Tpm() if by_tpm else None
    made = car.fill()
    car.vault.close()
    selling.begin(car.folder, tpm)
    real = getattr(where, name)

    def cut(*args, **more):
        if when == "after":
            real(*args, **more)
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(where, name, cut)
        with pytest.raises(CutError):
            selling.go_on(car.folder, car.run, tpm)
    epoch, _ = selling.go_on(car.folder, car.run, tpm)
    assert epoch == 2
    assert transfer.pending(car.folder) is None
    found = certificate.check(transfer.certificate_of(car.folder, 1).read_bytes())
    assert sum(one["bodies"] for one in found["erased"]) == sum(not stays(*key) for key in made)
    car.start()
    assert len(car.what("transfer")) == 1
    assert {i for k, i in made.items() if stays(*k)} == set(made.values()) & car.here()
    if tpm is not None:
        assert tpm.value == 42


def test_before_the_intent_nothing_has_begun(car: Sold, monkeypatch):
    made = car.fill()
    car.vault.close()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("agent.shared_file.write_new", fail)
        with pytest.raises(OSError, match="No space"):
            transfer.begin(car.folder, custody.Epoch(1))
    assert selling.go_on(car.folder, car.run) == (1, None)
    car.start()
    assert set(made.values()) <= car.here()


def test_a_second_transfer_is_another_one(car: Sold):
    car.fill()
    car.sell()
    place = car.sell()
    assert certificate.check(place.read_bytes())["to_epoch"] == 3
    assert [one.to_epoch for one in car.what("transfer")] == [2, 3]


def test_a_damaged_intent_starts_nothing(car: Sold):
    (car.folder / transfer.FILE).write_text("{")
    with pytest.raises(ConfigError, match="was begun") as error:
        transfer.take_custody(car.folder, None)
    assert error.value.exit_code == 2


def test_a_tpm_that_fails_leaves_the_intent(car: Sold):
    tpm = Tpm()
    car.fill()
    car.vault.close()
    selling.begin(car.folder, tpm)
    tpm.dies_before = True
    with pytest.raises(TpmError):
        transfer.take_custody(car.folder, tpm)
    assert transfer.pending(car.folder) is not None
    tpm.dies_before = False
    assert selling.go_on(car.folder, car.run, tpm)[0] == 2


# --- orders ---------------------------------------------------------------------------------------

NOW_S = 1_800_000_000


def registered(folder: Path, text: str, **more: object) -> hold.Hold:
    (folder / "order").write_text(text)
    values = {"vehicle": VEHICLE, "receipt_keys": (RECEIPT.public_key().public_bytes_raw(),),
              "now_s": NOW_S}  # fmt: skip
    return hold.register(folder / "state", folder / "order", **(values | more))


def test_a_signed_order_holds_until_its_time_is_over(tmp_path: Path):
    (tmp_path / "state").mkdir()
    order = hold.sign(VEHICLE, "AZ 3 Js 17/26", NOW_S + 1000, RECEIPT)
    assert registered(tmp_path, order).reference == "AZ 3 Js 17/26"
    mine = {"vehicle": VEHICLE, "receipt_keys": (RECEIPT.public_key().public_bytes_raw(),)}
    assert hold.standing(tmp_path / "state", now_s=NOW_S + 999, **mine) is not None
    assert hold.standing(tmp_path / "state", now_s=NOW_S + 1000, **mine) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reference": "another"}, "altered"),
        ({"until_unix_s": NOW_S + 2000}, "altered"),
        ({"vehicle": "car-00000002"}, "for another car"),
        ({"kid": "00" * 8}, "not signed by a key of this region"),
        ({"signature": "?"}, "not an order"),
        ({"more": 1}, "not an order"),
    ],
)
def test_an_order_that_is_not_the_regions_holds_nothing(tmp_path: Path, change: dict, said: str):
    (tmp_path / "state").mkdir()
    order = json.loads(hold.sign(VEHICLE, "AZ", NOW_S + 1000, RECEIPT)) | change
    with pytest.raises(InlandError, match=said):
        registered(tmp_path, json.dumps(order))
    assert not (tmp_path / "state" / hold.FILE).exists()


def test_an_order_of_another_region_or_for_ever_is_refused(tmp_path: Path):
    (tmp_path / "state").mkdir()
    with pytest.raises(OwnerError, match="not signed by a key of this region"):
        registered(tmp_path, hold.sign(VEHICLE, "AZ", NOW_S + 1000, LEDGER))
    for until in (NOW_S, NOW_S + 181 * 86_400):
        with pytest.raises(OwnerError, match="180 days"):
            registered(tmp_path, hold.sign(VEHICLE, "AZ", until, RECEIPT))
