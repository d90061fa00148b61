"""The scanner of the Python API: scans many targets with one policy and one set of connections."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from keyhole.api.connections import Connections, OwnConnections, SharedConnections
from keyhole.api.content import BeforeRead, Content, is_content, name_of, named, scan_content
from keyhole.api.objects import is_url, scan_path, scan_s3, scan_url
from keyhole.scan.memory import MemoryPool
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target as Named
from keyhole.scan.rules import Policy, load_policy
from keyhole.scan.settings import ScanSettings
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_object_uri
from keyhole.sources.uri_hints import exists, uri_trouble

if TYPE_CHECKING:
    from concurrent.futures import Future

#: What can be scanned: the name of an object (`s3://bucket/key`, `https://host/path`), the path of a file, or
#: content.
Target: TypeAlias = str | os.PathLike[str] | Content
#: A policy: the name of a profile, the path of a policy file, or a loaded policy.
PolicyName: TypeAlias = str | os.PathLike[str] | Policy

#: For each thread, at most this many targets of `scan_many` are taken: the one that is scanned, and one that
#: waits for the thread.
WAITING: Final = 2


def scan_object(
    target: Target,
    *,
    name: str | None = None,
    version_id: str | None = None,
    policy: PolicyName | None = None,
    settings: Settings | None = None,
) -> Report:
    """Return the report on one object, file or stream.

    All calls in a process share their connections. Use a `Scanner` if you want to close them.

    >>> from keyhole import scan_object
    >>> report = scan_object("debian.qcow2", policy="openstack")  # doctest: +SKIP
    >>> report.status, report.virtual_size  # doctest: +SKIP
    (<Status.SAFE: 'safe'>, 10737418240)

    Args:
        target: `s3://bucket/key`, `https://host/path`, the path of a file, or content: bytes, a binary file
            object, or an iterable of bytes.
        name: The name in the report; for content, its suffix counts as a declared format.
        version_id: The version of the object; only for objects in S3.
        policy: Which images are accepted; by default the policy of the settings.
        settings: The settings; by default those of the environment.

    Raises:
        ValueError: The target does not name an object, or a setting is wrong.
        TypeError: The target is neither a name nor content.
        BlockingIOError: A stream does not block, and has no data yet.
        keyhole.errors.KeyholeError: The policy cannot be read. If the object cannot be read, there is no
            error: the report says why, with the status `unreadable` or `failed`.
    """
    settings = settings or Settings()
    return scan_target(
        target,
        rules=rules_of(policy, settings),
        connections=SharedConnections(settings),
        name=name,
        version_id=version_id,
    )


def inspect_stream(
    content: Content,
    *,
    name: str = "-",
    policy: PolicyName | None = None,
    settings: Settings | None = None,
) -> Report:
    """Return the report on content: bytes, a binary file object, or an iterable of bytes.

    If the content can seek, Keyhole reads only the ranges that it needs. Otherwise it reads the whole content
    once. If the inspection then needs a range that has already passed, the status is `inconclusive`, with the
    reason `missed`.

    >>> from keyhole import inspect_stream
    >>> inspect_stream([b"%PDF-1.7 ", b"a document"]).reasons
    ('not_an_image',)

    Args:
        content: The content. The position of a file object is the same afterwards as before.
        name: The name in the report; its suffix counts as a declared format.
        policy: Which images are accepted; by default the policy of the settings.
        settings: The settings; by default those of the environment.

    Raises:
        ValueError: A setting is wrong.
        TypeError: This is not content.
        BlockingIOError: A stream does not block, and has no data yet.
        keyhole.errors.KeyholeError: The policy cannot be read.
    """
    return scan_content(content, Named(named(name)), rules_of(policy, settings or Settings()))


class Scanner:
    """Scans many targets with one policy, and closes the connections that it opened.

    Threads can share a scanner. It reads the environment and AWS's configuration once.

    >>> from keyhole import Scanner
    >>> with Scanner(policy="azure") as scanner:
    ...     scanner.scan(b"MZ").status
    <Status.UNRECOGNIZED: 'unrecognized'>

    Args:
        policy: Which images are accepted; by default the policy of the settings.
        settings: The settings; by default those of the environment.

    Raises:
        ValueError: A setting is wrong.
        keyhole.errors.KeyholeError: The policy cannot be read.
    """

    def __init__(self, *, policy: PolicyName | None = None, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._rules = rules_of(policy, settings)
        self._threads = settings.scan_threads
        self._connections = OwnConnections(settings)
        self._memory = MemoryPool(settings.memory_bytes)
        self._closed = False

    def scan(
        self,
        target: Target,
        *,
        name: str | None = None,
        version_id: str | None = None,
        before_read: BeforeRead | None = None,
    ) -> Report:
        """Return the report on one target. The arguments and errors are those of `scan_object`.

        >>> from keyhole import Scanner
        >>> with Scanner() as scanner:
        ...     scanner.scan(b"%PDF-1.7 a document", name="disk.qcow2").reasons
        ('not_an_image',)

        Args:
            target: The target.
            name: The name in the report.
            version_id: The version of the object; only for objects in S3.
            before_read: Called before every request or read. If it raises an error, the scan ends with it.

        Raises:
            RuntimeError: The scanner is closed.
        """
        if self._closed:
            raise RuntimeError("the scanner is closed; create another one")
        return scan_target(
            target,
            rules=self._rules,
            connections=self._connections,
            name=name,
            version_id=version_id,
            before_read=before_read,
            memory=self._memory,
        )

    def scan_many(
        self, targets: Iterable[Target | tuple[str, Target]], *, threads: int | None = None
    ) -> Iterator[Report]:
        """Yield the report on each target when its scan ends, so not in the order of the targets.

        At most two targets for each thread are taken from `targets` and not yet yielded, so the memory is
        bounded even if there are millions of targets. The scans begin with the first `next`. If you stop
        early, running scans end and waiting scans do not begin.

        >>> from keyhole import Scanner
        >>> with Scanner() as scanner:
        ...     reports = list(scanner.scan_many([("a.txt", b"one"), ("b.txt", b"two")]))
        >>> sorted(report.target for report in reports)
        ['a.txt', 'b.txt']

        Args:
            targets: The targets. A pair is a name for the report, and a target.
            threads: How many scans run at the same time; by default `KEYHOLE_SCAN_THREADS`.

        Raises:
            ValueError: `threads` is below 1, or a target does not name an object.
            TypeError: A target is neither a name nor content.
        """
        count = self._threads if threads is None else threads
        if count < 1:
            raise ValueError("threads must be at least 1")
        check_many(targets)
        return self._reports(iter(targets), count)

    def _reports(self, targets: Iterator[Target | tuple[str, Target]], threads: int) -> Iterator[Report]:
        from concurrent.futures import (  # noqa: PLC0415 - the scan of one target does not need it
            FIRST_COMPLETED,
            ThreadPoolExecutor,
            wait,
        )

        pool = ThreadPoolExecutor(threads, thread_name_prefix="scan")
        under_way: set[Future[Report]] = set()
        try:
            for target in targets:
                under_way.add(pool.submit(self._scan_named, target))
                full = len(under_way) >= threads * WAITING
                ended, under_way = wait(under_way, None if full else 0, FIRST_COMPLETED)
                for one in ended:
                    yield one.result()
            while under_way:
                ended, under_way = wait(under_way, None, FIRST_COMPLETED)
                for one in ended:
                    yield one.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _scan_named(self, target: Target | tuple[str, Target]) -> Report:
        name, one = pair(target)
        return self.scan(one, name=name)

    def close(self) -> None:
        """Close the connections. Scans that are running may fail; later scans raise `RuntimeError`.

        `with` also calls this method.

        >>> from keyhole import Scanner
        >>> scanner = Scanner()
        >>> scanner.close()
        """
        self._closed = True
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_many(targets: object) -> None:
    """Check that the targets of `scan_many` are not one target.

    Otherwise, the characters of a text or the lines of a file would be scanned.

    Raises:
        TypeError: They are one target.
    """
    if isinstance(targets, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(targets, "read"):
        raise TypeError(f"{type(targets).__name__} is one target; pass a list of targets, or use scan")


def pair(target: Target | tuple[str, Target]) -> tuple[str | None, Target]:
    """Return the name, which can be missing, and the target of an element of `scan_many`."""
    if isinstance(target, tuple) and len(target) == 2 and isinstance(target[0], str):
        return target
    return None, cast("Target", target)


def rules_of(policy: PolicyName | None, settings: Settings) -> ScanSettings:
    """Return the settings of a scan with a policy."""
    if policy is None:
        return settings.scan
    if not isinstance(cast("object", policy), Policy | str | os.PathLike):
        raise TypeError(
            f"the policy is {type(policy).__name__}; pass the name of a profile, the path of a policy file, "
            "or what load_policy returns"
        )
    loaded = policy if isinstance(policy, Policy) else load_policy(policy)
    return replace(settings.scan, policy=loaded)


def scan_target(
    target: Target,
    *,
    rules: ScanSettings,
    connections: Connections,
    name: str | None = None,
    version_id: str | None = None,
    before_read: BeforeRead | None = None,
    memory: MemoryPool | None = None,
) -> Report:
    """Return the report on one target. `rules` are the settings of the scan; see `scan_object`."""
    if version_id is not None and not (isinstance(target, str) and target.startswith("s3://")):
        raise ValueError("a version_id can only be used with an object in S3, s3://bucket/key")
    if is_content(target):
        content = cast("Content", target)
        stated = Named(name_of(content) if name is None else named(name))
        report = scan_content(content, stated, rules, before_read, memory)
    elif isinstance(target, str) and target.startswith("s3://"):
        bucket, key = parse_object_uri(target)
        report = scan_s3(connections.s3, bucket, key, version_id, rules, before_read, memory)
    elif isinstance(target, str) and is_url(target):
        report = scan_url(connections.https, target, rules, before_read, memory)
    else:
        report = scan_path(_path(cast("str | os.PathLike[str]", target)), rules, before_read, memory)
    return report if name is None else report.model_copy(update={"target": named(name)})


def _path(target: str | os.PathLike[str]) -> Path:
    """Return the path of a file.

    Raises:
        ValueError: The text is empty, or it resembles a URI, and there is no such file.
    """
    path = os.fsdecode(target)  # an entry of `os.scandir` can have a path of bytes
    if not path:
        raise ValueError(
            "the target is empty; pass s3://bucket/key, https://host/path, the path of a file, or content"
        )
    trouble = None if exists(path) else uri_trouble(path, ("s3", "https"))
    if trouble is not None:
        raise ValueError(trouble)
    return Path(path)
