"""Sealing, ledger and spool: what touches the disk is sealed, what is sealed is in the ledger."""
