"""The fleet: what runs in a worker process."""
