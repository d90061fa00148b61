"""Parsers for the partition tables in an object's first sectors.

Keyhole uses libblkid's names for the types of tables.
"""
