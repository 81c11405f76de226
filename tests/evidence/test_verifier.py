"""What is altered is found and named; what is missing is said; nothing else is called intact."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.evidence import proof
from agent.evidence.bundle import varint
from agent.evidence.segments import NAMELESS
from agent.evidence.verifier import verify
from agent.pb import ledger_pb2, sealed_pb2
from tests.evidence import altering
from tests.evidence.altering import one, rows
from tests.evidence.making import (
    DICTIONARY,
    START_NS,
    WITNESS,
    Asked,
    Ledger,
    S,
    asked,
    cosign,
    drive,
    forge,
    frames,
    make,
    new_car,
    verdict,
)

LOG = bytes(range(16))
NAME = f"log {LOG[:8].hex()}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Entries 20 to 30 of a log of 52, in a bundle with the neighbours and what they need."""
    return make(tmp_path_factory.mktemp("bundle") / "t.inland", drive(new_car(LOG), 40),
                asked=asked(20, 30))  # fmt: skip


@pytest.fixture
def bundle(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "a.inland")
    return tmp_path / "a.inland"


def test_what_is_whole_is_intact(bundle: Path):
    result = verify(bundle)
    assert (result["verdict"], result["altered"], result["missing"]) == (0, [], [])
    assert result["presence"] == {"shared, routine": {"here": 9}}
    [log] = result["logs"]
    assert (log["first"], log["last"], log["log"]) == (20, 30, LOG.hex())
    assert log["co_signed"][0]["key"] == hashlib.sha256(WITNESS.public).hexdigest()
    assert log["co_signed"][0]["at"] == "2026-11-18T11:07:14Z"  # the first over all of it
    assert {i for i, _, _ in rows(one(bundle, "entries"))} == {0, 2, 3, *range(19, 32)}


@pytest.mark.parametrize(
    ("first", "last"),
    [(None, None), (None, 30), (20, None), (0, 0), (51, 51), (20, 20), (-9, -5), (8, 9)],
)
def test_any_part_of_a_log_is_intact(tmp_path: Path, first: int | None, last: int | None):
    """Also one of which nothing is of that time; only what came after the last entry is open."""
    car = drive(new_car(LOG), 40)
    expected = 3 if last == 51 else 0
    assert verdict(make(tmp_path / "a", car, asked=asked(first, last)))[0] == expected


def test_a_time_between_two_entries_is_intact_and_empty(tmp_path: Path):
    car = drive(new_car(LOG), 40)
    empty = Asked(START_NS + 20 * S + 1, START_NS + 20 * S + 2 - proof.AFTER_NS)
    folder = make(tmp_path / "a", car, asked=empty)
    assert verdict(folder) == (0, "")
    assert {20, 21} <= {i for i, _, _ in rows(one(folder, "entries"))}


# --- one thing altered --------------------------------------------------------------------------


def test_a_digit_of_an_entry_names_it(bundle: Path):
    def digit(what: altering.Rows) -> None:
        at = next(n for n, row in enumerate(what) if row[0] == 24)
        i, leaf, data = what[at]
        what[at] = (i, leaf, data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])

    altering.change(bundle, "entries", digit)
    code, why = verdict(bundle)
    assert code == 1
    assert f"{NAME} entry 24: is not what was written" in why


def test_an_entry_altered_with_its_hash_is_found_by_the_tree(bundle: Path):
    altering.replace_entry(bundle, 24, lambda entry: setattr(entry.segment, "bytes", 7))
    code, why = verdict(bundle)
    assert (code, f"{NAME} entries 22 to 27: not what was signed" in why) == (1, True)


def test_a_row_that_was_removed_is_named(bundle: Path):
    altering.change(bundle, "entries", lambda what: [row for row in what if row[0] != 24])
    altering.change(bundle, "bodies", lambda what: [row for row in what if row[0] != 24])
    code, why = verdict(bundle)
    assert code == 3
    assert f"{NAME} entry 24: neither here nor covered" in why


def test_two_rows_that_were_swapped_are_named(bundle: Path):
    def swap(what: altering.Rows) -> None:
        what[7], what[8] = what[8], what[7]

    altering.change(bundle, "entries", swap)
    code, why = verdict(bundle)
    assert (code, "entry 23 is cut, or stands behind entry 24" in why) == (1, True)


def test_two_rows_that_were_swapped_and_numbered_anew_are_named(bundle: Path):
    def renumbered(what: altering.Rows) -> None:
        what[7], what[8] = (what[8][0], *what[7][1:]), (what[7][0], *what[8][1:])

    altering.change(bundle, "entries", renumbered)
    code, why = verdict(bundle)
    assert code == 1
    assert f"{NAME} entry 23" in why
    assert f"{NAME} entry 24" in why


