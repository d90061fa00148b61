"""A recipe: how a tool makes a good image, and the verdict that Keyhole should give."""

from collections.abc import Iterable
from dataclasses import dataclass

#: The name of the file that a recipe's script makes.
IMAGE = "image"


@dataclass(frozen=True)
class Recipe:
    """A good image that a tool makes.

    Attributes:
        name: The id of the test; unique.
        format: The format that Keyhole finds, with a subformat if that matters: `vmdk:streamOptimized`.
        script: Lines of bash that make the file `image` in an empty folder. `$PARTS` is the folder of
            `parts.py`.
        tools: The commands that the script needs. The command that writes the image comes first.
        content: The disk's content as libblkid's names. `None`: not compared.
        verdict: The status. If it is not `safe`, a colon and the reason follow.
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
        """The expected subformat, or `None` if every subformat is accepted."""
        return self.format.partition(":")[2] or None


def recipes(
    tools: str,
    image_format: str,
    scripts: Iterable[tuple[str, str]],
    *,
    content: tuple[str, ...] | None = None,
    verdict: str = "safe",
) -> tuple[Recipe, ...]:
    """Return recipes that differ only in names and scripts; `tools` are separated by spaces."""
    needed = tuple(tools.split())
    return tuple(
        Recipe(f"{needed[0]}: {name}", image_format, script, needed, content, verdict)
        for name, script in scripts
    )
