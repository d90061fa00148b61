"""Reads recorded verdicts from Redis, and waits for the verdicts of queued jobs."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_object_uri

if TYPE_CHECKING:
    from keyhole.jobs.entry import Entry
    from keyhole.jobs.ledger import Ledger
    from keyhole.results.redis_store import RedisStore


class Queued(Protocol):
    """Queued work: the result of `keyhole.tasks.scan.delay` and of `keyhole.tasks.scan_batch.delay`."""

    @property
    def entry(self) -> "Entry":
        """Return the entry of the ledger."""


def verdicts(
    *,
    status: Status | str | None = None,
    format: str | None = None,  # noqa: A002 - the field of a report has this name
    reason: Reason | str | None = None,
    bucket: str | None = None,
    prefix: str = "",
    since: datetime | str | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
) -> Iterator[Report]:
    """Yield the recorded verdicts, the latest scan first.

    Verdicts are read from Redis in pages while you iterate, so the memory is bounded. A record that cannot be
    parsed is left out.

    >>> from keyhole import verdicts
    >>> for report in verdicts(status="unsafe", limit=10):  # doctest: +SKIP
    ...     print(report.target, report.reasons)

    Args:
        status: Only verdicts with this status, such as `unsafe`.
        format: Only verdicts on images of this format, such as `qcow2`.
        reason: Only verdicts with this reason, such as `truncated`.
        bucket: Only verdicts on objects in this bucket.
        prefix: Only verdicts on objects whose key begins with this text.
        since: Only scans since this time, or an age such as `24h` or `7d`. A time without a zone is in UTC.
        limit: At most this many verdicts.
        settings: The settings; by default those of the environment. `redis_url` must be set.

    Raises:
        ValueError: There is no such status, format or reason, `since` is not a time, the limit is negative,
            or `redis_url` is not set. A format or a reason that a recorded verdict has is never an error,
            because a later version of Keyhole can have recorded it.
        redis.RedisError: Redis cannot be reached.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}; it must be at least 0")
    # Imported here, because most programs do not search.
    from keyhole.results.search import Filter, Search  # noqa: PLC0415 - see above
    from keyhole.results.since import parse_since  # noqa: PLC0415 - see above
    from keyhole.results.spelling import misspelling, parse_status  # noqa: PLC0415 - see above

    statuses = () if status is None else (parse_status(str(status)),)
    text = since.isoformat() if isinstance(since, datetime) else since
    wanted = Filter(
        statuses,
        bucket=bucket or "",
        prefix=prefix,
        format=format or "",
        reason=str(reason or ""),
        since=None if text is None else parse_since(text, datetime.now(UTC)),
    )
    search = Search(_client(settings or Settings()))
    if wrong := misspelling(wanted, search):
        raise ValueError(wrong)
    return islice(search.all(wanted, 100 if limit is None else max(1, limit)), limit)


def verdict(uri: str, *, version_id: str | None = None, settings: Settings | None = None) -> Report | None:
    """Return the recorded verdict on one object in S3; `None` if there is none.

    The verdict applies to the version of the object with the report's ETag. Check this ETag when you read the
    object.

    >>> from keyhole import verdict
    >>> report = verdict("s3://images/debian.qcow2")  # doctest: +SKIP

    Args:
        uri: `s3://bucket/key`.
        version_id: The version of the object; by default the newest version that Keyhole has scanned.
        settings: The settings; by default those of the environment. `redis_url` must be set.

    Raises:
        ValueError: The URI does not name an object, or `redis_url` is not set.
        keyhole.errors.KeyholeError: The record cannot be read, for example because a later version wrote it.
        redis.RedisError: Redis cannot be reached.
    """
    bucket, key = parse_object_uri(uri)
    return _store(settings or Settings()).get(bucket, key, version_id)


