"""Recipes whose images are judged wrongly today, and why."""

PENDING: dict[str, str] = {}
