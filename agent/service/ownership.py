"""Which ownership of the car it is, at a start: a transfer that was begun is completed first."""

from __future__ import annotations

from pathlib import Path

from agent.config import Config
from agent.owner import custody, transfer
from agent.owner.custody import Epoch
from agent.owner.tpm import Tpm
from agent.vault.identity import Identity
from agent.vault.vault import Vault


def tpm(config: Config) -> Tpm | None:
    """Return the TPM that counts ownerships; None: a file does."""
    return Tpm(config.vehicle.tpm) if config.vehicle.tpm else None


def present(config: Config) -> Epoch:
    """Return the ownership that counts from now on.

    Raises:
        ConfigError: the state is of an older ownership; nothing may be started with it.
        TpmError: the TPM does not answer.
    """
    keeper = tpm(config)
    transfer.take_custody(config.state, keeper)
    return custody.present(config.state, keeper)


def complete(config: Config, vault: Vault, identity: Identity) -> Path | None:
    """Complete a transfer that was begun; return its certificate, None: there was none."""
    return transfer.complete(config.state, config.run, vault, identity)


def is_pending(config: Config) -> bool:
    """Return whether a transfer was begun: one stat()."""
    return (config.state / transfer.FILE).exists()
