"""Scans one object in S3 or on a web server, or one file. The fleet's processes and the commands use this."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from keyhole.inspectors.catalogue import all_inspectors
from keyhole.inspectors.text import printable
from keyhole.scan.memory import MemoryPool
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import open_local
from keyhole.sources.meter import Meter

if TYPE_CHECKING:
    from keyhole.sources.https_access import HttpsAccess
    from keyhole.sources.s3_access import S3Access
    from keyhole.tracing.tracer import OnGet


def import_all() -> None:
    """Import all modules that scans can need, including the inspectors of all formats.

    Without this call, a scan imports the modules that it needs. Call this function before you fork processes
    that scan, so that they share the memory of the modules. Call it before you confine a process, because a
    confined process may not be able to open the modules' files.
    """
    all_inspectors()
    for module in ("puremagic", "defusedxml.ElementTree", "keyhole.sources.s3", "keyhole.sources.s3_access"):
        import_module(module)


def is_url(target: str) -> bool:
    """Return whether a text is the URL of an object on a web server."""
    return target[:8].lower().startswith(("https://", "http://"))


def scan_s3(  # noqa: PLR0913, PLR0917 - the last four are optional
    access: "S3Access",
    bucket: str,
    key: str,
    version_id: str | None,
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
    on_end: Callable[[Meter], object] | None = None,
    on_get: "OnGet | None" = None,
) -> Report:
    """Scan one object in S3.

    The scan calls `rate_limiter` before every request; `rate_limiter` can sleep. `memory` is the pool of
    memory that all scans of a process share. `on_end` is called with the scan's meter when the scan has
    ended. `on_get` is called with each GET.
    """
    # Import boto3 only on this first use, because the inspection of local files does not need it.
    from keyhole.sources.s3 import S3Source  # noqa: PLC0415 - see above

    target = Target(f"s3://{bucket}/{key}", bucket, key, version_id)
    return scan(
        target,
        lambda meter: S3Source(access, bucket, key, version_id=version_id, meter=meter, on_get=on_get),
        settings,
        rate_limiter,
        memory,
        on_end,
    )


def scan_url(
    access: "HttpsAccess",
    url: str,
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Scan one object on a web server. The other arguments are those of `scan_s3`.

    The report, the log and all messages name the object without the query of its URL.

    Raises:
        ValueError: The text is not the URL of an object.
    """
    # Import urllib3 and TLS only on this first use.
    from keyhole.sources.https import HttpsSource  # noqa: PLC0415 - see above
    from keyhole.sources.https_url import WebUrl  # noqa: PLC0415 - see above

    parsed = WebUrl.parse(url)
    target = Target(parsed.name, path=parsed.place)
    return scan(
        target, lambda meter: HttpsSource(access, parsed, meter=meter), settings, rate_limiter, memory
    )


def scan_path(
    path: Path,
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Scan a file on this machine. The other arguments are those of `scan_s3`."""
    name = printable(bytes(path))
    return scan(Target(name), lambda meter: open_local(path, meter), settings, rate_limiter, memory)
