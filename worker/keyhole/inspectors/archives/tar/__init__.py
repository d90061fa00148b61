"""Tar archives: reads headers, extended headers and the maps of sparse files."""