def wait(
    queued: "Iterable[Queued | Entry]", *, timeout: float | None = None, settings: Settings | None = None
) -> Iterator[Report]:
    """Yield the report on each queued object when its job is done, until all jobs are done.

    If a job is done and Redis has no verdict on its object, nothing is yielded for it. This happens if
    somebody deleted the verdict. Redis remembers a finished job for `KEYHOLE_DONE_SECONDS`, so wait for a
    job within this time, or set a timeout.

    >>> from keyhole import wait
    >>> from keyhole.tasks import scan  # doctest: +SKIP
    >>> jobs = [scan.delay(uri) for uri in uris]  # doctest: +SKIP
    >>> for report in wait(jobs, timeout=600):  # doctest: +SKIP
    ...     print(report.target, report.status)

    Args:
        queued: A list of the results of `keyhole.tasks.scan.delay` or `keyhole.tasks.scan_batch.delay`, or of
            the entries that `keyhole.tasks.submit` returns.
        timeout: The most seconds to wait for all jobs together; by default no limit.
        settings: The settings; by default those of the environment. `redis_url` must be set.

    Raises:
        TimeoutError: Not all jobs are done after `timeout` seconds. They stay queued.
        TypeError: This is not a list of queued jobs.
        ValueError: `redis_url` is not set.
        redis.RedisError: Redis cannot be reached.
    """
    return (report for report in arrivals(queued, timeout, settings) if report is not None)


def arrivals(
    queued: "Iterable[Queued | Entry]", timeout: float | None, settings: Settings | None
) -> Iterator[Report | None]:
    """Yield the same as `wait`, and `None` at least every half second, so that the caller can stop."""
    # Imported here, because most programs do not queue jobs.
    from keyhole.jobs.entry import Entry  # noqa: PLC0415 - see above
    from keyhole.jobs.ledger import Ledger  # noqa: PLC0415 - see above

    settings = settings or Settings()
    entries = [_entry(one, Entry) for one in _listed(queued)]
    client = _client(settings)
    ledger = Ledger(client, done_seconds=settings.done_seconds)
    return wait_for(entries, client, _store(settings, client), ledger, timeout)


def _listed(queued: object) -> Iterable[object]:
    if not isinstance(queued, Iterable):
        raise TypeError(f"{type(queued).__name__} is not a list of queued jobs; write wait([job])")
    return queued


def _entry(one: object, kind: "type[Entry]") -> "Entry":
    entry = one if isinstance(one, kind) else getattr(one, "entry", None)
    if not isinstance(entry, kind):
        raise TypeError(
            f"{type(one).__name__} is not a queued job; pass what keyhole.tasks.scan.delay returns"
        )
    return entry


def wait_for(
    entries: "Sequence[Entry]",
    client: Any,  # noqa: ANN401 - redis-py's client is generic over its answers
    store: "RedisStore",
    ledger: "Ledger",
    timeout: float | None,
) -> Iterator[Report | None]:
    """Yield the report on each object of some entries of the ledger; see `arrivals`."""
    from keyhole.jobs.presence import Presence  # noqa: PLC0415 - as above
    from keyhole.jobs.wait import await_verdicts  # noqa: PLC0415 - as above

    until = None if timeout is None else time.monotonic() + timeout
    try:
        for arrived in await_verdicts(entries, store, ledger, store.stream_position(), until=until):
            yield None if arrived is None else arrived.report
    except TimeoutError as error:
        if Presence(client).names():
            raise
        raise TimeoutError(f"{error}. No worker takes work; start one: keyhole worker") from None


def _client(settings: Settings) -> Any:  # noqa: ANN401 - redis-py's client is generic over its answers
    if settings.redis_url is None:
        raise ValueError(
            "redis_url is not set; set KEYHOLE_REDIS_URL to the Redis with the verdicts, or pass "
            "settings=Settings(redis_url=…)"
        )
    return _connected(settings.redis_url)


@cache
def _connected(url: str) -> Any:  # noqa: ANN401 - as above
    """Return the client that all calls of this process share. Threads can share it, and so can forks."""
    # Imported here, because most programs scan without Redis.
    from keyhole.store.connection import connect  # noqa: PLC0415 - see above

    return connect(url)


def _store(settings: Settings, client: Any = None) -> "RedisStore":  # noqa: ANN401 - as above
    from keyhole.results.redis_store import RedisStore  # noqa: PLC0415 - as above

    return RedisStore(
        client or _client(settings),
        expiry_seconds=settings.record_seconds or None,
        stream_length=settings.stream_length,
    )
