"""The README and the pages of the reference, and functions to find parts of them."""

import re
from pathlib import Path

from keyhole.cli import docs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: The folder of the reference, and its pages by topic.
FOLDER = Path(str(docs.PAGES))
REFERENCE = {topic: (FOLDER / f"{topic}.md").read_text(encoding="utf-8") for topic in docs.topics()}
#: The README and the reference as one text.
EVERYTHING = "\n\n".join([README, *REFERENCE.values()])


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with `first`."""
    table = page[page.index(f"\n| {first} |") + 1 :].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def block(beginning: str) -> str:
    """The one fenced block of the README or the reference whose text begins with `beginning`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", EVERYTHING, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(beginning)]
    return str(found)
