"""Recipes for images that Keyhole currently judges wrongly, with the reasons."""

PENDING: dict[str, str] = {}
