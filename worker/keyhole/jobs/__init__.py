"""What is to be done: jobs, their ids, and the ledger of those without a verdict."""
