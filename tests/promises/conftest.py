"""The promises' tests use the same cars and region as the vault's and capture's."""

from tests.capture.conftest import quick
from tests.vault.conftest import car, empty_spool, folder, quick_schema

__all__ = ["car", "empty_spool", "folder", "quick", "quick_schema"]
