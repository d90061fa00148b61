"""Attack a running worker, and print how it defends itself: `python -m tests.attack [NAME...]`.

The attack starts its own Valkey, S3 and worker, and takes some minutes. The exit code is 0 if every attack
failed and 1 if an attack succeeded.
"""

import logging
import sys
import tempfile
from pathlib import Path

from rich.table import Table
from rich.text import Text

from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import escaped
from tests.attack import jobs, objects
from tests.attack.site import MINE, OTHER, attacked


def main(names: list[str]) -> int:
    """Run the attacks with these names, or all attacks."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    table = Table("attack", "how it was met", "", box=None, padding=(0, 2, 0, 0))
    failed = 0
    with tempfile.TemporaryDirectory() as folder, attacked(Path(folder)) as site:
        for attack in jobs.ATTACKS + objects.ATTACKS:
            if names and attack.__name__ not in names:
                continue
            try:
                met, word = attack(site), Text("failed", style="green")
            except Exception as error:  # noqa: BLE001 - every error means that the attack worked
                met, word = f"{type(error).__name__}: {error}", Text("WORKS", style="bold red")
                failed += 1
            told = (attack.__doc__ or "").strip().splitlines()[0].rstrip(".")
            table.add_row(Text(told), Text(escaped(met)), word)
        (verdict,) = site.submit(f"s3://{MINE}/safe.qcow2")
        asked = site.asked_of(OTHER)
    SafeConsole().print(table)
    well = verdict["status"] == "safe" and not asked
    print(f"{failed} attacks worked; requests to the other bucket: {len(asked)}; then: {verdict['status']}")
    return 0 if well and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
