"""Parsers for the partition tables in an object's first sectors. The tables have libblkid's names."""
