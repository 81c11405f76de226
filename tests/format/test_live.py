"""Section 18 is enough: a stranger's reader sees what ours sees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.format.stranger import frames, last, parse
from tests.format.stranger_live import RefusedError, look
from tests.owner.looking import Watched, serving
from tests.owner.people import ANNA, CARL, enroll


def test_a_stranger_reads_the_live_stream(tmp_path: Path):
    """Frames and samples to the last, the sets that are shown, the policy, and the end."""
    car = Watched(tmp_path)
    enroll(car.people, ANNA)
    car.stand(1)
    sent = [os.urandom(8) for _ in range(40)]
    who = bytes.fromhex(ANNA.public.kid), ANNA.private, ANNA.signing
    with serving(tmp_path, car.feed) as served:
        stream = look(served.path, *who, frames=True)
        first = next(stream)
        car.step([(0x1D0, data) for data in sent])
        pieces = [parse(piece) for piece in next(stream)[2]]
    ended = [last(part, 8, b"").decode() for part in stream]
    assert ended[-1] == "the agent in the car has ended"
    assert last(first, 3, b"") == bytes([2, 3, 5])  # owner, shared, driver: packed
    compiled = last(parse(last(first, 4, b"")), 1, b"")
    assert last(parse(compiled), 1, b"") == b"cn-fleet"
    held = {last(piece, 1, 0): parse(last(piece, 2, b"")) for piece in pieces}
    assert set(held) == {2, 3}  # the rule's lane, and the recorder's
    for payload in held.values():
        assert [row[5] for row in frames(last(payload, 7, b""))] == sent
    car.vault.close()


def test_a_stranger_s_key_is_refused(tmp_path: Path):
    car = Watched(tmp_path)
    enroll(car.people, ANNA)
    car.stand(1)
    who = bytes.fromhex(CARL.public.kid), CARL.private, CARL.signing
    with serving(tmp_path, car.feed) as served, pytest.raises(RefusedError, match="nobody with"):
        next(look(served.path, *who, frames=False))
    car.vault.close()