@pytest.mark.parametrize("kind", ["entries", "cover", "notes", "bodies"])
@pytest.mark.parametrize("share", [0, 1, 3, 5, 9])
def test_a_file_that_was_cut_is_found(bundle: Path, kind: str, share: int):
    path = one(bundle, kind)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * share // 10])
    assert verdict(bundle)[0] == 1  # bundle.json names another file
    forge(bundle)
    code, why = verdict(bundle)
    assert code in (1, 3)
    assert LOG[:8].hex() in why


def test_a_bundle_whose_end_was_cut_off_is_not_of_the_time_that_it_says(bundle: Path):
    """The last entries, their bodies and the notes over them: what is left is well signed."""
    keep = 28
    for kind in ("entries", "bodies"):
        altering.change(bundle, kind, lambda what: [row for row in what if row[0] < keep])
    cover = one(bundle, "cover").read_bytes()
    parts = [cover[at : at + 41] for at in range(0, len(cover), 41)]
    parts = [p for p in parts if int.from_bytes(p[1:9], "big") << p[0] < keep]
    one(bundle, "cover").write_bytes(b"".join(parts))
    altering.set_notes(bundle, [n for n in altering.notes(bundle) if int(n.split("\n")[1]) <= keep])
    code, why = verdict(bundle)
    assert (code, "what came up to the time asked for" in why) == (3, False)
    assert "entries 28 to 29" in why or "entry 28: is not disclosed" in why
    altering.tell(bundle, lambda told: told["logs"][LOG[:8].hex()].update(size=keep))
    code, why = verdict(bundle)
    assert (code, "behind entry 27: what came up to the time asked for" in why) == (3, True)


def test_a_hidden_entry_of_the_asked_time_is_named(bundle: Path):
    altering.hide(bundle, 24)
    code, why = verdict(bundle)
    assert (code, f"{NAME} entry 24: is not disclosed" in why) == (3, True)


@pytest.mark.parametrize("index", [20, 30, 19, 31])
def test_hidden_ends_are_named(bundle: Path, index: int):
    altering.hide(bundle, index)
    code, why = verdict(bundle)
    assert (code, f"entry {index}: is not disclosed" in why) == (3, True)


def test_heads_signed_again_over_altered_entries_are_never_intact(bundle: Path, tmp_path: Path):
    """The key lies in the car: who has the car can sign. The region's co-signature is the wall."""
    altering.replace_entry(bundle, 24, lambda entry: setattr(entry.at, "unix_ns", START_NS))
    shutil.copytree(bundle, tmp_path / "b")
    altering.resign(bundle, keep_cosignature=True)
    code, why = verdict(bundle)
    assert (code, "its signatures do not fit" in why) == (1, True)
    altering.resign(tmp_path / "b", keep_cosignature=False)
    code, why = verdict(tmp_path / "b")
    assert (code, "no signature of the region covers it" in why) == (3, True)


def test_a_cosignature_that_was_removed_is_missed(bundle: Path):
    altering.set_notes(bundle, [altering.without_cosignature(n) for n in altering.notes(bundle)])
    code, why = verdict(bundle)
    assert (code, f"{NAME} entries 0 to 31: no signature of the region covers it" in why) == (
        3, True,
    )  # fmt: skip


def test_a_stranger_who_cosigns_is_nobody(bundle: Path):
    stranger = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    texts = [cosign(altering.without_cosignature(n), 1_800_000_000, stranger)
             for n in altering.notes(bundle)]  # fmt: skip
    altering.set_notes(bundle, texts)
    assert verdict(bundle)[0] == 3


def test_keys_of_the_bundle_are_believed_only_without_a_card(bundle: Path):
    """All of it made anew by a stranger: the fingerprints tell, and the card does."""
    stranger = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    public = stranger.public_key().public_bytes_raw()
    mine = altering.checkpoint.VerifierKey(WITNESS.name, 4, public).text()
    texts = [cosign(altering.without_cosignature(n), 1_800_000_000, stranger)
             for n in altering.notes(bundle)]  # fmt: skip
    (bundle / "keys.json").write_text(json.dumps({"cosign_keys": [mine], "receipt_keys": []}))
    altering.set_notes(bundle, texts)
    result = verify(bundle)
    assert (result["verdict"], result["card"]) == (0, False)
    assert result["logs"][0]["co_signed"][0]["key"] == hashlib.sha256(public).hexdigest()
    assert verdict(bundle, WITNESS.text())[0] == 3


