"""The command `keyhole`, also as `python -m keyhole`.

Importing the command line is slow. So this module does not import it for a health check, which runs every few
seconds.
"""

import atexit
import gc
import os
import sys

from keyhole.health import check


def main() -> None:
    """Run the command line; see `keyhole.cli.main` for its exit codes."""
    match sys.argv[1:]:
        case [("worker" | "scheduler") as role, "--check"]:
            sys.exit(check(role))
    # At exit, Python would search the objects of all modules for reference cycles to free their memory. The
    # operating system frees this memory anyway. So freeze all objects, because the search skips frozen
    # objects. This saves a tenth of the CPU time of `keyhole inspect FILE`.
    atexit.register(gc.freeze)
    # To find plugins, pydantic would read the metadata of all installed packages. Keyhole needs no plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from keyhole.cli import main as command  # noqa: PLC0415 - see above

    command()


if __name__ == "__main__":
    main()
