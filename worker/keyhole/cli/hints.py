"""Suggests the command that a user probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from keyhole.sources.uri_hints import exists, looks_like_uri


def for_command(name: str, commands: Iterable[str]) -> str:
    """Return a hint to append to the error about an unknown command; empty if there is none."""
    similar = get_close_matches(name.lower(), commands)
    if similar:
        return f" Did you mean {' or '.join(map(repr, similar))}?"
    if name == "-" or looks_like_uri(name) or exists(name):
        return " Did you mean `keyhole inspect TARGET`?"
    return ""
