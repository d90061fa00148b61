"""Runs an embedded Valkey and a worker for commands if no Redis and no broker are configured."""