def test_a_note_of_another_log_is_refused(bundle: Path, tmp_path: Path):
    other = make(tmp_path / "b", drive(new_car(), 20))
    altering.set_notes(bundle, altering.notes(other)[-1:])
    code, why = verdict(bundle)
    assert (code, "its signatures do not fit" in why) == (1, True)


def test_entries_and_bodies_of_another_log_are_refused(bundle: Path, tmp_path: Path):
    other = make(tmp_path / "b", drive(new_car(), 40))
    foreign = {row[0]: row for row in rows(one(other, "entries"))}

    def mixed(what: altering.Rows) -> altering.Rows:
        return [foreign[row[0]] if row[0] in (23, 24) else row for row in what]

    altering.change(bundle, "entries", mixed)
    code, why = verdict(bundle)
    assert code == 1
    assert "entries 22 to 27: not what was signed" in why
    assert f"{NAME} entry 23: its body is not the one that it names" in why


def test_a_body_of_another_entry_is_named(bundle: Path):
    def other(what: altering.Rows) -> None:
        (_, _, first), (at, head, _) = what[4], what[5]
        what[5] = (at, head, first)

    altering.change(bundle, "bodies", other)
    code, why = verdict(bundle)
    index = rows(one(bundle, "bodies"))[5][0]
    assert (code, f"{NAME} entry {index}: its body is not the one" in why) == (1, True)


def test_a_segment_that_was_entered_twice_is_named(tmp_path: Path):
    """The car's own key signed it; its header says that it is of another place."""
    car = drive(new_car(LOG), 8)
    entry = ledger_pb2.Entry.FromString(car.entries[5])
    car.add(car.bodies[5], segment=entry.segment)
    car.sign()
    code, why = verdict(make(tmp_path / "a", car))
    assert code == 1
    assert f"entry {len(car.entries) - 1}: its body is not the one" in why


def test_a_body_that_is_gone_without_a_word_is_missed(bundle: Path):
    altering.change(bundle, "bodies", lambda what: [row for row in what if row[0] != 24])
    code, why = verdict(bundle)
    assert (code, f"{NAME} entry 24: its body is not here, and nothing says why" in why) == (
        3, True,
    )  # fmt: skip


def test_whose_recorder_is_not_here_learns_where_it_is(tmp_path: Path):
    """A region has what an event asked for; the rest of the recorder is still in the car."""
    car = drive(new_car(LOG), 3)
    car.seal(frames(start_ns=START_NS), lane=sealed_pb2.RECORDER)
    car.bodies[len(car.entries) - 1] = b""
    car.sign()
    code, why = verdict(make(tmp_path / "a", car))
    assert (code, "ask the car for it (`inland owner export`)" in why) == (3, True)


def test_a_body_that_a_drop_entry_explains_is_counted(tmp_path: Path):
    car = drive(new_car(LOG), 40)
    car.bodies[24] = b""
    car.drop(24, 24)
    car.sign()
    result = verify(make(tmp_path / "a", car, asked=asked(20, 30)))
    assert (result["verdict"], result["missing"]) == (0, [])
    assert result["presence"] == {"shared, routine": {"here": 8, "removed: quota": 1}}


def test_a_drop_entry_before_the_body_explains_nothing(tmp_path: Path):
    car = new_car(LOG)
    car.genesis()
    car.drop(0, 99)
    drive(car, 12).bodies[7] = b""
    code, why = verdict(make(tmp_path / "a", car))
    assert (code, "entry 7: its body is not here" in why) == (3, True)


def test_a_session_or_policy_that_is_not_disclosed_is_missed(bundle: Path):
    for index, what in ((3, "session"), (2, "policy")):
        altering.hide(bundle, index)
        code, why = verdict(bundle)
        assert code == 3
        assert f"the entry of its {what} is not here" in why


def test_what_was_left_out_on_purpose_is_said(tmp_path: Path):
    car = drive(new_car(LOG), 40)
    folder = make(tmp_path / "a", car, asked=asked(20, 30),
                  leave_out=lambda _, i: "not asked for" if i > 25 else "")  # fmt: skip
    result = verify(folder)
    assert result["verdict"] == 0
    assert result["presence"]["shared, routine"] == {"here": 5, "left out: not asked for": 4}
    altering.tell(folder, lambda told: told["logs"][LOG[:8].hex()]["left_out"].clear())
    assert verdict(folder)[0] == 3


