"""Settings that are lists. In an environment variable, commas separate the items of a list."""

#: Names or globs.
Names = tuple[str, ...]


def split_list(value: object) -> object:
    """Split a text at its commas, and return the items. Return every other value unchanged."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value
