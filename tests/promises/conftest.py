"""The promises' tests use the same car and region as the vault's."""

from tests.vault.conftest import car, empty_spool, folder

__all__ = ["car", "empty_spool", "folder"]
