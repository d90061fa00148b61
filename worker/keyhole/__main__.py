"""The command `keyhole`, also as `python -m keyhole`.

Importing the command line is slow. So this module does not import it for a health check, which runs every few
seconds.
"""

import atexit
import gc
import os
import sys


def main() -> None:
    """Run the command line; see `keyhole.cli.main` for its exit codes."""
    _open_closed_streams()
    match sys.argv[1:]:
        case [("worker" | "scheduler") as role, "--check"]:
            from keyhole.health import check  # noqa: PLC0415 - other commands do not need it

            sys.exit(check(role))
    # At exit, Python would search the objects of all modules for reference cycles to free their memory. The
    # operating system frees this memory anyway. So freeze all objects, because the search skips frozen
    # objects. This saves a tenth of the CPU time of `keyhole inspect FILE`.
    atexit.register(gc.freeze)
    # To find plugins, pydantic would read the metadata of all installed packages. Keyhole needs no plugins.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from keyhole.cli import main as command  # noqa: PLC0415 - see above

    command()


def _open_closed_streams() -> None:
    """Open `/dev/null` in place of standard streams that the caller has closed, for example with `>&-`.

    Otherwise the next file or socket that the command opens would become its standard output, and libraries
    would fail because Python has no such stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The system chooses the lowest free descriptor, which is the closed one.
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - a descriptor, which stays open


if __name__ == "__main__":
    main()
