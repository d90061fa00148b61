"""Microsoft's VHDX: its headers, region table, metadata and block allocation table."""
