"""The memory that scans share: which scan gets memory, which waits, and which gets none."""

import multiprocessing
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from io import BytesIO

import pytest

from keyhole.builders import qcow2
from keyhole.inspectors.memory import Held, held_by
from keyhole.reasons import Status
from keyhole.scan.memory import SLACK_BYTES, TRIM_BYTES, MemoryPool, MemoryShare
from keyhole.scan.process_lock import ProcessLock
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.scan.undecided import is_undecided
from keyhole.sources.errors import TransientError
from keyhole.sources.local import FileSource
from keyhole.sources.meter import Budget
from tests.inspectors.compression.memory import memory_taken

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1 << 20
#: Seconds after which a wait in these tests has failed.
LONG = 120.0


@pytest.fixture
def pool() -> MemoryPool:
    """A pool of a hundred bytes."""
    return MemoryPool(100)


@contextmanager
def sharing(pool: MemoryPool, count: int, seconds: float = LONG) -> Iterator[list[MemoryShare]]:
    """This many shares, each of which waits for at most this time."""
    contexts = [pool.share(lambda: seconds) for _ in range(count)]
    shares = [context.__enter__() for context in contexts]
    yield shares
    for context in contexts:
        context.__exit__(None, None, None)


def waits(future: "Future[int]", pool: MemoryPool, waiting: int) -> bool:
    """Wait until this many calls wait or this call is done. Return whether this call still waits."""
    pause = threading.Event()
    while len(pool._new) + len(pool._growing) < waiting and not future.done():
        pause.wait(0.001)
    return not future.done()


def test_what_is_free_is_had_at_once_and_comes_back_at_the_end(pool: MemoryPool) -> None:
    for _ in range(3):
        with pool.share(lambda: 0) as share:
            assert (share.take(60), share.take(40), share.held) == (60, 40, 100)
            share.give(10)
            assert share.take(10) == 10


def test_what_is_more_than_the_pool_is_had_alone(pool: MemoryPool) -> None:
    with sharing(pool, 2, seconds=0) as (one, other):
        assert (one.take(1000), one.take(1000)) == (100, 0)
        with pytest.raises(TransientError) as raised:
            other.take(1)
        assert raised.value.reason == "memory"


def test_who_comes_first_is_served_first(pool: MemoryPool) -> None:
    with sharing(pool, 3) as (holder, large, small), ThreadPoolExecutor() as threads:
        holder.take(50)
        # Given a scan that waits for more than is free
        first = threads.submit(large.take, 80)
        assert waits(first, pool, 1)
        # When another scan comes for which the free memory is enough, then it waits too
        second = threads.submit(small.take, 30)
        assert waits(second, pool, 2)
        holder.give(50)
        assert first.result(LONG) == 80
        assert waits(second, pool, 1)
        large.give(80)
        assert second.result(LONG) == 30


def test_who_holds_something_comes_before_those_that_do_not(pool: MemoryPool) -> None:
    with sharing(pool, 3) as (one, other, fresh), ThreadPoolExecutor() as threads:
        one.take(50)
        other.take(40)
        waiting = threads.submit(fresh.take, 20)
        assert waits(waiting, pool, 1)
        growing = threads.submit(one.take, 30)
        assert waits(growing, pool, 2)
        other.give(40)
        assert growing.result(LONG) == 30
        assert waiting.result(LONG) == 20


def test_of_scans_that_wait_for_each_other_the_last_is_ended(pool: MemoryPool) -> None:
    with sharing(pool, 3) as shares, ThreadPoolExecutor() as threads:
        # Given three scans that hold the whole pool, of which two wait for more
        for share in shares:
            share.take(33)
        growing = [threads.submit(share.take, 30) for share in shares[:2]]
        assert all(waits(one, pool, 2) for one in growing)
        # When the third would wait too, then it is refused
        with pytest.raises(TransientError):
            shares[2].take(30)
        # And the other two get the memory that it gives back
        shares[2].give(33)
        (first,), _ = wait(growing, LONG, FIRST_COMPLETED)
        shares[growing.index(first)].give(63)
        assert [one.result(LONG) for one in growing] == [30, 30]


