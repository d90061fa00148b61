"""Records what `keyhole demo` prints on a terminal, for the page about the demo.

`python -m tests.demo.recording` makes the recording again. Folders and the port of the local S3 differ
between runs, so the recording has fixed ones.
"""

import re
import tempfile
from pathlib import Path

from tests.cli.terminal import on_a_terminal
from tests.e2e import commands
from tests.pages import FOLDER

PAGE = FOLDER / "demo.md"
BLOCK = re.compile(r"(?<=^```text\n)\$ keyhole demo\n.*?(?=^```$)", re.MULTILINE | re.DOTALL)


def main() -> None:
    """Record the demo, and write the recording into its page."""
    recorded = recording()
    page, found = BLOCK.subn(lambda _: recorded, PAGE.read_text(encoding="utf-8"))
    assert found == 1
    PAGE.write_text(page, encoding="utf-8")


def recording() -> str:
    """Run the demo on a terminal of 80 columns without colours, and return the command and its output."""
    with tempfile.TemporaryDirectory() as folder:
        # A dumb terminal shows no progress bar.
        env = commands.environment(KEYHOLE_DATA_DIR=Path(folder), TERM="dumb")
        printed = on_a_terminal("demo", env=env).replace("\r\n", "\n")
    known = printed.replace(folder, "~/.local/share/keyhole")
    known = re.sub(r"/tmp/keyhole-\w+", "/tmp/keyhole-demo", known)  # noqa: S108 - only a name in a text
    known = re.sub(r"(127\.0\.0\.1):\d+", r"\1:39001", known)
    lines = [line.rstrip() for line in known.strip().splitlines()]
    return re.sub(r"\n\n+", "\n\n", "\n".join(["$ keyhole demo", *lines, ""]))


if __name__ == "__main__":
    main()
