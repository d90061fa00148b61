"""Reads recorded verdicts, and waits for the verdicts of queued jobs, without blocking an event loop.

The functions of `keyhole.api.recorded` run in threads. Each call in a thread ends within about a second, so a
cancelled task leaves no thread behind.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from keyhole.api import recorded
from keyhole.reasons import Reason, Status
from keyhole.scan.report import Report
from keyhole.settings import Settings

if TYPE_CHECKING:
    from keyhole.jobs.entry import Entry

#: The number of verdicts that one call in a thread takes from a search.
_TOGETHER: Final = 100

T = TypeVar("T")


async def verdicts(
    *,
    status: Status | str | None = None,
    format: str | None = None,  # noqa: A002 - the field of a report has this name
    reason: Reason | str | None = None,
    bucket: str | None = None,
    prefix: str = "",
    since: datetime | str | None = None,
    limit: int | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Report]:
    """Yield the recorded verdicts, the latest scan first.

    The arguments and errors are those of `keyhole.verdicts`. An error is raised by the first step.

    >>> import asyncio
    >>> from keyhole.aio import verdicts
    >>> async def unsafe():
    ...     return [report.target async for report in verdicts(status="unsafe", limit=10)]
    >>> asyncio.run(unsafe())  # doctest: +SKIP
    """
    search = partial(
        recorded.verdicts,
        status=status,
        format=format,
        reason=reason,
        bucket=bucket,
        prefix=prefix,
        since=since,
        limit=limit,
        settings=settings,
    )
    found = await asyncio.to_thread(search)
    while some := await asyncio.to_thread(_take, found, _TOGETHER):
        for report in some:
            yield report


async def verdict(
    uri: str, *, version_id: str | None = None, settings: Settings | None = None
) -> Report | None:
    """Return the recorded verdict on one object in S3; `None` if there is none.

    The arguments and errors are those of `keyhole.verdict`.

    >>> import asyncio
    >>> from keyhole.aio import verdict
    >>> report = asyncio.run(verdict("s3://images/debian.qcow2"))  # doctest: +SKIP
    """
    return await asyncio.to_thread(recorded.verdict, uri, version_id=version_id, settings=settings)


async def wait(
    queued: "Iterable[recorded.Queued | Entry]",
    *,
    timeout: float | None = None,  # noqa: ASYNC109 - it is the time for all jobs, as in `keyhole.wait`
    settings: Settings | None = None,
) -> AsyncIterator[Report]:
    """Yield the report on each queued object when its job is done, until all jobs are done.

    The arguments and errors are those of `keyhole.wait`. An error is raised by the first step. If you stop
    early, or the task is cancelled, the jobs stay queued.

    >>> from keyhole.aio import wait
    >>> async def statuses(jobs):
    ...     return {report.target: report.status async for report in wait(jobs, timeout=600)}
    """
    arrivals = recorded.arrivals(queued, timeout, settings)
    while some := await asyncio.to_thread(_take, arrivals, 1):
        for report in some:
            if report is not None:
                yield report


def _take(values: Iterator[T], most: int) -> list[T]:
    """Return the next values; an empty list at the end."""
    return list(islice(values, most))
