"""The route to one bucket: the URL, the client that reads, and what the server supports.

Each process finds the route once. botocore's rules determine the bucket's URL from the region, FIPS, dual
stack, acceleration, access points, the addressing style and the rest of AWS's configuration. obstore gets
this URL, so both clients always use the same URL. Only boto3 reads the objects of a bucket if one of these
conditions is true:

- The signature is not SigV4 for `s3`: directory buckets, Outposts, Object Lambda, multi-region access points.
- There are no credentials. boto3 then reports an error that explains the problem.
- The proxy's URL begins with `https://`. obstore does not verify a proxy with the same certificates as boto3.
- obstore would trust more certificates than boto3 (see `trust`).
- obstore failed for `STRIKES` objects in a row, and boto3 could read them.

If the bucket is in another region, the server redirects the first read. All other reads of the bucket wait
for the first read, so that the server does not redirect them, too.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from obstore.store import S3Store

from keyhole.sources.s3_client import Place

log = logging.getLogger(__name__)

#: After this many objects in a row that boto3 could read and obstore could not, Keyhole no longer uses
#: obstore for the bucket. The number is above 2 because one or two lost connections must not disable the
#: faster client.
STRIKES = 5
#: The most seconds for which reads wait for the bucket's first read, which takes about 50 ms. After this
#: time, the other reads start even if the first read hangs.
FIRST_SECONDS = 2.0


class Route:
    """The route to one bucket. Threads can share it.

    Args:
        bucket: The bucket's name, for the log.
        look: Returns the bucket's current URL.
        open_store: Returns the obstore store for a URL; `None` if obstore cannot read the bucket.
    """

    def __init__(
        self, bucket: str, look: Callable[[], Place], open_store: Callable[[Place], S3Store | None]
    ) -> None:
        self._bucket = bucket
        self._look = look
        self._open_store = open_store
        self._lock = threading.Lock()
        self._begun = False
        self._known = threading.Event()
        self._strikes = 0
        self._place = look()
        #: The obstore store; `None` if boto3 reads all objects of the bucket.
        self.store = open_store(self._place)
        #: Whether the server supports `If-Match`. If not, Keyhole only compares the ETags of the responses.
        self.takes_if_match = True
        #: Whether obstore has read a range of an object of this bucket whose version or ETag was already
        #: known (a pinned read). Until then, Keyhole requests only one range at a time. If the server does
        #: not support a feature that a pinned read needs, then only one request fails, and not several at
        #: once.
        self.reads_pinned = False
        #: Whether at least one response had only the requested range.
        self.heeds_ranges = False

    def first_alone(self) -> AbstractContextManager[None]:
        """Run the bucket's first read alone. All other reads wait for it, but at most `FIRST_SECONDS`."""
        return nullcontext() if self._known.is_set() else self._alone()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            first, self._begun = not self._begun, True
        if not first:
            self._known.wait(FIRST_SECONDS)
        try:
            yield
        finally:
            self._known.set()

    def worked(self) -> None:
        """Record that obstore has read an object of the bucket."""
        self._strikes = 0

    def look_again(self) -> bool:
        """Return whether a redirect has led boto3 to another URL. If so, obstore uses the new URL."""
        with self._lock:
            place = self._look()
            if place == self._place:
                return False
            self._place, self._strikes = place, 0
            self.store = self._open_store(place)
            log.info("%s is read at %s, region %s", self._bucket, place.url, place.region)
            return True

    def failed(self, why: Exception) -> None:
        """Record that obstore failed to read an object that boto3 could read."""
        with self._lock:
            self._strikes += 1
            if self._strikes < STRIKES or self.store is None:
                return
            self.store = None
        log.info("boto3 reads %s from now on, because obstore cannot: %s", self._bucket, why)
