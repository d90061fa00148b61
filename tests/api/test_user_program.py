"""The annotations are complete: `mypy --strict` accepts programs of users, and finds their mistakes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import REFERENCE, ROOT

#: Uses everything that is public. The comments mark the lines in which mypy must find a mistake.
PROGRAM = """
import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import keyhole
from keyhole import Policy, Report, Scanner, Settings, Status, inspect_stream, load_policy, scan_object
from keyhole import Content, Finding, Reason, Severity, Target, Wholeness, verdict, verdicts, wait
from keyhole import aio
from keyhole.tasks import scan, scan_batch


def grave(report: Report) -> list[Finding]:
    return [one for one in report.findings if one.severity is Severity.CRITICAL]


def is_whole(target: Target, upload: Content) -> bool:
    return {scan_object(target).wholeness, inspect_stream(upload).wholeness} == {Wholeness.PROVEN}


def chunks() -> Iterator[bytes]:
    yield b"a"


async def body() -> AsyncIterator[bytes]:
    yield b"a"


def main() -> int | None:
    policy: Policy = load_policy("azure")
    report: Report = scan_object(Path("a"), policy=policy, settings=Settings(budget_seconds=3))
    reports: list[Report] = [scan_object("s3://b/k", version_id="1"), inspect_stream(chunks(), name="a")]
    with open("a", "rb") as file:
        reports += [scan_object(file), scan_object(io.BytesIO(b"")), scan_object(b""), scan_object([b""])]
    with Scanner(policy="azure") as scanner:
        reports += scanner.scan_many(["a", Path("b"), ("c", b"content")], threads=3)
        reports.append(scanner.scan(memoryview(b"")))
    views: list[memoryview] = []
    mixed: list[bytes | bytearray] = []
    reports += [scan_object(views), scan_object(mixed), scan_object("a", policy=load_policy(Path("a")))]
    found: Report | None = verdict("s3://b/k")
    reports += [*verdicts(status=Status.SAFE, reason=Reason.EMPTY, limit=3), *wait([], timeout=1.5)]
    job = scan.delay("s3://b/k", version_id="1")
    status: Status = job.get(timeout=60)
    report = job.report() if job.ready() else report
    reports += [*wait([job, scan_batch.delay(["s3://b/k"])]), *wait([scan.apply_async(("s3://b/k",))])]
    reports += verdicts(since="24h", reason="truncated")
    size: int | None = report.virtual_size if status else None
    return size if report.status is Status.SAFE and found else len(keyhole.__version__)


async def later(target: aio.Target) -> Report:
    return await aio.scan_object(target)


async def other() -> Status:
    async with aio.Scanner() as scanner:
        report = await scanner.scan(body())
        async for each in scanner.scan_many(["a"], at_once=2):
            report = each
    async for each in aio.wait([scan.delay("s3://b/k")], timeout=3):
        report = each
    reports: list[Report] = [each async for each in aio.verdicts(status="unsafe", since="24h")]
    found: Report | None = await aio.verdict("s3://b/k")
    return (await aio.inspect_stream(body())).status if report.format else (await aio.scan_object("a")).status


asyncio.run(other())
scan_object(3)  # mistake
scan_object("a", polcy="azure")  # mistake
inspect_stream("a path")  # mistake
Settings(polcy="azure")  # mistake
load_policy(3)  # mistake
verdicts(limit="3")  # mistake
wrong: int = scan_object("a").status  # mistake
text: str = scan.delay("s3://b/k").report()  # mistake
scan.delay(3)  # mistake
scan.delay("s3://b/k", versoin_id="1")  # mistake
"""


@pytest.mark.slow
def test_mypy_accepts_programs_of_users(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    pages = re.findall(r"^```python\n(.*?)^```$", REFERENCE["python"], re.MULTILINE | re.DOTALL)
    shown = [tmp_path / f"page{number}.py" for number in range(len(pages))]
    for path, text in zip(shown, pages, strict=True):
        path.write_text(text)
    service = ROOT / "deploy" / "examples" / "image_service.py"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "--no-error-summary"),
            *("--follow-imports", "silent", "--cache-dir", str(tmp_path / "cache")),
            *map(str, (program, service, *shown)),
        ],
        env={**os.environ, "MYPYPATH": str(ROOT / "worker")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    lines = PROGRAM.splitlines()
    mistakes = {number for number, line in enumerate(lines, start=1) if line.endswith("# mistake")}
    found = re.findall(r"^(\S+?):(\d+): error: ", done.stdout, re.MULTILINE)
    assert {(file, int(line)) for file, line in found} == {("program.py", line) for line in mistakes}, (
        done.stdout
    )
    assert len(pages) >= 7
