"""A server's certificates, made with the commands from the reference."""

import subprocess
from pathlib import Path

from tests.pages import block
from tests.tools import need


def make_certificates(folder: Path, name: str) -> None:
    """Make `ca.pem`, and `name`.pem and `name`.key for a server on this machine."""
    need("openssl")
    script = block("openssl req -x509").replace("valkey", "localhost")
    script += f"mv localhost.pem {name}.pem; mv localhost.key {name}.key\n"
    subprocess.run(["bash", "-ec", script], cwd=folder, capture_output=True, check=True)
