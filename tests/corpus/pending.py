"""Recipes whose images Keyhole judges wrongly today, and why."""

PENDING: dict[str, str] = {}
