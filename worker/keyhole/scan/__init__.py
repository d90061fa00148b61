"""Scans one object: plans the ranges, fetches them, feeds the inspection, stops early, and judges."""