def test_a_scan_without_memory_is_undecided() -> None:
    # Given a pool that other scans use completely
    pool = MemoryPool(10 * MIB)
    data = zstd.compress(qcow2(1 << 30, allocated=3).to_bytes())
    settings = ScanSettings(budget=Budget(seconds=2))
    with pool.share(lambda: 0) as others:
        others.take(10 * MIB)
        # When a compressed object is scanned, and memory does not become free in time
        report = scan(Target("x"), lambda meter: FileSource(BytesIO(data), meter), settings, memory=pool)
    # Then the report states nothing about the object
    assert (report.status, report.reasons) == (Status.FAILED, ("memory",))
    assert is_undecided(report)
    # And later the object is safe, and all memory is given back
    settings = ScanSettings()
    report = scan(Target("x"), lambda meter: FileSource(BytesIO(data), meter), settings, memory=pool)
    assert report.status is Status.SAFE
    assert pool._free == 10 * MIB


def test_what_is_held_is_counted_once_and_given_back_once() -> None:
    pool = MemoryPool(100)
    with pool.share(lambda: 0) as share, held_by(share):
        held = Held()
        held.raise_to(30)
        held.raise_to(20)
        held.raise_to(50)
        assert share.held == 50
        held.release()
        held.release()
        assert share.held == 0
    late = Held()
    late.raise_to(30)
    late.release()


THREADS = """
import io, sys
from concurrent.futures import ThreadPoolExecutor
from backports import zstd
from keyhole.scan.memory import MemoryPool
from keyhole.scan.reporter import Target
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.scan.process_lock import ProcessLock
from keyhole.sources.local import FileSource
options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.compression_level: 1}
with_window = zstd.ZstdCompressor(options=options)
data = b"".join([with_window.compress(bytes(1 << 20)) for _ in range(160)] + [with_window.flush()])
pool = MemoryPool(64 << 20) if int(sys.argv[1]) else None
def scanned(_):
    return scan(Target("x"), lambda meter: FileSource(io.BytesIO(data), meter), ScanSettings(), memory=pool)
scanned(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shared", "bounds"), [(0, (200, 4096)), (1, (0, 150))], ids=["not shared", "shared"]
)
def test_many_long_windows_take_no_more_than_is_shared(shared: int, bounds: tuple[int, int]) -> None:
    """16 threads each read a few kilobytes of zstd with a window of 128 MiB, of which 64 MiB are filled."""
    code = "with ThreadPoolExecutor(16) as threads:\n    result = len(list(threads.map(scanned, range(16))))"
    done, taken = memory_taken(THREADS, code, shared)
    assert done == 16
    assert bounds[0] * MIB <= taken <= bounds[1] * MIB


def test_one_process_at_a_time_needs_much_more_than_its_pool() -> None:
    """If a process is killed, the next process gets the turn."""
    turn, fork = ProcessLock(), multiprocessing.get_context("fork")
    has_it = fork.Event()

    def hold() -> None:
        with sharing(MemoryPool(100, turn), 1) as (share,):
            share.take(100 + SLACK_BYTES + 1)
            has_it.set()
            threading.Event().wait()

    holder = fork.Process(target=hold, daemon=True)
    holder.start()
    assert has_it.wait(LONG)
    pool = MemoryPool(100, turn)

    # While another process has the turn, slightly more than the pool is available, but not much more
    with sharing(pool, 1, seconds=0) as (share,):
        assert share.take(100 + SLACK_BYTES) == 100
        share.give(100)
        with pytest.raises(TransientError) as raised:
            share.take(100 + SLACK_BYTES + 1)
        assert (raised.value.reason, share.held) == ("memory", 0)
    with sharing(pool, 1) as (share,), ThreadPoolExecutor() as threads:
        waiting = threads.submit(share.take, 1 << 40)
        assert not wait([waiting], timeout=0.2).done

        holder.kill()

        assert waiting.result(LONG) == 100
    holder.join()
    # The pool is available again when all memory was given back.
    with sharing(pool, 1, seconds=0) as (share,):
        assert share.take(1 << 40) == 100


def test_what_a_scan_held_is_tidied_up_once_nothing_refers_to_it() -> None:
    tidied: list[int] = []
    pool = MemoryPool(2 * TRIM_BYTES, trim=lambda: tidied.append(1))
    for length, times in ((TRIM_BYTES - 1, 0), (TRIM_BYTES, 1)):
        with pool.share(lambda: 0) as share:
            share.take(length)
            share.give(length)
            pool.scan_ended()
            assert tidied == []
        pool.scan_ended()
        pool.scan_ended()
        assert len(tidied) == times
