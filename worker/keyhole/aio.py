"""The Python API for asyncio. The names are those of `keyhole`, and their functions are coroutines.

Scans run in threads, so they do not block the event loop. If a task that waits for a scan is cancelled, the
task ends at once. The scan sends no further request, and its connection to a web server is closed. A request
to S3 that is under way can still take seconds, until its own time limit.

>>> import asyncio
>>> from keyhole.aio import scan_object
>>> asyncio.run(scan_object(b"This is a text.")).status
<Status.UNRECOGNIZED: 'unrecognized'>
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias, cast

from keyhole.api import scanner as blocking
from keyhole.api.connections import SharedConnections
from keyhole.api.content import BeforeRead, Chunk, Content, named, scan_content
from keyhole.api.recorded_async import verdict, verdicts, wait
from keyhole.api.scanner import PolicyName
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target as Named
from keyhole.settings import Settings
from keyhole.sources.deadline import Abort, abortable

__all__ = ["Scanner", "Target", "inspect_stream", "scan_object"]

__all__ = ["Scanner", "Target", "inspect_stream", "scan_object", "verdict", "verdicts", "wait"]

#: What can be scanned: all that `keyhole.scan_object` takes, and asynchronous iterables of bytes.
Target: TypeAlias = blocking.Target | AsyncIterable[Chunk]


async def scan_object(
    target: Target,
    *,
    name: str | None = None,
    version_id: str | None = None,
    policy: PolicyName | None = None,
    settings: Settings | None = None,
) -> Report:
    """Return the report on one object, file or stream.

    The arguments are those of `keyhole.scan_object`.

    >>> import asyncio
    >>> from keyhole.aio import scan_object
    >>> asyncio.run(scan_object(b"%PDF-1.7 a document")).reasons
    ('not_an_image',)

    Raises:
        Exception: The errors of `keyhole.scan_object`.
    """
    settings = settings or Settings()
    scan = partial(
        blocking.scan_target,
        rules=blocking.rules_of(policy, settings),
        connections=SharedConnections(settings),
        name=name,
        version_id=version_id,
    )
    return await _in_thread(None, scan, target)


async def inspect_stream(
    content: Content | AsyncIterable[Chunk],
    *,
    name: str = "-",
    policy: PolicyName | None = None,
    settings: Settings | None = None,
) -> Report:
    """Return the report on content.

    The arguments are those of `keyhole.inspect_stream`. The content can also be an asynchronous iterable,
    such as the body of a request.

    >>> import asyncio
    >>> from keyhole.aio import inspect_stream
    >>> async def body():
    ...     yield b"%PDF-1.7 "
    ...     yield b"a document"
    >>> asyncio.run(inspect_stream(body())).reasons
    ('not_an_image',)

    Raises:
        Exception: The errors of `keyhole.inspect_stream`, and those of the asynchronous iterable.
    """
    rules = blocking.rules_of(policy, settings or Settings())

    def scan(target: blocking.Target, *, before_read: BeforeRead) -> Report:
        # Unlike `scan_target`, this takes no text for the name of an object or a file.
        return scan_content(cast("Content", target), Named(named(name)), rules, before_read)

    return await _in_thread(None, scan, content)


class Scanner:
    """Scans many targets with one policy; see `keyhole.Scanner`. Tasks of one event loop can share it.

    >>> import asyncio
    >>> from keyhole.aio import Scanner
    >>> async def statuses():
    ...     async with Scanner(policy="azure") as scanner:
    ...         return [report.status.value async for report in scanner.scan_many([b"one", b"two"])]
    >>> asyncio.run(statuses())
    ['unrecognized', 'unrecognized']

    Args:
        policy: Which images are accepted; by default the policy of the settings.
        settings: The settings; by default those of the environment.

    Raises:
        ValueError: A setting is wrong.
        keyhole.errors.KeyholeError: The policy cannot be read.
    """

    def __init__(self, *, policy: PolicyName | None = None, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._scanner = blocking.Scanner(policy=policy, settings=settings)
        self._threads = settings.scan_threads
        self._pool = ThreadPoolExecutor(settings.scan_threads, thread_name_prefix="scan")
        self._closed = False

    async def scan(self, target: Target, *, name: str | None = None, version_id: str | None = None) -> Report:
        """Return the report on one target; see `keyhole.Scanner.scan`.

        At most `KEYHOLE_SCAN_THREADS` scans run at the same time; others wait.

        >>> import asyncio
        >>> from keyhole.aio import Scanner
        >>> async def status(upload):
        ...     async with Scanner() as scanner, asyncio.timeout(60):
        ...         return (await scanner.scan(upload, name="disk.vhd")).status.value
        >>> asyncio.run(status(b"This is a text."))
        'unrecognized'

        Raises:
            RuntimeError: The scanner is closed.
            Exception: The other errors of `keyhole.Scanner.scan`.
        """
        scan = partial(self._scanner.scan, name=name, version_id=version_id)
        self._check_open()
        try:
            return await _in_thread(self._pool, scan, target)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():
                # Nobody cancelled this task, so the scan can have waited for a thread at the `close`.
                self._check_open()
            raise

    async def scan_many(
        self,
        targets: Iterable[Target | tuple[str, Target]] | AsyncIterable[Target | tuple[str, Target]],
        *,
        at_once: int | None = None,
    ) -> AsyncIterator[Report]:
        """Yield the report on each target when its scan ends, so not in the order of the targets.

        At most `at_once` targets are taken from `targets` and not yet yielded. If you stop early, or the task
        is cancelled, the other scans are cancelled.

        >>> import asyncio
        >>> from keyhole.aio import Scanner
        >>> async def names():
        ...     async with Scanner() as scanner:
        ...         reports = scanner.scan_many([("a.txt", b"one"), ("b.txt", b"two")], at_once=2)
        ...         return sorted([report.target async for report in reports])
        >>> asyncio.run(names())
        ['a.txt', 'b.txt']

        Args:
            targets: The targets, which may be an asynchronous iterable. A pair is a name for the report, and
                a target.
            at_once: How many scans run at the same time; by default `KEYHOLE_SCAN_THREADS`, which is also the
                most.

        Raises:
            ValueError: `at_once` is below 1, or a target does not name an object.
            TypeError: A target is neither a name nor content.
        """
        most = self._threads if at_once is None else at_once
        if most < 1:
            raise ValueError("at_once must be at least 1")
        blocking.check_many(targets)
        # A task stays here until its report is yielded, so that the `finally` block knows every task.
        not_yielded: set[asyncio.Task[Report]] = set()
        try:
            async for target in _each(targets):
                name, one = blocking.pair(cast("blocking.Target", target))
                not_yielded.add(asyncio.create_task(self.scan(one, name=name)))
                full = len(not_yielded) >= most
                ended, _ = await asyncio.wait(
                    not_yielded, timeout=None if full else 0, return_when=asyncio.FIRST_COMPLETED
                )
                for task in ended:
                    not_yielded.remove(task)
                    yield task.result()
            while not_yielded:
                ended, _ = await asyncio.wait(not_yielded, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    not_yielded.remove(task)
                    yield task.result()
        finally:
            for task in not_yielded:
                task.cancel()
            await asyncio.gather(*not_yielded, return_exceptions=True)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the scanner is closed; create another one") from None

    async def close(self) -> None:
        """Close the connections, when the requests that are under way have ended.

        Scans that have not begun end with `RuntimeError`. `async with` also calls this method.

        >>> import asyncio
        >>> from keyhole.aio import Scanner
        >>> async def main():
        ...     scanner = Scanner()
        ...     await scanner.close()
        >>> asyncio.run(main())
        """
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._pool.shutdown()
        self._scanner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Scan(Protocol):
    """A scan of one target in the thread that calls it."""

    def __call__(self, target: blocking.Target, *, before_read: BeforeRead) -> Report:
        """Return the report."""


class _AbandonedError(Exception):
    """Ends a scan whose task was cancelled."""


#: Stands for the end of an asynchronous iterable, because any other value can be one of its chunks.
_END: Final = object()


class _Chunks:
    """The chunks of an asynchronous iterable, for a thread. Each is requested when the scan needs it."""

    def __init__(self, chunks: AsyncIterable[Chunk], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = aiter(chunks)
        self._loop = loop
        self._abandoned = False
        self._next: Future[object] | None = None

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        self._next = asyncio.run_coroutine_threadsafe(self._taken(), self._loop)
        if self._abandoned:  # `abandon` can have run before there was something to cancel
            self._next.cancel()
        try:
            chunk = self._next.result()
        except FutureCancelledError:
            raise _AbandonedError from None
        if chunk is _END:
            raise StopIteration
        return cast("Chunk", chunk)  # the scan checks it

    async def _taken(self) -> object:
        # A future cannot have `StopIteration` as its error.
        return await anext(self._chunks, _END)

    def abandon(self) -> None:
        """End a wait for the next chunk, also a wait that begins later."""
        self._abandoned = True
        if self._next is not None:
            self._next.cancel()


async def _in_thread(pool: ThreadPoolExecutor | None, scan: _Scan, target: Target) -> Report:
    """Run a scan in a thread, and stop it if this task is cancelled."""
    loop = asyncio.get_running_loop()
    requests = Abort()
    chunks = _Chunks(target, loop) if isinstance(target, AsyncIterable) else None
    blocking_target = cast("blocking.Target", target if chunks is None else chunks)

    def check() -> None:
        if requests.is_aborted:
            raise _AbandonedError

    def run() -> Report:
        with abortable(requests):
            return scan(blocking_target, before_read=check)

    try:
        return await loop.run_in_executor(pool, run)
    except _AbandonedError:
        # The iterable itself was cancelled.
        raise asyncio.CancelledError from None
    except asyncio.CancelledError:
        requests.abort()
        if chunks is not None:
            chunks.abandon()
        raise


async def _each(
    targets: Iterable[Target | tuple[str, Target]] | AsyncIterable[Target | tuple[str, Target]],
) -> AsyncIterator[Target | tuple[str, Target]]:
    if isinstance(targets, AsyncIterable):
        async for target in targets:
            yield target
    else:
        for target in targets:
            yield target
