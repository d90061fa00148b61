"""Formats of disk images. Each format has one module, or a package if it needs several files."""
