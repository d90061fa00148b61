"""Scan jobs, and the ledger, which records the jobs that have no verdict yet."""