def test_entries_that_nobody_signed_for_cannot_be_decided(tmp_path: Path):
    car = drive(new_car(LOG), 12)
    car.seal(frames())
    code, why = verdict(make(tmp_path / "a", car))
    last = len(car.entries) - 1
    assert (code, f"entry {last}: no signature of the car covers it" in why) == (3, True)
    car.sign(cosigned=False)
    code, why = verdict(make(tmp_path / "b", car))
    assert (code, f"entry {last}: no signature of the region covers it" in why) == (3, True)
    car.sign()
    assert verdict(make(tmp_path / "c", car)) == (0, "")


def test_a_log_without_any_checkpoint_cannot_be_decided(tmp_path: Path):
    car = drive(new_car(LOG), 3)
    car.heads = []
    assert verdict(make(tmp_path / "a", car))[0] == 3


# --- bundle.json is not believed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda told: told["asked"].update(from_ns=START_NS + 10 * S), 3),
        (lambda told: told["asked"].update(to_ns=START_NS + 40 * S - proof.AFTER_NS), 3),
        (lambda told: told["asked"].update(from_ns=START_NS + 23 * S), 1),  # its counts
        (lambda told: told["asked"].update(from_ns="x"), 1),
        (lambda told: told["asked"].update(to_ns=None), 3),
        (lambda told: told.update(asked=[]), 1),
        (lambda told: told.update(format="inland bundle 2"), 1),
        (lambda told: told.update(logs={}), 1),
        (lambda told: told["logs"].update({"../../etc": told["logs"][LOG[:8].hex()]}), 1),
        (lambda told: told["logs"].update({"ff" * 8: told["logs"][LOG[:8].hex()]}), 3),
        (lambda told: told["presence"]["shared, routine"].update(here=10), 1),
        (lambda told: told["files"].update({"verify.py": "00" * 32}), 1),
        (lambda told: told["files"].update({"../verify.py": "00" * 32}), 1),
        (lambda told: told["files"].update({"more.txt": "00" * 32}), 3),
        (lambda told: told["logs"][LOG[:8].hex()].update(size=1 << 80), 3),
        (lambda told: told["logs"][LOG[:8].hex()].update(left_out=3), 1),
        (lambda told: told.update(made="2020-01-01T00:00:00Z"), 0),  # nothing proves it
    ],
)
def test_bundle_json_that_was_edited(bundle: Path, change, code: int):  # type: ignore[no-untyped-def]
    altering.tell(bundle, change)
    assert verdict(bundle)[0] == code


@pytest.mark.parametrize(
    "text", ["", "[", "3", "[" * 100_000, '{"format": "inland bundle 1"}', "\0"]
)
def test_a_bundle_json_that_is_none_is_altered(bundle: Path, text: str):
    (bundle / "bundle.json").write_text(text)
    code, why = verdict(bundle)
    assert (code, "bundle.json" in why) == (1, True)


def test_a_log_that_is_not_named_is_refused(bundle: Path):
    for kind in ("entries", "cover", "notes", "bodies"):
        path = one(bundle, kind)
        shutil.copy(path, path.with_name(f"{'ff' * 8}.{kind}"))
    code, why = verdict(bundle)
    assert (code, "log ffffffffffffffff" in why) == (1, True)


def test_a_continued_log_that_is_not_here_is_missed(tmp_path: Path):
    old, new = drive(new_car(LOG), 5), new_car()
    new.genesis()
    new.add(gap=ledger_pb2.Gap(why="corrupt", log=LOG, size=len(old.entries)))
    new.policy = old.policy
    drive(new, 5)
    code, why = verdict(make(tmp_path / "a", old, new))
    assert (code, "the entry of its policy is not here" in why) == (3, True)
    new = new_car()
    new.genesis()
    new.add(gap=ledger_pb2.Gap(why="corrupt", log=LOG, size=len(old.entries)))
    new.set_policy(DICTIONARY)
    drive(new, 5)
    assert verdict(make(tmp_path / "b", old, new)) == (0, "")
    code, why = verdict(make(tmp_path / "c", new))
    assert (code, f"{NAME}: another one continues it" in why) == (3, True)
    old.bodies[6] = b""  # salvaged or not: its log was lost
    assert verdict(make(tmp_path / "d", old, new))[0] == 0


