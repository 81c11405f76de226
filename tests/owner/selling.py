"""A car that is sold in a test: what `inland transfer` and the next start do, step by step."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from agent.owner import custody, transfer
from agent.owner.tpm import Tpm
from agent.vault.vault import Vault
from tests.vault import world


def begin(state: Path, tpm: Tpm | None = None) -> None:
    """What the command does once the owner has agreed."""
    transfer.begin(state, custody.present(state, tpm))


def go_on(state: Path, run: Path, tpm: Tpm | None = None) -> tuple[int, Path | None]:
    """What every start does before anything else; returns the ownership and the certificate."""
    transfer.take_custody(state, tpm)
    epoch = custody.present(state, tpm)
    identity = replace(world.identity(owner=False), epoch=epoch.number)
    vault = Vault.open(
        state, identity=identity, now=clock, rng=random.randbytes, boot_id=b"b" * 16,
        version="test", quota_bytes=64 << 20,
    )  # fmt: skip
    try:
        return epoch.number, transfer.complete(state, run, vault, identity)
    finally:
        vault.close()


def clock():
    from agent.pb.moment_pb2 import Moment

    return Moment(unix_ns=world.NOW_NS + 10**9, boottime_ns=2 * 10**9)


def sell(state: Path, run: Path, tpm: Tpm | None = None) -> Path:
    """Both."""
    begin(state, tpm)
    _, place = go_on(state, run, tpm)
    assert place is not None
    return place
