"""Tar archives: headers, extended headers, sparse maps."""
