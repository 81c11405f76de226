"""P5: nobody can change history: what the region witnessed cannot be told otherwise later."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import SealError
from agent.pb import ledger_pb2
from agent.vault import checkpoint, tree
from tests.vault import world
from tests.vault.world import Region, draft

Proof = tuple[bytes, ...]


def history(car):
    """Entries with their inclusion proofs and the co-signed head: what an inspector is given."""
    region = Region()
    for n in range(20):
        car.vault.seal(draft(50, lane=n % 3))
    car.tick(61)
    note = region.cosign(car.vault.checkpoint())
    size, node = checkpoint.parse(note).checkpoint.size, car.vault._spool.node
    entries = [raw for (raw,) in car.vault._spool.rows("SELECT entry FROM ledger ORDER BY i")]
    return entries[:size], [tree.inclusion_proof(i, size, node) for i in range(size)], note


def is_intact(entries, proofs, note, *, witnessed=True) -> bool:
    """What a third party checks, with the region's co-signing key and nothing else of ours."""
    try:
        parsed = checkpoint.parse(note)
        mine = checkpoint.VerifierKey(
            parsed.checkpoint.origin, 1, world.LEDGER.public_key().public_bytes_raw()
        )
        if checkpoint.verify(parsed, mine) is None:
            return False
        if witnessed and not checkpoint.verify(parsed, world.WITNESS):
            return False
    except SealError:
        return False
    head = parsed.checkpoint
    if len(entries) != head.size or len(proofs) != head.size:
        return False
    return all(
        tree.verify_inclusion(tree.leaf_hash(raw), i, head.size, proof, head.root)
        for i, (raw, proof) in enumerate(zip(entries, proofs, strict=True))
    )


@pytest.fixture
def told(car):
    return history(car)


def check_mutation(told, data, intact):
    entries, proofs, note = list(told[0]), list(told[1]), told[2]
    assert intact(entries, proofs, note)
    kind = data.draw(st.sampled_from(["alter", "remove", "swap", "backdate", "note", "add"]))
    i = data.draw(st.integers(0, len(entries) - 2))
    if kind == "alter":
        at = data.draw(st.integers(0, len(entries[i]) - 1))
        raw = bytearray(entries[i])
        raw[at] ^= data.draw(st.integers(1, 255))
        entries[i] = bytes(raw)
    elif kind == "remove":
        del entries[i], proofs[i]
    elif kind == "swap":
        entries[i], entries[i + 1] = entries[i + 1], entries[i]
    elif kind == "backdate":
        entry = ledger_pb2.Entry.FromString(entries[i])
        entry.at.unix_ns -= data.draw(st.integers(1, 10**12))
        entries[i] = entry.SerializeToString(deterministic=True)
    elif kind == "add":
        entries.insert(i, entries[i])
        proofs.insert(i, proofs[i])
    else:
        at = data.draw(st.integers(0, len(note) - 1))
        note = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
    assert not intact(entries, proofs, note), kind


@given(data=st.data())
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_single_change_is_found(told, data):
    check_mutation(told, data, is_intact)


def test_planted_blind_verifier_is_found(told):
    """A verifier that trusts the count alone passes altered entries."""

    def blind(entries, proofs, note):
        try:
            return len(entries) == checkpoint.parse(note).checkpoint.size
        except SealError:
            return False

    @given(data=st.data())
    @settings(max_examples=50, deadline=None, database=None)
    def run(data):
        check_mutation(told, data, blind)

    with pytest.raises(AssertionError):
        run()


def test_a_history_rewritten_with_the_cars_own_key_is_found(car, told):
    """T45: the car holds its signing key; what the region has seen it cannot take back."""
    entries, _, note = told
    head = checkpoint.parse(note).checkpoint
    forged = list(entries)
    entry = ledger_pb2.Entry.FromString(forged[5])
    entry.at.unix_ns -= 10**12
    forged[5] = entry.SerializeToString(deterministic=True)
    compact, nodes = tree.CompactRange(), {}
    for raw in (*forged, b"more", b"and more"):
        compact, done = compact.append(tree.leaf_hash(raw))
        nodes.update({(s.height, s.position): s.hash for s in done})
    new = checkpoint.Checkpoint(head.origin, compact.size, compact.root())
    signed = checkpoint.parse(checkpoint.sign(new, world.LEDGER))
    mine = checkpoint.VerifierKey(head.origin, 1, world.LEDGER.public_key().public_bytes_raw())
    assert checkpoint.verify(signed, mine) == 0  # the signature alone shows nothing
    proof = tree.consistency_proof(head.size, new.size, lambda h, p: nodes[h, p])
    assert not tree.verify_consistency(head.size, new.size, head.root, new.root, proof)


def test_what_was_evicted_still_verifies(folder):
    """Bodies go, leaves stay: the history of a full spool is as whole as that of an empty one."""
    car = world.Car(folder, quota=2 * world.MIB)
    for n in range(90):
        car.vault.seal(draft(20_000, seed=n))
    assert car.what("drop")
    car.tick(61)
    entries, proofs, note = history(car)
    assert len(entries) > 90
    assert is_intact(entries, proofs, note)
    car.shut()
