"""Recognises volumes by their superblocks: file systems, swap space, and members of arrays."""
