"""The ledger's clock, moved forward by a test."""

import redis

from keyhole.store import keys


def pass_seconds(valkey: redis.Redis, seconds: float) -> None:
    """Move the ledger's clock forward by this many seconds."""
    valkey.hincrbyfloat(keys.LEDGER_CLOCK, "ledger", seconds)
