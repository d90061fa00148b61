"""The store: Redis keys and the connection that jobs, results and intake share."""
