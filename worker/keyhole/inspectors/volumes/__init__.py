"""Volumes: file systems, swap, and members of arrays, recognised by their superblocks (`volumes.names`)."""
