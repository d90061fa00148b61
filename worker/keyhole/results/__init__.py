"""Writes verdicts: to records, indexes and a stream in Redis, and to tags on the objects."""
