"""The written format is the one that is spoken: vectors, and a decoder by a stranger."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import frames as f
from agent.errors import SealError
from agent.pb import ledger_pb2
from agent.pb.delivery_pb2 import CheckpointUpload
from agent.pb.policy_pb2 import Signal
from agent.pb.record_pb2 import CameraRecord, EventRecord, Record, Value
from agent.policy.expression import ExpressionError, parse, text_of
from agent.region import KEYS, OPTIONAL
from agent.station.examine import Vehicle
from agent.station.receive import Signer
from agent.station.store import Store
from agent.station.witness import Witness
from agent.vault import columns, planes
from agent.vault.segment import decode_payload
from tests.bench.synth import synth
from tests.format import hpke, make_vectors, sealing, stranger, stranger_records
from tests.format import stranger_notes as notes

HERE = Path(__file__).parent
FORMAT = HERE.parents[1] / "proto" / "FORMAT.md"
COLUMNS = json.loads((HERE / "vectors" / "columns.json").read_text("ascii"))
SEALED = json.loads((HERE / "vectors" / "sealed.json").read_text("ascii"))
LEDGER = json.loads((HERE / "vectors" / "ledger.json").read_text("ascii"))
RECORDS = json.loads((HERE / "vectors" / "records.json").read_text("ascii"))
POLICY = json.loads((HERE / "vectors" / "policy.json").read_text("ascii"))
GROUPS = json.loads((HERE / "vectors" / "groups.json").read_text("ascii"))
SECRET = bytes(range(32))
PRIVATES = {r.kid: r.private for r in (sealing.REGION, sealing.OWNER)}


def keys(names: list[str]) -> dict[bytes, bytes]:
    recipients = {"region": sealing.REGION, "owner": sealing.OWNER}
    return {recipients[name].kid: recipients[name].private for name in names}


def batch_of(vector: dict[str, Any]) -> np.ndarray:
    dtypes = {"frames": {24: f.FRAME, 80: f.FRAME_FD}, "signals": {24: f.SIGNAL}}
    return np.frombuffer(bytes.fromhex(vector["batch"]), dtypes[vector["kind"]][vector["width"]])


def strange_rows(kind: str, data: bytes) -> list[list[object]]:
    if kind == "signals":
        return [list(row) for row in stranger.samples(data)]
    return [[*row[:5], row[5].hex()] for row in stranger.frames(data)]


@pytest.mark.parametrize("vector", COLUMNS, ids=lambda vector: vector["name"])
def test_columns_are_the_bytes_of_the_vectors(vector: dict[str, Any]) -> None:
    """Before compression: the bytes of zstd differ between its versions, and may."""
    code = columns.frame_columns if vector["kind"] == "frames" else columns.signal_columns
    message, _ = code(
        batch_of(vector),
        make_vectors.CHANNELS,
        vector["resolution_ns"],
        keep_order=vector["keep_order"],
    )
    assert message.hex() == vector["message"]


@pytest.mark.parametrize("vector", COLUMNS, ids=lambda vector: vector["name"])
def test_stored_columns_decode_to_the_rows_of_the_vectors(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["zstd"])
    decode = columns.decode_frames if vector["kind"] == "frames" else columns.decode_signals
    rows, names = decode(data)
    assert [make_vectors.listed(vector["kind"], row, names) for row in rows] == vector["rows"]
    assert strange_rows(vector["kind"], data) == vector["rows"]


@pytest.mark.parametrize("vector", SEALED["segments"], ids=lambda vector: vector["name"])
def test_sealed_vectors_open_or_are_refused(vector: dict[str, Any]) -> None:
    def opened() -> bytes:
        body = bytes.fromhex(SEALED["sessions"][vector["session"]])
        return stranger.Session(body, keys(vector["keys"])).open(bytes.fromhex(vector["body"]))

    if vector["outcome"] == "opens":
        assert opened().hex() == SEALED["payload"]
    else:
        with pytest.raises(stranger.FormatError):
            opened()


def test_the_payload_of_the_vectors_is_what_we_would_write_and_read() -> None:
    payload = decode_payload(bytes.fromhex(SEALED["payload"]))
    assert payload.frames.tobytes() == make_vectors.example().tobytes()
    ours = stranger.parse(make_vectors.example_payload())
    theirs = stranger.parse(bytes.fromhex(SEALED["payload"]))
    assert {n: v for n, v in ours.items() if n != 7} == {n: v for n, v in theirs.items() if n != 7}


def test_a_changed_format_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a codec without zigzag on either side round trips, but is another format."""
    monkeypatch.setattr(planes, "zigzag", lambda values: values)
    monkeypatch.setattr(planes, "unzigzag", lambda values: values)
    vector = COLUMNS[0]
    data = columns.encode_frames(batch_of(vector), make_vectors.CHANNELS)
    rows, names = columns.decode_frames(data)
    assert [make_vectors.listed("frames", row, names) for row in rows] == vector["rows"]
    with pytest.raises(AssertionError):
        test_columns_are_the_bytes_of_the_vectors(vector)
    with pytest.raises(AssertionError):
        test_stored_columns_decode_to_the_rows_of_the_vectors(vector)


