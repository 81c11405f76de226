"""The page of a bundle: one HTML file, from what the ledger and the opened rows tell."""
