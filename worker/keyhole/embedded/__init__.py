"""The embedded default: a Valkey and a worker that start if nothing is configured."""
