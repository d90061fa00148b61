"""The fleet: the code that runs in worker processes."""
