"""A recipe: how a tool makes a good image, and the verdict that Keyhole should give."""

from collections.abc import Iterable
from dataclasses import dataclass

#: The file that a recipe's script makes.
IMAGE = "image"


@dataclass(frozen=True)
class Recipe:
    """A good image that a tool makes.

    Attributes:
        name: What pytest calls it; unique.
        format: The format that Keyhole finds, with a subformat if that matters: `vmdk:streamOptimized`.
        script: Lines of bash that make the file `image` in an empty folder. `$PARTS` is the folder of
            `parts.py`.
        tools: The commands that the script needs; the one that writes the image comes first.
        content: What the disk holds, by libblkid's names; `None`: not compared.
        verdict: The status; if it is not `safe`, a colon and the reason follow.
    """

    name: str
    format: str
    script: str
    tools: tuple[str, ...]
    content: tuple[str, ...] | None = None
    verdict: str = "safe"

    @property
    def image_format(self) -> str:
        """The format without the subformat."""
        return self.format.partition(":")[0]

    @property
    def subformat(self) -> str | None:
        """The subformat that is expected, or `None` if any will do."""
        return self.format.partition(":")[2] or None


def recipes(
    tools: str,
    image_format: str,
    scripts: Iterable[tuple[str, str]],
    *,
    content: tuple[str, ...] | None = None,
    verdict: str = "safe",
) -> tuple[Recipe, ...]:
    """Recipes that differ only in their names and scripts; `tools` are separated by spaces."""
    needed = tuple(tools.split())
    return tuple(
        Recipe(f"{needed[0]}: {name}", image_format, script, needed, content, verdict)
        for name, script in scripts
    )
