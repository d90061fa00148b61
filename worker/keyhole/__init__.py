"""Keyhole finds out which format disk images in S3 really have, and whether they are whole and safe.

The public names of the Python API are here, and each is imported on first use:

    from keyhole import scan_object

    report = scan_object("s3://images/debian.qcow2")

`keyhole.aio` has the same functions for asyncio. The main packages, from the lowest to the highest:
`inspectors` (turns bytes into facts), `sources` (reads ranges of bytes), `scan` (scans one object and makes a
report), `results` (stores verdicts), `jobs` (stores open work), `intake` (finds work), `api` (this API),
`tasks` and `app` (Celery), `cli` (the command). A package never imports a higher package.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from keyhole.release import __version__

if TYPE_CHECKING:
    from keyhole.api.content import Content
    from keyhole.api.recorded import verdict, verdicts, wait
    from keyhole.api.scanner import Scanner, Target, inspect_stream, scan_object
    from keyhole.errors import KeyholeError
    from keyhole.inspectors.facts import Wholeness
    from keyhole.inspectors.findings import Finding, Severity
    from keyhole.reasons import Reason, Status
    from keyhole.scan.report import Report
    from keyhole.scan.rules import Policy, load_policy
    from keyhole.settings import Settings

__all__ = [
    "Content",
    "Finding",
    "KeyholeError",
    "Policy",
    "Reason",
    "Report",
    "Scanner",
    "Settings",
    "Severity",
    "Status",
    "Target",
    "Wholeness",
    "__version__",
    "inspect_stream",
    "load_policy",
    "scan_object",
    "verdict",
    "verdicts",
    "wait",
]

#: The module that defines each public name.
_HOMES = {
    "Content": "api.content",
    "verdict": "api.recorded",
    "verdicts": "api.recorded",
    "wait": "api.recorded",
    "Scanner": "api.scanner",
    "Target": "api.scanner",
    "inspect_stream": "api.scanner",
    "scan_object": "api.scanner",
    "KeyholeError": "errors",
    "Wholeness": "inspectors.facts",
    "Finding": "inspectors.findings",
    "Severity": "inspectors.findings",
    "Reason": "reasons",
    "Status": "reasons",
    "Report": "scan.report",
    "Policy": "scan.rules",
    "load_policy": "scan.rules",
    "Settings": "settings",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
