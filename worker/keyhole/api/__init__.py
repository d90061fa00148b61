"""The Python API: scans objects, files and streams, and reads recorded verdicts, without a broker.

`keyhole` itself offers the public names (`from keyhole import Scanner`), and `keyhole.aio` offers the same
for asyncio. To queue jobs for workers, use `keyhole.tasks.scan`.

>>> from keyhole import scan_object
>>> scan_object(b"This is a text.").status
<Status.UNRECOGNIZED: 'unrecognized'>
"""

from keyhole.api.connections import https_access, s3_access
from keyhole.api.objects import import_all, is_url, scan_path, scan_s3, scan_url
from keyhole.api.scanner import Scanner, inspect_stream, scan_object

__all__ = [
    "Scanner",
    "https_access",
    "import_all",
    "inspect_stream",
    "is_url",
    "s3_access",
    "scan_object",
    "scan_path",
    "scan_s3",
    "scan_url",
]