def test_the_stranger_reads_what_we_encode() -> None:
    batch = synth(700, 3)
    batch["channel"] = np.arange(700) % 3
    batch["length"] = batch["arbitration_id"] % 9
    batch["data"] *= np.arange(8) < batch["length"][:, None]
    for rows in (batch, np.roll(batch, 100)):
        data = columns.encode_frames(rows, ("a", "b", "c"), resolution_ns=1)
        expected = [make_vectors.listed("frames", row, ("a", "b", "c")) for row in rows]
        assert strange_rows("frames", data) == expected


def test_every_changed_byte_of_a_sealed_segment_is_refused() -> None:
    session = stranger.Session(bytes.fromhex(SEALED["sessions"]["region"]), PRIVATES)
    body = bytes.fromhex(SEALED["segments"][0]["body"])
    for place in range(len(body)):
        with pytest.raises((stranger.FormatError, KeyError, TypeError)):
            session.open(make_vectors.changed(body, place))
    for end in range(len(body)):
        with pytest.raises(stranger.FormatError):
            session.open(body[:end])


def test_changed_bytes_of_a_sealed_session_are_refused() -> None:
    body = bytes.fromhex(SEALED["sessions"]["region"])
    rng = random.Random(1)
    for place in [*range(220), *rng.sample(range(220, len(body)), 60)]:
        with pytest.raises((stranger.FormatError, KeyError, TypeError, AttributeError)):
            stranger.Session(make_vectors.changed(body, place), keys(["region"]))


def test_wraps_have_the_sizes_that_are_written_down() -> None:
    sealed = sealing.SUITE.encrypt(SECRET, sealing.REGION.key.public_key(), info=b"info")
    assert len(sealed) == 1088 + 32 + 32 + 16
    assert hpke.hpke_open(sealed, sealing.REGION.private, b"info") == SECRET
    assert len(sealing.REGION.public) == 1216


@pytest.mark.parametrize(
    ("raw", "signal", "value"),
    [
        (-3, Signal(kind=Signal.SIGNED, factor=0.5, offset=10), 8.5),
        (-1, Signal(kind=Signal.UNSIGNED, factor=1), 2.0**64),
        (0x40490FDB, Signal(kind=Signal.FLOAT32, factor=1), 3.1415927410125732),
        (-4609434218613702656, Signal(kind=Signal.FLOAT64, factor=2, offset=1), -5.0),
    ],
)
def test_physical_values(raw: int, signal: Signal, value: float) -> None:
    assert stranger.physical(raw, stranger.parse(signal.SerializeToString())) == value


def test_the_stranger_knows_nothing_of_us() -> None:
    for name, most in (
        ("stranger.py", 200), ("stranger_notes.py", 120), ("stranger_records.py", 80),
        ("stranger_policy.py", 160), ("hpke.py", 60),
    ):  # fmt: skip
        text = (HERE / name).read_text("utf-8")
        assert sum(bool(line.strip()) for line in text.splitlines()) <= most
        imports = [node for node in ast.walk(ast.parse(text)) if hasattr(node, "names")]
        found = {getattr(node, "module", None) or node.names[0].name for node in imports}
        assert not {name for name in found if name.startswith(("agent", "google", "numpy"))}


