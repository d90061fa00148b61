"""The Python API: every kind of target, one scanner for threads, bounded memory, and closed connections."""

import codecs
import doctest
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

import keyhole
from keyhole import Scanner, Settings, Status, aio, inspect_stream, load_policy, scan_object
from keyhole.builders import qcow2, vdi
from tests.e2e.commands import PATIENCE
from tests.servers.access import CREDENTIALS, isolate
from tests.servers.origin import origin_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SAFE = qcow2(1 << 30).to_bytes()
UNSAFE = qcow2(1 << 30, backing_file="/etc/shadow").to_bytes()
LARGE = vdi(1 << 30, allocated=2).to_bytes()


class Unseekable(io.RawIOBase):
    """A file object that cannot seek, such as a socket."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        return self._content.readinto(buffer)


def cut(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.mark.parametrize(
    "content",
    [SAFE, bytearray(SAFE), memoryview(SAFE), io.BytesIO(SAFE), Unseekable(SAFE), [SAFE], cut(SAFE)],
    ids=lambda content: type(content).__name__,
)
def test_all_kinds_of_content_are_scanned(content: object) -> None:
    report = scan_object(content, name="a.qcow2")  # type: ignore[arg-type]

    assert (report.format, report.virtual_size, report.target) == ("qcow2", 1 << 30, "a.qcow2")
    assert report.status is Status.SAFE


def test_paths_are_scanned_in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "a.vdi"
    path.write_bytes(LARGE)

    reports = [scan_object(str(path)), scan_object(path)]
    with path.open("rb") as file:
        file.seek(77)
        reports.append(scan_object(file))
        assert file.tell() == 77

    assert {(report.status, report.target) for report in reports} == {(Status.SAFE, str(path))}
    assert {report.bytes_read < len(LARGE) for report in reports} == {True}


def test_files_of_fsspec_are_scanned_by_range() -> None:
    """s3fs, gcsfs and other file systems have the same classes."""
    memory = fsspec.filesystem("memory")
    memory.pipe("/images/a.vdi", LARGE)

    unopened = scan_object(fsspec.open("memory://images/a.vdi"))
    with memory.open("/images/a.vdi") as file:
        opened = scan_object(file)

    assert (unopened.status, opened.status) == (Status.SAFE, Status.SAFE)
    assert (unopened.target, opened.target) == ("/images/a.vdi", "/images/a.vdi")
    assert opened.bytes_read < len(LARGE)


@pytest.fixture
def settings(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    isolate(monkeypatch, **CREDENTIALS)
    return Settings(s3_endpoint_url=moto_url, s3_region="us-east-1", https_private=True)


def test_one_scanner_reads_s3_web_servers_and_files_and_closes_what_it_opened(
    s3: "S3Client", bucket: str, settings: Settings, tmp_path: Path
) -> None:
    s3.put_object(Bucket=bucket, Key="a.qcow2", Body=UNSAFE)
    (tmp_path / "b.qcow2").write_bytes(SAFE)
    with origin_server() as origin:
        origin.reset(SAFE)
        with Scanner(settings=settings) as scanner:
            reports = [
                scanner.scan(target)
                for target in (f"s3://{bucket}/a.qcow2", tmp_path / "b.qcow2", origin.url())
            ]

    assert [report.status.value for report in reports] == ["unsafe", "safe", "safe"]
    assert scanner._connections.__dict__.keys() & {"_s3", "_https"} == set()
    with pytest.raises(RuntimeError, match="the scanner is closed"):
        scanner.scan(SAFE)


def test_a_presigned_url_has_the_verdict_of_its_object(
    s3: "S3Client", bucket: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    s3.put_object(Bucket=bucket, Key="a b.vdi", Body=LARGE, Metadata={"disk-format": "raw"})
    where = {"Bucket": bucket, "Key": "a b.vdi"}
    url = s3.generate_presigned_url("get_object", Params=where)

    with Scanner(settings=settings) as scanner:
        by_key, by_url = scanner.scan(f"s3://{bucket}/a b.vdi"), scanner.scan(url)

    assert (by_url.status, by_url.findings, by_url.etag) == (Status.UNSAFE, by_key.findings, by_key.etag)
    assert by_url.target == f"{url.partition('?')[0]}?***"
    assert url.partition("?")[2] not in by_url.model_dump_json()


def test_a_policy_is_a_profile_a_file_or_an_object(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[rules]]\nformats = ["vhd"]\n')
    for policy in ("azure", path, str(path), load_policy("azure")):
        assert scan_object(SAFE, policy=policy).status is Status.REJECTED
        assert inspect_stream(SAFE, policy=policy).status is Status.REJECTED
    with pytest.raises(keyhole.KeyholeError, match="neither a profile"):
        Scanner(policy="azur")


@pytest.mark.parametrize("policy", [3, {"formats": ["vhd"]}, b"azure"])
def test_what_cannot_be_a_policy_is_an_error(policy: Any) -> None:
    for scan in (lambda: scan_object(SAFE, policy=policy), lambda: Scanner(policy=policy)):
        with pytest.raises(TypeError, match=r"the policy is \w+; pass the name of a profile, the path"):
            scan()


def test_a_changed_policy_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = []
    for formats in ("vhd", "qcow2"):
        Path("policy.toml").write_text(f'[[rules]]\nformats = ["{formats}"]\n')
        names.append(load_policy(Path("policy.toml")).name)
        with Scanner(policy="policy.toml") as scanner:
            statuses = {scan_object(SAFE, policy=Path("policy.toml")).status, scanner.scan(SAFE).status}
        assert statuses == {Status.SAFE if formats == "qcow2" else Status.REJECTED}

    assert len(set(names)) == 2


def test_threads_share_a_scanner() -> None:
    with Scanner() as scanner, ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda number: scanner.scan(UNSAFE if number % 2 else SAFE).status, range(40))
        )

    assert statuses == [Status.SAFE, Status.UNSAFE] * 20


#: Prints what a forked process sees: the report, and whether it uses connections of its parent.
FORKING = """
import os, sys
from keyhole import Scanner, Settings, scan_object
from keyhole.api import https_access, s3_access
settings = Settings(https_private=True, s3_endpoint_url="http://127.0.0.1:1", s3_region="us-east-1")
scanner = Scanner(settings=settings)
scans = (lambda: scan_object(sys.argv[1], settings=settings), lambda: scanner.scan(sys.argv[1]))
def connections():
    own = scanner._connections
    return [https_access(settings), s3_access(settings), own.https, own.s3]
