"""Names what a rule of the policy accepts, for the messages of findings."""

from collections.abc import Sequence
from typing import Final

from keyhole.scan.rules import BARE, Rule

#: The most formats and places that a message names. The longest list of the profiles for an importer has nine
#: formats. The profile `default` has 24, which would hide the rest of the message.
MOST_NAMED: Final = 9


def accepted_formats(rule: Rule, refused: str) -> str:
    """Return the formats that a rule accepts, with their variants. Variants of the refused format come first.

    Args:
        rule: The rule, which does not accept every format.
        refused: The format of an image that the rule refuses.
    """
    entries = dict.fromkeys(rule.formats or ())
    names = dict.fromkeys(entry.partition(":")[0] for entry in entries)
    found = []
    for name in sorted(names, key=lambda name: name != refused):
        variants = [entry.partition(":")[2] for entry in entries if entry.startswith(f"{name}:")]
        found.append(name if name in entries else f"{name} ({', '.join(variants)})")
    return _listed(found, "no format")


def accepted_places(rule: Rule) -> str:
    """Return where a rule, which does not accept every container, accepts a disk."""
    places = rule.containers or ()
    inside = [f"inside {place}" for place in places if place != BARE]
    return _listed(["outside a container"] * (BARE in places) + inside, "nowhere")


def _listed(names: Sequence[str], none: str) -> str:
    """Return names in a sentence; `none` if there are none. Of a long list, the rest is counted."""
    if len(names) < 2:
        return names[0] if names else none
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[: MOST_NAMED - 1])} and {len(names) - MOST_NAMED + 1} others"
    return f"{', '.join(names[:-1])} and {names[-1]}"
