"""The commands and configurations that the README shows, as a reader would take them from there."""

import re
import subprocess
from pathlib import Path

from tests.deploy.compose import ROOT
from tests.inspectors.content.tools import need

_README = (ROOT / "README.md").read_text()


def block(beginning: str) -> str:
    """The fenced block whose text begins so; there must be one."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
    (found,) = [text for text in blocks if text.startswith(beginning)]
    return str(found)


def make_certificates(folder: Path, name: str) -> None:
    """Make `ca.pem`, and `name`.pem and `name`.key of a server that is this machine."""
    need("openssl")
    script = block("openssl req -x509").replace("valkey", "localhost")
    script += f"mv localhost.pem {name}.pem; mv localhost.key {name}.key\n"
    subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, check=True)
