"""Suggests the name that a user probably meant, or how to install what is missing."""

from collections.abc import Iterable


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known names that resemble a text; empty if there are none."""
    from difflib import get_close_matches  # noqa: PLC0415 - most users make no mistake

    similar = get_close_matches(text.lower(), list(known))
    return f"; did you mean {' or '.join(similar)}?" if similar else ""


def how_to_install(extra: str) -> str:
    """Return the command that installs the packages of one extra."""
    return f"`pip install -c deploy/constraints.txt '.[{extra}]'` in a clone of Keyhole"
