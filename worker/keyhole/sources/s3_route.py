"""How one bucket is read: at which URL, by which client, under which conditions. Found out once a process.

botocore's rules turn a bucket into a URL: region, FIPS, dual stack, acceleration, access points, addressing
style, all of AWS's configuration. obstore is given that URL, so the two clients cannot disagree. Where
obstore cannot do what boto3 does, boto3 reads the whole bucket:

- The signature is not SigV4 for `s3`: directory buckets, Outposts, Object Lambda, multi-region access points.
- There are no credentials: boto3 says why.
- The proxy's URL begins with `https://`: obstore does not verify a proxy by the same certificates.
- obstore would trust more certificates than boto3 (`trust`).
- `STRIKES` objects in a row could be read by boto3 and not by obstore, for whatever reason.

A redirect to another region is learned from the first read. That one goes alone: all others of the bucket
wait for it, so that none of them pays for the same redirect.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from obstore.store import S3Store

from keyhole.sources.s3_client import Place

log = logging.getLogger(__name__)

#: Objects in a row that boto3 reads and obstore does not, until obstore is not asked any more. A lost
#: connection or two must not cost a bucket the faster client.
STRIKES = 5
#: Seconds that reads wait for the bucket's first one. It takes some 50 ms; if it hangs, it must not hold all.
FIRST_SECONDS = 2.0


class Route:
    """How one bucket is read. Threads may share it.

    Args:
        bucket: Its name, for the log.
        look: Where the bucket is asked for now.
        open_store: The bucket for obstore at a place; `None` where obstore cannot read it.
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
        #: The bucket for obstore; `None` where boto3 reads it.
        self.store = open_store(self._place)
        #: Whether the server knows If-Match. Where it does not, answers are compared by their ETags alone.
        self.takes_if_match = True
        #: Whether the server has ever answered with a range.
        self.heeds_ranges = False

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the bucket's first read go alone; all later ones begin when it has ended, however it did."""
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
        """Whether boto3 has learned of another place, as by a redirect; obstore asks there from now on."""
        with self._lock:
            place = self._look()
            if place == self._place:
                return False
            self._place, self._strikes = place, 0
            self.store = self._open_store(place)
            log.info("%s is read at %s, region %s", self._bucket, place.url, place.region)
            return True

    def failed(self, why: Exception) -> None:
        """Note that obstore could not read what boto3 then could."""
        with self._lock:
            self._strikes += 1
            if self._strikes < STRIKES or self.store is None:
                return
            self.store = None
        log.info("%s is read by boto3 from now on, for obstore could not: %s", self._bucket, why)
