"""Microsoft VHDX."""
