"""Suggests the name that a user probably meant."""

from collections.abc import Iterable


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known names that resemble a text; empty if there are none."""
    from difflib import get_close_matches  # noqa: PLC0415 - most users make no mistake

    similar = get_close_matches(text.lower(), list(known))
    return f"; did you mean {' or '.join(similar)}?" if similar else ""