def test_the_example_of_the_document_is_the_vector() -> None:
    """Each block of hex in FORMAT.md, without its remarks, stands in the vectors."""
    text = FORMAT.read_text("utf-8")
    blocks = re.findall(r"```hex\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 7
    known = json.dumps([COLUMNS[0], SEALED, LEDGER, RECORDS, POLICY, GROUPS])
    for block in blocks:
        digits = "".join(re.sub(r"(;.*)|\s", "", line) for line in block.splitlines())
        assert digits
        assert digits in known


def test_figures_of_the_document_are_those_of_the_vectors() -> None:
    text = FORMAT.read_text("utf-8")
    body = bytes.fromhex(SEALED["segments"][0]["body"])
    head = body[: 6 + int.from_bytes(body[4:6], "big")]
    digest = hashlib.sha256(head).digest()
    key = hpke.hkdf(SECRET, b"inland/segment/v1" + digest, 64)[:32].hex()
    hashed = digest.hex()
    assert (
        f"prefix of {len(head)} bytes hashes to `{hashed[:8]}…{hashed[-8:]}`, "
        f"its key is `{key[:8]}…{key[-8:]}`"
    ) in text
    sizes = [len(SEALED["sessions"][name]) // 2 for name in ("region", "shared", "both")]
    one, shared, both = (f"{size:,}" for size in sizes)
    assert f"one recipient {one} bytes with the names of the example, shared {shared}" in text
    assert f"both {both}." in text
    assert f"kid `{sealing.REGION.kid.hex()}`" in text


def test_the_region_card_of_the_document_has_the_keys_that_are_read() -> None:
    section = FORMAT.read_text("utf-8").split("The **region card**")[1].split("The **bundle**")[0]
    named = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", " ".join(named))) == KEYS + OPTIONAL


def test_expressions_of_the_document_are_those_that_are_read() -> None:
    """Each example is read, and means what its remark says, or is refused at the column named."""
    [block] = re.findall(r"```expression\n(.*?)```", FORMAT.read_text("utf-8"), re.DOTALL)
    refused = 0
    for line in block.splitlines():
        example, remark = (part.strip() for part in line.split(";"))
        if column := re.match(r"column (\d+): ", remark):
            refused += 1
            with pytest.raises(ExpressionError) as error:
                parse(example)
            assert error.value.column == int(column[1])
        elif remark.startswith("("):
            assert parse(example) == parse(remark)
        else:
            assert parse(text_of(parse(example))) == parse(example)
    assert refused == 4


def test_the_notes_of_the_document_are_the_vectors() -> None:
    note, witness = re.findall(r"```note\n(.*?)```", FORMAT.read_text("utf-8"), re.DOTALL)
    assert note == LEDGER["cosigned"]
    assert witness == LEDGER["verifier_key"] + "\n"


def test_the_ledger_of_the_vectors_is_what_we_would_write() -> None:
    assert make_vectors.ledger_vectors() == LEDGER


def test_the_station_signs_the_notes_and_the_receipt_of_the_vectors(tmp_path: Path) -> None:
    key = {
        name: Ed25519PrivateKey.from_private_bytes(seed * 32)
        for name, seed in make_vectors.SEEDS.items()
    }
    kid = hashlib.sha256(bytes.fromhex(LEDGER["public"]["receipt"])).digest()[:8]
    leaf = (2, bytes.fromhex(LEDGER["leaves"][2]))
    _, receipt = Signer("inland/1/cn/down", key["receipt"], kid).receipt(
        make_vectors.VEHICLE, sealing.LOG, (leaf,), make_vectors.START
    )
    assert receipt.hex() == LEDGER["receipt"]
    store = Store(tmp_path / "station.db")
    car = Vehicle(make_vectors.VEHICLE, bytes.fromhex(LEDGER["public"]["ledger"]))
    upload = CheckpointUpload(log=sealing.LOG, note=LEDGER["note"]).SerializeToString()
    witness = Witness("inland-region-cn", key["cosign"])
    _, note = witness.cosign(store, car, upload, make_vectors.START)
    store.close()
    assert note == LEDGER["cosigned"]


def test_the_records_of_the_vectors_are_what_we_would_write_and_read() -> None:
    assert make_vectors.record_vectors() == RECORDS
    for name in ("payload", "padded payload"):
        payload = decode_payload(bytes.fromhex(RECORDS[name]))
        assert payload.records == (
            Record(event=make_vectors.EVENT), Record(camera=make_vectors.CAMERA),
        )  # fmt: skip
        assert len(payload.frames) == len(payload.signals) == 0


def test_the_stranger_reads_records() -> None:
    session = stranger.Session(bytes.fromhex(SEALED["sessions"]["region"]), keys(["region"]))
    opened = session.open(bytes.fromhex(RECORDS["segment"]), 12)
    assert opened.hex() == RECORDS["payload"]
    padded = session.open(bytes.fromhex(RECORDS["padded segment"]), 14)
    assert padded.startswith(opened)
    assert (stranger_records.is_padded(padded), len(padded)) == (True, 1024)
    assert not stranger_records.is_padded(opened)
    payload = stranger.parse(padded)
    assert stranger_records.records(payload) == stranger_records.records(stranger.parse(opened))
    event, camera = stranger_records.records(payload)
    start = make_vectors.START
    assert event == {
        "id": bytes(range(16, 32)).hex(), "rule": "hard-brake", "trigger": "Speed > 30",
        "stamp": start + 11_003_000, "at": start + 20_000_000, "number": 1,
        "since_previous_ms": 0, "triggers": 2, "complete": True, "before_ns": 1800 * 10**9,
        "after_ns": 30 * 10**9, "held": [(3, 9)],
        "snapshot": [(0, "can0", -7, 20, False), (3, "*", 0, 0, True)],
        "policy": "cn-fleet", "version": 7, "agent": "1",
    }  # fmt: skip
    assert camera == {
        "stamp": start, "camera": 1, "reason": 4, "state": 2, "clip": 77, "open": False,
        "why": "zone", "zone": "a", "count": 3,
    }  # fmt: skip
    assert stranger_records.incident(bytes.fromhex(RECORDS["incident"])) == (12, [(3, 9)], True, 0)
    assert stranger_records.kept(bytes.fromhex(RECORDS["kept"])) == ("2026-11", 1, [
        ("battery", "regulatory_monitoring", 1, 0, 86_400, 0, 604_800, 604_800),
        ("event.record", "safety_event", 3, 1_000_000, 0, 3, 0, 2_592_000),
    ])  # fmt: skip
    assert stranger_records.hollow(bytes.fromhex(RECORDS["receipt"])) == [3]
    assert stranger_records.hollow(bytes.fromhex(LEDGER["receipt"])) == []


def test_fields_of_the_document_are_those_of_the_schema() -> None:
    """Every field of records, and of the entries that this version added, by name and number."""
    text = FORMAT.read_text("utf-8")
    section = text.split("### Records")[1].split("## 7.")[0]
    for message in (EventRecord, CameraRecord, Value):
        table = section.split(f"| {message.DESCRIPTOR.name} |")[1].split("\n\n")[0]
        told = re.findall(r"^\| (\d+) (\w+) \|", table, re.MULTILINE)
        real = [(str(field.number), field.name) for field in message.DESCRIPTOR.fields]
        assert told == real
    for name in ("incident", "consent", "kept", "owner", "transfer"):
        field = ledger_pb2.Entry.DESCRIPTOR.fields_by_name[name]
        [row] = re.findall(rf"^\| {field.number} {name} \|.*$", text, re.MULTILINE)
        for inner in field.message_type.fields:
            assert f"{inner.number} {inner.name}" in row
            for deepest in inner.message_type.fields if inner.name in ("amount", "erased") else ():
                assert f"{deepest.number} {deepest.name}" in row
    for name, number in ledger_pb2.Drop.Reason.items():
        assert not number or f"{number} {name.lower()}" in text


def test_the_stranger_finds_the_tree_of_the_vectors() -> None:
    entries = [bytes.fromhex(entry) for entry in LEDGER["entries"]]
    assert [hashlib.sha256(b"\0" + entry).hexdigest() for entry in entries] == LEDGER["leaves"]
    roots = [notes.root(entries[:size]).hex() for size in range(len(entries) + 1)]
    assert roots == LEDGER["roots"]
    assert [h.hex() for h in notes.inclusion(2, entries)] == LEDGER["inclusion of 2 in 5"]
    assert [h.hex() for h in notes.consistency(3, entries)] == LEDGER["consistency of 3 and 5"]


def test_the_stranger_believes_the_notes_and_the_receipt_of_the_vectors() -> None:
    origin, public = LEDGER["note"].split("\n")[0], bytes.fromhex(LEDGER["public"]["ledger"])
    root = bytes.fromhex(LEDGER["roots"][5])
    for note in (LEDGER["note"], LEDGER["cosigned"]):
        assert notes.head(note, origin, public, notes.OWN) == (origin, 5, root, 0)
    name, kind, witness = notes.verifier_key(LEDGER["verifier_key"])
    seen = notes.head(LEDGER["cosigned"], name, witness, kind)
    assert seen == (origin, 5, root, make_vectors.START // 10**9)
    key = bytes.fromhex(LEDGER["public"]["receipt"])
    publics = {hashlib.sha256(key).digest()[:8]: key}
    entries = [bytes.fromhex(entry) for entry in LEDGER["entries"]]
    receipt = bytes.fromhex(LEDGER["receipt"])
    assert notes.check_receipt(receipt, publics, entries) == make_vectors.START
    for place in range(len(receipt)):
        with pytest.raises((stranger.FormatError, KeyError, AttributeError)):
            notes.check_receipt(make_vectors.changed(receipt, place), publics, entries)
    for line in range(2):
        changed = LEDGER["cosigned"].replace("\n5\n", f"\n{6 + line}\n")
        with pytest.raises(stranger.FormatError):
            notes.head(changed, *((origin, public, 1), (name, witness, kind))[line])


def test_errors_of_ours_and_of_the_stranger_agree_on_vectors_that_are_cut() -> None:
    data = bytes.fromhex(COLUMNS[0]["zstd"])
    for end in range(len(data)):
        with pytest.raises(SealError):
            columns.decode_frames(data[:end])
        with pytest.raises((stranger.FormatError, stranger.zstandard.ZstdError)):
            stranger.frames(data[:end])
