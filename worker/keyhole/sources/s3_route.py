"""The route to one bucket: its URL, its client and its conditions, found once in each process.

botocore's rules turn a bucket into a URL: region, FIPS, dual stack, acceleration, access points, addressing
style, all of AWS's configuration. obstore gets that URL, so the two clients cannot disagree. If obstore
cannot do what boto3 does, boto3 reads the whole bucket:

- The signature is not SigV4 for `s3`: directory buckets, Outposts, Object Lambda, multi-region access points.
- There are no credentials; boto3 says why.
- The proxy's URL begins with `https://`: obstore does not verify a proxy with the same certificates.
- obstore would trust more certificates than boto3 (`trust`).
- boto3 could read `STRIKES` objects in a row that obstore could not, for any reason.

The first read finds a redirect to another region. All other reads of the bucket wait for it, so that no other
request is redirected.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from obstore.store import S3Store

from keyhole.sources.s3_client import Place

log = logging.getLogger(__name__)

#: After so many objects in a row that boto3 reads and obstore does not, obstore is no longer used. One or two
#: lost connections must not disable the faster client.
STRIKES = 5
#: Seconds for which reads wait for the bucket's first one. It takes about 50 ms; if it hangs, others go on.
FIRST_SECONDS = 2.0


class Route:
    """The route to one bucket. Threads may share it.

    Args:
        bucket: Its name, for the log.
        look: Returns the bucket's current URL.
        open_store: Returns the bucket for obstore at a place; `None` if obstore cannot read it.
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
        #: The bucket for obstore; `None` if boto3 reads it.
        self.store = open_store(self._place)
        #: Whether the server supports If-Match. If not, only the ETags of answers are compared.
        self.takes_if_match = True
        #: Whether the server has ever answered with a range.
        self.heeds_ranges = False

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the bucket's first read run alone. Others begin when it has ended, with or without success."""
        with self._lock:
            first, self._begun = not self._begun, True
        if not first:
            self._known.wait(FIRST_SECONDS)
        try:
            yield
        finally:
            self._known.set()

    def worked(self) -> None:
        """Note that obstore has read from the bucket."""
        self._strikes = 0

    def look_again(self) -> bool:
        """Return whether boto3 has found another URL, by a redirect. obstore uses it from now on."""
        with self._lock:
            place = self._look()
            if place == self._place:
                return False
            self._place, self._strikes = place, 0
            self.store = self._open_store(place)
            log.info("%s is read at %s, region %s", self._bucket, place.url, place.region)
            return True

    def failed(self, why: Exception) -> None:
        """Note that boto3 read an object that obstore could not."""
        with self._lock:
            self._strikes += 1
            if self._strikes < STRIKES or self.store is None:
                return
            self.store = None
        log.info("boto3 reads %s from now on, because obstore cannot: %s", self._bucket, why)
