"""Reads ranges of one object in S3 with obstore, or with boto3 if obstore fails, and limits the retries.

Keyhole normally sends no HEAD, because the first ranged GET returns size, ETag, version and last
modification. Every later GET states the version and, in `If-Match`, the ETag. So all bytes come from the same
object, even if somebody replaces the object. A 412 response means that the object was replaced.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Final, NamedTuple

from obstore.store import S3Store

from keyhole.inspectors.region import ByteRange
from keyhole.reasons import Reason
from keyhole.sources import s3_boto, s3_obstore
from keyhole.sources.errors import ObjectChangedError, SourceError, TransientError, UnreadableError
from keyhole.sources.meter import Meter
from keyhole.sources.retries import retried
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_answer import Answer, Pin, Span
from keyhole.sources.s3_client import READ_SECONDS
from keyhole.sources.source import Identity
from keyhole.tracing.tracer import Get, OnGet

#: The most ranges of an object that are fetched at once. No image needs more at once. For a container with
#: hundreds of members, the limit bounds the number of bytes in memory.
AT_ONCE = 4
#: The code of a GET that failed with obstore, which does not state the reason.
REFUSED: Final = "obstore_refused"
_NOTHING: Final = nullcontext()


class S3Source:
    """Reads ranges of one object in S3; see `Source`.

    Args:
        access: The process's access to S3.
        version_id: The version to read; `None` for the current version. The first read pins the version.
        meter: Counts every request, including retries.
        on_get: Called with each GET after it has ended; `None` if nobody needs that.

    Raises:
        ConfigurationError: Keyhole cannot reach S3: for example, the secret key is missing, or the endpoint
            is not a URL.
    """

    def __init__(
        self,
        access: S3Access,
        bucket: str,
        key: str,
        *,
        version_id: str | None,
        meter: Meter,
        on_get: OnGet | None = None,
    ) -> None:
        self._meter = meter
        self._on_get = on_get
        self._access = access
        self._route = access.route(bucket)
        self._pin = Pin(
            bucket,
            key,
            version_id,
            states_etag=self._route.takes_if_match,
            heeds_ranges=self._route.heeds_ranges,
        )
        self._identity: Identity | None = None
        self._version_learned = False
        self._by_obstore = s3_obstore.can_name(key)

    @property
    def identity(self) -> Identity | None:
        """Return size, ETag, version and last modification; `None` before the first read."""
        return self._identity

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from `offset` on; see `Source.read`."""
        return self._get(Span(offset, length))

    def read_all(self, parts: Iterable[ByteRange]) -> Iterator[bytes]:
        """Yield the bytes of each range, in order. Up to `AT_ONCE` ranges are fetched at once."""
        left = list(parts)
        while left:
            some, left = left[:AT_ONCE], left[AT_ONCE:]
            fetched = self._fetch_at_once(some)
            for part, answer in zip(some, fetched, strict=True):
                yield self.read(part.offset, part.length) if answer is None else self._accepted(answer)

    def _get(self, span: Span) -> bytes:
        attempts = count()

        def attempt() -> Answer:
            if next(attempts):
                self._meter.retries += 1
            return self._attempt(span)

        return self._accepted(retried(attempt))

    def _accepted(self, answer: Answer) -> bytes:
        """Return the bytes of an answer, if they belong to the pinned object."""
        self._pin.check(answer.identity)
        if self._identity is None:
            self._recognise(answer.identity)
        if answer.heeds_range and not self._pin.heeds_ranges:
            self._route.heeds_ranges = True
            self._pin = replace(self._pin, heeds_ranges=True)
        return answer.data

    def _fetch_at_once(self, parts: Sequence[ByteRange]) -> Sequence[Answer | None]:
        """Make one GET for each range with obstore, all at once, and return the answers.

        If an answer is `None`, the caller must read this range alone. This happens if obstore failed for the
        range.

        In the following cases, this function makes no GET, and all answers are `None`: there is only one
        range, obstore cannot be used, the budget could run out, or obstore has not read a pinned object of
        this bucket yet. It also makes no GET if this object is not pinned yet, because the answers could
        belong to different objects.
        """
        store = self._route.store if self._by_obstore else None
        total = sum(part.length for part in parts)
        if (
            len(parts) == 1
            or store is None
            or self._identity is None
            or not self._route.reads_pinned
            or self._meter.seconds_left < READ_SECONDS
            or not self._meter.affords(len(parts), total)
        ):
            return [None] * len(parts)
        for part in parts:
            self._meter.request(part.length)
        fetch = partial(_fetched, store, self._pin)
        mine, *others = (Span(*part) for part in parts)
        with self._meter.response():
            waiting = [self._access.fetchers.submit(fetch, span) for span in others]
            results = [fetch(mine), *(future.result() for future in waiting)]
        for span, fetched in zip((mine, *others), results, strict=True):
            self._meter.received(fetched.received)
            if self._on_get is not None:
                failure = REFUSED if fetched.answer is None else None
                self._on_get(
                    Get(
                        self._pin.key,
                        span.header,
                        fetched.began,
                        fetched.ended,
                        fetched.received,
                        "obstore",
                        failure,
                    )
                )
        return [fetched.answer for fetched in results]

    def _attempt(self, span: Span) -> Answer:
        try:
            with self._meter.response():
                return self._get_pinned(span)
        except TransientError as error:
            self._meter.failed(error)
            raise

    def _get_pinned(self, span: Span) -> Answer:
        """Make one GET of the pinned object.

        If the version comes from the first response and S3 denies access to this version, repeat the request
        without the version. From then on, only the ETag pins the object.
        """
        try:
            return self._get_once(span)
        except UnreadableError as error:
            if error.reason != Reason.ACCESS_DENIED or not self._version_learned:
                raise
            self._version_learned = False
            self._pin = replace(self._pin, version_id=None)
            return self._get_once(span)

    def _get_once(self, span: Span) -> Answer:
        with self._route.first_alone():
            store = self._route.store if self._by_obstore else None
            # obstore's timeout (`READ_SECONDS`) is the same for all requests. If the budget has fewer seconds
            # left, use boto3, whose deadline can be set for each request.
            if store is None or self._meter.seconds_left < READ_SECONDS:
                return self._get_by_boto(span)
            try:
                self._meter.request(span.length)
                with self._told(span, "obstore"):
                    answer = s3_obstore.get(store, self._pin, span, self._meter.received)
            except s3_obstore.ObstoreRefusedError as refusal:
                return self._get_if_empty(span, refusal) or self._get_by_both(span, refusal)
            self._route.worked()
            self._route.reads_pinned = self._route.reads_pinned or self._identity is not None
            return answer

    def _get_if_empty(self, span: Span, refusal: s3_obstore.ObstoreRefusedError) -> Answer | None:
        """Return the answer for an empty object, after a first request with obstore whose range was refused.

        A second ranged request would be refused, too. The refusal does not state the ETag, so one further
        request is necessary. Return `None` if the object is not empty.
        """
        if self._identity is not None or span.offset or not refusal.is_about_range:
            return None
        with suppress(ObjectChangedError), self._told(span, "boto3"):
            answer = s3_boto.get_empty(self._access.client, self._pin, self._meter)
            self._route.worked()
            return answer
        return None

    def _get_by_both(self, span: Span, refusal: Exception) -> Answer:
        """Repeat a request with boto3, because obstore's error does not state why the request failed."""
        try:
            answer = self._get_by_boto(span)
        finally:
            # If boto3 was redirected, obstore can use the new URL. Otherwise boto3 reads the rest of the
            # object.
            self._by_obstore = self._route.look_again()
        if not self._by_obstore:
            self._route.failed(refusal)
        return answer

    def _get_by_boto(self, span: Span) -> Answer:
        with self._told(span, "boto3"):
            answer = s3_boto.get(self._access.client, self._pin, span, self._meter)
        if not answer.took_if_match:
            self._route.takes_if_match = False
            self._pin = replace(self._pin, states_etag=False)
        return answer

    def _told(self, span: Span, client: str) -> AbstractContextManager[object]:
        """Return a context for a GET. Its end calls `on_get`."""
        return _NOTHING if self._on_get is None else self._telling(self._on_get, span, client)

    @contextmanager
    def _telling(self, on_get: OnGet, span: Span, client: str) -> Iterator[None]:
        began, before = time.time_ns(), self._meter.bytes_read
        failure: str | None = None
        try:
            yield
        except SourceError as error:
            failure = error.reason.value
            raise
        except s3_obstore.ObstoreRefusedError:
            failure = REFUSED
            raise
        finally:
            received = self._meter.bytes_read - before
            on_get(Get(self._pin.key, span.header, began, time.time_ns(), received, client, failure))

    def _recognise(self, identity: Identity) -> None:
        """Pin the object of the first response. All later responses must be from this object."""
        self._identity = identity
        self._version_learned = self._pin.version_id is None and identity.version_id is not None
        self._pin = replace(
            self._pin,
            version_id=self._pin.version_id or identity.version_id,
            etag=identity.etag,
            size=identity.size,
        )


class _Fetched(NamedTuple):
    """The answer to a GET (`None` if obstore failed), the number of received bytes, and the times."""

    answer: Answer | None
    received: int
    began: int
    ended: int


def _fetched(store: S3Store, pin: Pin, span: Span) -> _Fetched:
    """Make one GET with obstore.

    This function does not count anything on the scan's meter, because several threads run it at the same
    time.
    """
    received: list[int] = []
    answer: Answer | None = None
    began = time.time_ns()
    with suppress(s3_obstore.ObstoreRefusedError):
        answer = s3_obstore.get(store, pin, span, received.append)
    return _Fetched(answer, sum(received), began, time.time_ns())
