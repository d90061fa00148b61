"""The Redis keys and the Redis connection that jobs, results and intake share."""
