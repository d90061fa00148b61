"""Inspects Microsoft's VHDX: the headers, the region table, the metadata and the block allocation table."""
