"""Partition tables in an object's first sectors, by libblkid's names."""
