"""Jobs, and the ledger of those that have no verdict yet."""
