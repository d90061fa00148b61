"""The ledger's clock, moved forward by a test."""

import redis

from keyhole.store import keys


def pass_seconds(valkey: redis.Redis, seconds: float) -> None:
    """Let the ledger's clock go on by so much."""
    valkey.hincrbyfloat(keys.LEDGER_CLOCK, "ledger", seconds)
