"""The API for asyncio: the same reports, and cancelled tasks whose scans send no further request."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyhole import Report, Settings, Status
from keyhole.aio import Scanner, inspect_stream, scan_object
from keyhole.builders import qcow2, vdi
from tests.e2e.commands import PATIENCE
from tests.servers.origin import Handler, Origin, origin_server

SAFE = qcow2(1 << 30).to_bytes()
LARGE = vdi(1 << 30, allocated=2).to_bytes()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with origin_server() as server:
        server.reset(LARGE)
        yield server


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("NO_PROXY", "*")
    return Settings(https_private=True)


async def body(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 100_000):
        await asyncio.sleep(0)
        yield content[start : start + 100_000]


def test_it_scans_what_the_other_api_scans(origin: Origin, settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "a.qcow2"
    path.write_bytes(SAFE)

    async def scan() -> list[Report]:
        return [
            await scan_object(path),
            await scan_object(origin.url("/a.vdi"), settings=settings),
            await inspect_stream(body(SAFE), name="a.qcow2"),
            await inspect_stream([SAFE], policy="azure"),
        ]

    reports = asyncio.run(scan())

    assert [report.status.value for report in reports] == ["safe", "safe", "safe", "rejected"]
    assert reports[2].target == "a.qcow2"


def test_a_text_of_a_user_is_never_taken_for_a_path_or_a_url(
    origin: Origin, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "secret.qcow2"
    path.write_bytes(SAFE)

    for text in (str(path), path, origin.url(), "s3://bucket/key"):
        with pytest.raises(TypeError, match="is a name and not content; use scan_object"):
            asyncio.run(inspect_stream(text, settings=settings))  # type: ignore[arg-type]

    assert origin.requests == []


def test_a_cancelled_scan_sends_no_further_request(origin: Origin, settings: Settings) -> None:
    async def scan() -> None:
        loop = asyncio.get_running_loop()
        asked, answer = asyncio.Event(), asyncio.Event()

        def held(handler: Handler) -> None:
            loop.call_soon_threadsafe(asked.set)
            asyncio.run_coroutine_threadsafe(answer.wait(), loop).result(PATIENCE)
            handler.usual()

        origin.answers = [held]
        async with Scanner(settings=settings) as scanner:
            task = asyncio.create_task(scanner.scan(origin.url()))
            await asyncio.wait_for(asked.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            answer.set()  # the first request ends, and the scan would go on

    asyncio.run(scan())

    assert len(origin.requests) == 1


def test_a_timeout_frees_the_thread_of_a_slow_web_server(origin: Origin, settings: Settings) -> None:
    """The server would hold the only thread for the 60 seconds of the budget."""
    settings = settings.model_copy(update={"scan_threads": 1})

    async def hung(scanner: Scanner) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:

            def silent(_: Handler) -> None:
                loop.call_soon_threadsafe(limit.reschedule, loop.time())
                origin.stopping.wait(PATIENCE)

            origin.answers = [silent]
            await scanner.scan(origin.url())

    async def scan() -> Report:
        async with Scanner(settings=settings) as scanner:
            with pytest.raises(TimeoutError):
                await hung(scanner)
            return await asyncio.wait_for(scanner.scan(origin.url()), 45)

    assert asyncio.run(scan()).status is Status.SAFE
    assert len(origin.requests) > 1


def test_a_timeout_cancels_a_scan_that_waits_for_its_caller() -> None:
    closed = []

    async def endless(limit: asyncio.Timeout) -> AsyncIterator[bytes]:
        try:
            yield bytes(1000)
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def scan() -> None:
        async with asyncio.timeout(None) as limit:
            await inspect_stream(endless(limit))

    with pytest.raises(TimeoutError):
        asyncio.run(scan())

    assert closed == [True]


def test_many_are_scanned_and_the_rest_is_cancelled() -> None:
    taken = []

    async def targets() -> AsyncIterator[tuple[str, bytes]]:
        for number in range(100):
            taken.append(number)
            yield str(number), SAFE

    async def scan() -> tuple[set[str], list[str]]:
        async with Scanner() as scanner:
            names = {report.target async for report in scanner.scan_many(targets(), at_once=3)}
            some = scanner.scan_many((str(n), SAFE) for n in range(100))
            few = [(await anext(some)).target for _ in range(2)]
            await some.aclose()  # type: ignore[attr-defined] # an asynchronous generator
            return names, few

    names, few = asyncio.run(scan())

    assert names == {str(number) for number in range(100)}
    assert len(few) == 2


def test_the_reports_and_errors_of_scans_that_ended_together_are_not_lost() -> None:
    """asyncio would log `Task exception was never retrieved` for an error that nobody awaits."""
    logged: list[str] = []

    async def scan() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: logged.append(told["message"]))
        async with Scanner() as scanner:
            reports = scanner.scan_many(["s3://bucket/"] * 8)
            with pytest.raises(ValueError, match="names a bucket"):
                async for _ in reports:
                    pass
            with pytest.raises(TypeError, match="one target"):
                await anext(scanner.scan_many("image.qcow2"))

    asyncio.run(scan())
    gc.collect()

    assert logged == []


def test_scans_that_have_not_begun_when_the_scanner_is_closed_say_so() -> None:
    """A `CancelledError` would look as if somebody had cancelled the tasks."""

    async def scan() -> list[Report | BaseException]:
        begun = asyncio.Event()

        async def held() -> AsyncIterator[bytes]:
            begun.set()
            await asyncio.sleep(0.05)
            yield SAFE

        scanner = Scanner(settings=Settings(scan_threads=1))
        tasks = [asyncio.create_task(scanner.scan(target)) for target in (held(), SAFE, SAFE)]
        await begun.wait()
        await scanner.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(RuntimeError, match="the scanner is closed"):
            await scanner.scan(SAFE)
        return results

    first, *others = asyncio.run(scan())

    assert isinstance(first, Report)
    assert [str(error) for error in others] == ["the scanner is closed; create another one"] * 2


def test_a_chunk_that_is_none_is_not_the_end() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield SAFE[:1000]
        yield None  # type: ignore[misc]

    with pytest.raises(TypeError, match="a chunk is NoneType"):
        asyncio.run(inspect_stream(stream()))


def test_a_stream_that_was_cancelled_cancels_the_scan() -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield SAFE[:1000]
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(inspect_stream(stream()))


def test_a_scan_that_asks_for_a_chunk_while_it_is_cancelled_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has just seen that the scan goes on when the task is cancelled."""
    request = asyncio.run_coroutine_threadsafe

    async def endless() -> AsyncIterator[bytes]:
        yield SAFE[:1000]
        await asyncio.Event().wait()

    async def scan() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        chunks = 0

        def late(*given: Any) -> Any:
            nonlocal chunks
            chunks += 1
            if chunks == 2:
                cancelled = threading.Event()
                loop.call_soon_threadsafe(task.cancel)
                # The loop runs what it was given in this order, and the cancelled task first.
                for _ in range(3):
                    loop.call_soon_threadsafe(cancelled.set)
                    assert cancelled.wait(20)
                    cancelled.clear()
            return request(*given)

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", late)
        await inspect_stream(endless())

    async def bounded() -> None:
        task = asyncio.create_task(scan())
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), 20)

    asyncio.run(bounded())


def test_the_event_loop_is_not_blocked() -> None:
    """A scan of a stream waits for the loop to produce its chunks, which would otherwise be a deadlock."""

    async def scan() -> list[Report]:
        async with Scanner(settings=Settings(scan_threads=1)) as scanner:
            return await asyncio.gather(*(scanner.scan(body(SAFE)) for _ in range(5)))

    assert {report.status for report in asyncio.run(scan())} == {Status.SAFE}


def test_errors_reach_the_caller_and_a_closed_scanner_is_one() -> None:
    async def scan() -> None:
        async with Scanner() as scanner:
            with pytest.raises(ValueError, match="names a bucket"):
                await scanner.scan("s3://bucket/")
            with pytest.raises(ValueError, match="at_once"):
                _ = [report async for report in scanner.scan_many([], at_once=0)]
        with pytest.raises(RuntimeError):
            await scanner.scan(SAFE)

    asyncio.run(scan())
