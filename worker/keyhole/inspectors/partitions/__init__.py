"""Partition tables, by libblkid's names: what an object's first sectors say of how a disk is divided."""
