"""Formats of disk images: one module a format, a package where one takes several files."""