# --- bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["entries", "cover", "notes", "bodies"])
def test_every_byte_counts(template: Path, tmp_path: Path, kind: str):
    """Each byte of a small file, one bit of it turned, bundle.json made to fit."""
    small = tmp_path / "small.inland"
    make(small, drive(new_car(LOG), 2), asked=asked(5, None))
    path = one(small, kind)
    whole = path.read_bytes()
    assert verdict(small) == (0, "")
    step = max(1, len(whole) // 200)
    for at in range(0, len(whole), step):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        forge(small)
        code, why = verdict(small)
        assert code != 0, (at, why)
        path.write_bytes(whole)


def test_every_byte_of_every_file_counts_while_bundle_json_is_whole(bundle: Path):
    for path in sorted(bundle.iterdir()):
        if path.name == "bundle.json":
            continue
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 12)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            code, why = verdict(bundle)
            assert (code, path.name in why) == (1, True), at
        path.write_bytes(whole)
    assert verdict(bundle) == (0, "")


@pytest.mark.parametrize("kind", ["entries", "bodies"])
@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, 1 << 31, 5_000_000])
def test_a_huge_length_takes_no_memory(bundle: Path, kind: str, size: int):
    path = one(bundle, kind)
    head = b"\0" * 32 if kind == "entries" else b""
    path.write_bytes(path.read_bytes() + varint(1 << 40) + head + varint(size) + b"x")
    forge(bundle)
    code, why = verdict(bundle)
    assert (code, "entry 1099511627776 is cut" in why) == (1, True)


ODD = ["link", "fifo", "folder", "gone", "empty"]


# Root reads everything, so nothing is secret to it.
@pytest.mark.parametrize("what", [*ODD, "secret"] if os.geteuid() else ODD)
@pytest.mark.parametrize(
    "name", ["bundle.json", "keys.json", "entries", "cover", "notes", "bodies"]
)  # fmt: skip
def test_what_stands_in_the_place_of_a_file_is_named(bundle: Path, name: str, what: str):
    path = bundle / name if "." in name else one(bundle, name)
    aside = bundle.parent / "aside"
    shutil.move(path, aside)
    if what == "link":
        path.symlink_to(aside)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "empty":
        path.touch()
    elif what == "secret":
        shutil.copy(aside, path)
        path.chmod(0)
    code, why = verdict(bundle)
    assert path.name in why
    assert code in (1, 3)
    if what not in ("gone", "empty"):
        assert f"{path.name}: " in why
        assert code == 1


def test_a_folder_without_a_bundle_is_undecided(tmp_path: Path):
    assert verdict(tmp_path)[0] == 3


# --- a property, and verifiers that do not look -------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("whole") / "w.inland", drive(new_car(LOG), 12))


def is_found(whole: Path, seed: int, place: Path) -> bool:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)
    altering.anything(place, seed)
    altering.recount(place)
    return verdict(place)[0] != 0


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_whatever_is_altered_is_never_intact(whole: Path, tmp_path: Path, seed: int):
    assert is_found(whole, seed, tmp_path / "a")


def takes_any_body(self: proof.Log, index: int, body: bytes) -> bool:
    at = self._segments.at(index)
    if at >= 0:
        self._segments.here[at] = NAMELESS
    self._held.add(index)
    return True


def counts_cosignatures(self, size, root, origin, body, lines):  # type: ignore[no-untyped-def]
    yield from ((size, 0, name, b"") for name, _ in lines)


def takes_every_head(self, size, root, origin, body, lines):  # type: ignore[no-untyped-def]
    yield size, 0, "region", b""


BLIND = {
    "the hash of a body": ("Log._fits", takes_any_body),
    "who co-signed": ("Log._signatures", counts_cosignatures),
    "any signature": ("signed_by", lambda *_: True),
    "what is missing": ("Log._gone", lambda self, indices, *_: ([0] * len(indices), ["fine"])),
    "what is hidden": ("Log._extent", lambda *_: None),
}


@pytest.mark.parametrize("blind", BLIND)
def test_a_verifier_that_does_not_look_is_found(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: str
):
    """The planted bugs: each of these lets something through that the property alters."""
    where, work = BLIND[blind]
    target = proof.Log if "." in where else proof
    monkeypatch.setattr(target, where.rpartition(".")[2], work)
    assert not all(is_found(whole, seed, tmp_path / "a") for seed in range(60))


def test_recipients_and_lanes_are_counted_apart(tmp_path: Path):
    car: Ledger = drive(new_car(LOG), 4, sealed_pb2.REGION)
    drive(car, 3, sealed_pb2.OWNER)
    car.seal(frames(), lane=sealed_pb2.RECORDER)
    car.sign()
    assert verify(make(tmp_path / "a", car))["presence"] == {
        "owner, recorder": {"here": 1}, "owner, routine": {"here": 3},
        "region, routine": {"here": 4},
    }  # fmt: skip
