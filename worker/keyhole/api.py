"""The Python API for scanning a single object, without a broker. To queue jobs, use `keyhole.tasks.scan`.

>>> from keyhole.api import scan_object
>>> scan_object("s3://images/debian.qcow2").status
<Status.SAFE: 'safe'>
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from keyhole.inspectors.catalogue import all_inspectors
from keyhole.inspectors.text import printable
from keyhole.scan.memory import MemoryPool
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan, scan_stream
from keyhole.scan.settings import ScanSettings
from keyhole.settings import Settings
from keyhole.sources.local import FileSource, open_local
from keyhole.sources.meter import Meter
from keyhole.sources.s3_uri import parse_s3_uri
from keyhole.tracing.tracer import OnGet

if TYPE_CHECKING:
    from keyhole.sources.https_access import HttpsAccess
    from keyhole.sources.s3_access import S3Access

STREAM_CHUNK_BYTES = 1024 * 1024


def import_all() -> None:
    """Import all modules that scans can need, including the inspectors of all formats.

    Without this call, a scan imports the modules that it needs. Call this function before you fork processes
    that scan, so that they share the memory of the modules. Call it before you confine a process, because a
    confined process may not be able to open the modules' files.
    """
    all_inspectors()
    for module in ("puremagic", "keyhole.sources.s3", "keyhole.sources.s3_access"):
        import_module(module)


@cache
def _access(**options: object) -> "S3Access":
    # Import boto3 only on this first use, because the inspection of local files does not need it.
    from keyhole.sources.s3_access import S3Access  # noqa: PLC0415 - see above

    return S3Access(**options)  # type: ignore[arg-type] # s3_access has their types


def s3_access(settings: Settings) -> "S3Access":
    """Return this process's access to S3.

    The first call creates it. Do not call this in a process that forks later.
    """
    return _access(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.s3_region,
        connections=settings.scan_threads,
        addressing_style=settings.s3_addressing_style,
        requester_pays=settings.request_payer is not None,
        expected_bucket_owner=settings.expected_bucket_owner,
        buckets=settings.allowed_buckets,
    )


@cache
def _https_access(*, private: bool, connections: int) -> "HttpsAccess":
    # Import urllib3 and TLS only on this first use.
    from keyhole.sources.https_access import HttpsAccess  # noqa: PLC0415 - see above

    return HttpsAccess(private=private, connections=connections)


def https_access(settings: Settings) -> "HttpsAccess":
    """Return this process's connections to web servers.

    The first call creates them. Do not call this in a process that forks later.
    """
    return _https_access(private=settings.https_private, connections=settings.scan_threads)


def is_url(target: str) -> bool:
    """Return whether a text is the URL of an object on a web server."""
    return target[:8].lower().startswith(("https://", "http://"))


def scan_object(uri: str, *, version_id: str | None = None, settings: Settings | None = None) -> Report:
    """Scan one object. `uri` is `s3://bucket/key`, `https://host/path`, or the path of a file.

    Raises:
        ValueError: The URI does not name an object.
    """
    settings = settings or Settings()
    if is_url(uri):
        return scan_url(https_access(settings), uri, settings.scan)
    if not uri.startswith("s3://"):
        return scan_path(Path(uri), settings.scan)
    bucket, key = parse_s3_uri(uri)
    if not key:
        raise ValueError(f"{uri!r} names a bucket, not an object; write s3://bucket/key")
    return scan_s3(s3_access(settings), bucket, key, version_id, settings.scan)


def scan_s3(  # noqa: PLR0913, PLR0917 - the last four are optional
    access: "S3Access",
    bucket: str,
    key: str,
    version_id: str | None,
    settings: ScanSettings,
    rate_limiter: Callable[[], None] | None = None,
    memory: MemoryPool | None = None,
    on_end: Callable[[Meter], object] | None = None,
    on_get: OnGet | None = None,
) -> Report:
    """Scan one object in S3.

    The scan calls `rate_limiter` before every request; `rate_limiter` can sleep. `memory` is the pool of
    memory that all scans of a process share. `on_end` is called with the scan's meter when the scan has
    ended. `on_get` is called with each GET.
    """
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
    access: "HttpsAccess", url: str, settings: ScanSettings, memory: MemoryPool | None = None
) -> Report:
    """Scan one object on a web server.

    The report, the log and all messages name the object without the query of its URL.

    Raises:
        ValueError: The text is not the URL of an object.
    """
    from keyhole.sources.https import HttpsSource  # noqa: PLC0415 - see above
    from keyhole.sources.https_url import WebUrl  # noqa: PLC0415 - see above

    parsed = WebUrl.parse(url)
    target = Target(parsed.name, path=parsed.place)
    return scan(target, lambda meter: HttpsSource(access, parsed, meter=meter), settings, memory=memory)


def scan_path(path: Path, settings: ScanSettings) -> Report:
    """Scan a file on this machine."""
    name = printable(bytes(path))
    return scan(Target(name), lambda meter: open_local(path, meter), settings)


def inspect_stream(fileobj: BinaryIO, *, name: str = "-", settings: Settings | None = None) -> Report:
    """Inspect the content of a binary file object.

    If the file object can seek, Keyhole reads only the ranges that it needs. Otherwise it reads the whole
    content as a stream.

    If the inspection needs a range that the stream has already passed, the status is `inconclusive`, with the
    reason `missed`.
    """
    settings = settings or Settings()
    if getattr(fileobj, "seekable", bool)():
        return scan(Target(name), lambda meter: FileSource(fileobj, meter), settings.scan)

    def chunks() -> Iterator[bytes]:
        while chunk := fileobj.read(STREAM_CHUNK_BYTES):
            yield chunk

    return scan_stream(Target(name), chunks(), settings.scan.policy)
