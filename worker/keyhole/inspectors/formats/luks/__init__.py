"""Inspects volumes of Linux Unified Key Setup (LUKS), versions 1 and 2."""