before = [*(scan().status.value for scan in scans), connections()][-1]
if not os.fork():
    print([scan().status.value for scan in scans], [one in before for one in connections()], flush=True)
    os._exit(0)
os.wait()
print([scan().status.value for scan in scans], [one in before for one in connections()])
"""


def test_a_forked_process_uses_no_connection_of_its_parent() -> None:
    """With one socket for both, each could receive an answer about the other's object."""
    with origin_server() as origin:
        origin.reset(SAFE)
        done = subprocess.run(
            [sys.executable, "-c", FORKING, origin.url()],
            env={**os.environ, **CREDENTIALS, "NO_PROXY": "*"},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )

    both = ["safe", "safe"]
    assert done.stdout.splitlines() == [f"{both} {[False] * 4}", f"{both} {[True] * 4}"]


def test_many_are_taken_as_they_are_needed() -> None:
    taken = []

    def targets() -> Iterator[tuple[str, bytes]]:
        for number in range(200):
            taken.append(number)
            yield f"{number}.qcow2", SAFE

    names = set()
    with Scanner() as scanner:
        for count, report in enumerate(scanner.scan_many(targets(), threads=2), start=1):
            names.add(report.target)
            assert len(taken) - count <= 4

    assert names == {f"{number}.qcow2" for number in range(200)}


def test_a_slow_target_delays_no_other() -> None:
    others_are_done = threading.Event()

    def slow() -> Iterator[bytes]:
        assert others_are_done.wait(PATIENCE)
        yield SAFE

    with Scanner() as scanner:
        reports = scanner.scan_many([("slow", slow()), *((str(n), SAFE) for n in range(8))], threads=2)
        first = [next(reports).target for _ in range(8)]
        others_are_done.set()
        assert [report.target for report in reports] == ["slow"]

    assert "slow" not in first


