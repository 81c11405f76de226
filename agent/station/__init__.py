"""The end of the road in the region: its authority, its store, its receipts."""
