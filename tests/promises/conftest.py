"""The promises' tests use the same car and region as the vault's."""

from tests.vault.conftest import car, empty_spool, folder, quick_schema

__all__ = ["car", "empty_spool", "folder", "quick_schema"]