def test_a_caller_can_stop_early_and_errors_of_targets_end_it() -> None:
    with Scanner() as scanner:
        reports = scanner.scan_many([SAFE] * 50)
        next(reports)
        reports.close()  # type: ignore[attr-defined] # a generator

        with pytest.raises(ValueError, match="threads must be at least 1"):
            scanner.scan_many([], threads=0)
        with pytest.raises(ValueError, match="names a bucket"):
            list(scanner.scan_many(["s3://bucket/"]))


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        ("s3://bucket/", ValueError, "names a bucket"),
        ("s3:/bucket/key", ValueError, "did you mean s3://bucket/key"),
        ("gs://bucket/key", ValueError, "scheme that Keyhole does not know"),
        ("https://", ValueError, "write https://HOST/PATH"),
        (17, TypeError, "int cannot be scanned"),
        (None, TypeError, "NoneType cannot be scanned"),
        (io.StringIO("text"), TypeError, "open it in binary mode"),
        (["text"], TypeError, r"a chunk is str, not bytes; to scan many targets, use Scanner\.scan_many"),
        ([Path("text")], TypeError, r"a chunk is PosixPath, not bytes; .* use Scanner\.scan_many"),
        ([17], TypeError, "a chunk is int, not bytes$"),
        ("", ValueError, "the target is empty; pass s3://bucket/key"),
    ],
)
def test_what_cannot_be_a_target_is_an_error(target: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        scan_object(target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("opened", "message"),
    [
        (partial(tempfile.NamedTemporaryFile, "w+"), "yields str, not bytes; open it in binary mode"),
        (partial(tempfile.SpooledTemporaryFile, mode="w+"), "yields str, not bytes"),
        (partial(codecs.open, __file__, "r", "utf-8"), "yields str, not bytes"),
        (partial(Path(os.devnull).open, "wb"), "not open for reading"),
    ],
)
def test_files_that_are_open_in_the_wrong_mode_are_errors(
    opened: Callable[[], AbstractContextManager[Any]], message: str
) -> None:
    """Not all text files are an `io.TextIOBase`."""
    with opened() as file, pytest.raises(TypeError, match=message):
        scan_object(file)


@pytest.mark.parametrize("name", ["", "image.qcow2", Path("image.qcow2")])
def test_a_name_is_no_content(name: str | Path) -> None:
    with pytest.raises(TypeError, match="is a name and not content; use scan_object"):
        inspect_stream(name)  # type: ignore[arg-type]


class Upload:
    """A file as Starlette and FastAPI give it to a program: its methods are coroutines."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


def test_what_is_asynchronous_is_told_how_to_scan_it() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield SAFE

    upload = Upload(SAFE)
    for scan in (scan_object, inspect_stream):
        with pytest.raises(TypeError, match=r"async_generator is asynchronous; .* keyhole\.aio"):
            scan(body())  # type: ignore[operator]
        with pytest.raises(TypeError, match=r"read of Upload is asynchronous; pass .* such as `\.file`"):
            scan(upload)  # type: ignore[operator]
    assert inspect_stream(upload.file, name="a.qcow2").status is Status.SAFE


def test_a_number_is_no_name() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(TypeError, match="the name is int, not str"):
        inspect_stream(file, name=file.name)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "targets",
    ["image.qcow2", Path("image.qcow2"), b"QFI", bytearray(b"QFI"), memoryview(b"QFI"), io.BytesIO(b"a\nb")],
)
def test_one_target_is_not_many(targets: Any) -> None:
    """Otherwise, the characters of a text or the lines of a file would be scanned."""
    with Scanner() as scanner, pytest.raises(TypeError, match="is one target; pass a list of targets"):
        scanner.scan_many(targets)


def test_a_stream_that_has_no_data_yet_is_not_at_its_end() -> None:
    """A verdict on the first bytes would be a verdict on a part of the image."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, SAFE[:100])
    with os.fdopen(reading, "rb", buffering=0) as file, pytest.raises(BlockingIOError, match="no data yet"):
        scan_object(file)
    os.close(writing)


def test_the_bytes_of_a_view_need_not_be_contiguous() -> None:
    twice = bytes(byte for byte in SAFE for _ in range(2))

    assert scan_object(memoryview(twice)[::2], name="a.qcow2").status is Status.SAFE


def test_the_entry_of_a_folder_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.qcow2").write_bytes(SAFE)
    for folder in (tmp_path, os.fsencode(tmp_path)):
        with os.scandir(folder) as entries:
            assert [scan_object(entry).status for entry in entries] == [Status.SAFE]  # type: ignore[arg-type]


def test_a_file_that_fails_without_an_error_number_says_why() -> None:
    class Lost(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError("the server is gone")

    report = scan_object(Lost(SAFE))

    assert (report.reasons, report.details["error"]) == (
        ("unreadable_file",),
        "cannot read: the server is gone",
    )


@pytest.mark.parametrize(
    "url",
    [
        "https:/user:Geh3im@host/a",
        "https//user:Geh3im@host/a",
        "https:/host/a?key=Geh3im",
        "httpss://user:Geh3im@host/a?key=Geh3im",
        "ftp://user:Geh3im@host/a",
        "https://user:Geh3im@ho st/a",
        "https://host:port/a?key=Geh3im",
        f"https://host/a?key=Geh3im{'x' * 20_000}",
    ],
    ids=lambda url: url[:40],
)
def test_an_error_about_a_url_contains_no_password(url: str) -> None:
    """A program prints the error with its traceback and its causes."""
    with pytest.raises(ValueError, match=r"URL|mean|scheme") as refused:
        scan_object(url)

    told, error = "", refused.value
    while error is not None:
        told += str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    assert "Geh3im" not in told


def test_a_version_is_only_for_s3() -> None:
    with pytest.raises(ValueError, match="version_id"):
        scan_object(SAFE, version_id="1")


def test_what_cannot_be_read_is_a_report() -> None:
    report = scan_object("no such file")

    assert (report.status, report.reasons) == (Status.UNREADABLE, ("not_found",))


def test_a_hostile_name_is_escaped() -> None:
    for report in (scan_object(SAFE, name="\x1b[2J\u202egnp"), inspect_stream(SAFE, name="\x1b[2J\u202egnp")):
        assert report.target == "\\x1b[2J\\u202egnp"


def test_an_error_of_the_callers_stream_reaches_the_caller() -> None:
    def broken() -> Iterator[bytes]:
        yield SAFE[:100]
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError), tempfile.TemporaryFile():
        scan_object(broken())


def test_the_public_names_are_imported_on_first_use() -> None:
    code = (
        "import sys, keyhole; print(*[m for m in ('pydantic', 'boto3', 'keyhole.api') if m in sys.modules])"
    )
    light = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    star = "from keyhole import *; print(*(name for name in dir() if name[0] != '_'))"
    names = subprocess.run([sys.executable, "-c", star], capture_output=True, check=True, text=True).stdout

    assert light.strip() == ""
    assert {*names.split(), "__version__"} == {*keyhole.__all__}
    assert {*keyhole._HOMES, "__version__"} == {*keyhole.__all__}
    assert set(keyhole.__all__) <= set(dir(keyhole))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = keyhole.Nothing


@pytest.mark.parametrize(
    "module",
    [
        *("keyhole.aio", "keyhole.api", "keyhole.api.scanner", "keyhole.api.recorded"),
        *("keyhole.api.recorded_async", "keyhole.scan.report", "keyhole.scan.rules", "keyhole.settings"),
    ],
)
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    done = doctest.testmod(import_module(module))

    assert done.attempted
    assert not done.failed


def test_every_public_function_states_its_errors_and_an_example() -> None:
    for name in ("scan_object", "inspect_stream", "Scanner", "load_policy", "verdicts", "verdict", "wait"):
        text = getattr(keyhole, name).__doc__
        for part in (">>> from keyhole import", "Args:", "Raises:"):
            assert part in text, (name, part)


def test_every_method_and_every_function_for_asyncio_has_an_example() -> None:
    named = {name: getattr(aio, name) for name in aio.__all__ if name != "Target"}
    for kind in (Scanner, aio.Scanner):
        named |= {f"{kind.__module__} {name}": getattr(kind, name) for name in ("scan", "scan_many", "close")}

    assert {"scan_object", "wait", "verdict", "verdicts"} < named.keys()
    assert [name for name, one in named.items() if ">>> " not in one.__doc__] == []
