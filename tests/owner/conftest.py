"""The vault's fixtures serve the owner's tests too."""

from tests.vault.conftest import empty_spool, folder, quick_schema, real_schema

__all__ = ["empty_spool", "folder", "quick_schema", "real_schema"]
