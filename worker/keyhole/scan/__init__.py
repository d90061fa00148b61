"""Scans one object: fetches the byte ranges that its inspection needs, and turns the facts into a verdict."""
