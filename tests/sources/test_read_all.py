"""Several ranges of one object, fetched at once: their bytes, their costs, and what happens if one fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyhole.builders import Image
from keyhole.inspectors.region import ByteRange
from keyhole.sources.errors import BudgetExhaustedError, ObjectChangedError
from keyhole.sources.local import open_local
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import AT_ONCE, S3Source
from keyhole.sources.s3_access import S3Access
from tests.bench.origin import Network, origin
from tests.servers.access import s3_access
from tests.servers.scripted_s3 import BUCKET, ScriptedS3, break_off, refuse, right

BODY = bytes(range(256)) * 4096
PARTS = [ByteRange(100, 50), ByteRange(5000, 300_000), ByteRange(900_000, 10), ByteRange(1_000_000, 48_576)]
#: The keys that obstore reads, and one that only boto3 can name.
BY_OBSTORE, BY_BOTO3 = "image", "images//image"


@pytest.fixture
def access(scripted: ScriptedS3) -> Iterator[S3Access]:
    """The access to a server that holds the object under both keys."""
    for key in (BY_OBSTORE, BY_BOTO3):
        scripted.put(key, Image.of(len(BODY), [(0, BODY)]))
    with s3_access(scripted.url) as access:
        yield access


def pinned(access: S3Access, meter: Meter, key: str = BY_OBSTORE) -> S3Source:
    """The object after its first read, in a bucket that was read before."""
    known = S3Source(access, BUCKET, BY_OBSTORE, version_id=None, meter=Meter(Budget()))
    for offset in (0, 16):
        known.read(offset, 16)
    source = S3Source(access, BUCKET, key, version_id=None, meter=meter)
    source.read(0, 16)
    return source


def expected(parts: list[ByteRange] = PARTS) -> list[bytes]:
    """The bytes of the ranges."""
    return [BODY[part.offset : part.end] for part in parts]


@pytest.mark.parametrize("key", [BY_OBSTORE, BY_BOTO3])
def test_ranges_are_read_in_their_order_and_each_is_counted(access: S3Access, key: str) -> None:
    meter = Meter(Budget())
    source = pinned(access, meter, key)
    assert list(source.read_all(PARTS)) == expected()
    assert meter.requests == 1 + len(PARTS)
    assert meter.bytes_read == 16 + sum(part.length for part in PARTS)


def test_the_ranges_of_a_round_are_requested_at_once(tmp_path: Path) -> None:
    (tmp_path / BY_OBSTORE).write_bytes(BODY)
    with origin(tmp_path, Network(ttfb=0.2)) as server, s3_access(server.url) as access:
        source = pinned(access, Meter(Budget()))
        assert server.counts().most_at_once == 1
        assert list(source.read_all(PARTS)) == expected()
        assert server.counts().most_at_once == AT_ONCE == len(PARTS)


def test_the_first_object_of_a_bucket_is_read_one_range_after_the_other(tmp_path: Path) -> None:
    (tmp_path / BY_OBSTORE).write_bytes(BODY)
    with origin(tmp_path, Network(ttfb=0.1)) as server, s3_access(server.url) as access:
        source = S3Source(access, BUCKET, BY_OBSTORE, version_id=None, meter=Meter(Budget()))
        source.read(0, 16)
        assert list(source.read_all(PARTS)) == expected()
        assert server.counts().most_at_once == 1


def test_more_ranges_go_in_groups(access: S3Access) -> None:
    parts = [ByteRange(number * 1000, 10) for number in range(3 * AT_ONCE + 1)]
    assert list(pinned(access, Meter(Budget())).read_all(parts)) == expected(parts)


@pytest.mark.parametrize("fault", [refuse(503, "SlowDown"), break_off(2)], ids=["slow down", "broken off"])
def test_a_range_that_fails_is_read_again_alone(
    access: S3Access, scripted: ScriptedS3, fault: object
) -> None:
    meter = Meter(Budget())
    source = pinned(access, meter)
    scripted.script(right, fault, then=right)
    assert list(source.read_all(PARTS)) == expected()
    assert meter.requests == len(scripted.requests) - 2 == 1 + len(PARTS) + 1


def test_every_request_states_the_etag_and_a_replaced_object_is_noticed(
    access: S3Access, scripted: ScriptedS3
) -> None:
    source = pinned(access, Meter(Budget()))
    scripted.put(BY_OBSTORE, Image.of(len(BODY), [(0, b"another")]))
    with pytest.raises(ObjectChangedError):
        list(source.read_all(PARTS))
    assert all(request.if_match for request in scripted.requests[3:])


@pytest.mark.parametrize("budget", [Budget(requests=3), Budget(bytes=300_100)], ids=["requests", "bytes"])
def test_what_the_budget_allows_is_read_before_it_runs_out(access: S3Access, budget: Budget) -> None:
    meter = Meter(budget)
    reading = pinned(access, meter).read_all(PARTS)
    assert [next(reading), next(reading)] == expected()[:2]
    with pytest.raises(BudgetExhaustedError):
        for _ in reading:
            pass
    assert meter.requests <= budget.requests
    assert meter.bytes_read <= budget.bytes


def test_a_rate_limit_counts_every_range(access: S3Access) -> None:
    turns: list[None] = []
    meter = Meter(Budget(), lambda: turns.append(None))
    list(pinned(access, meter).read_all(PARTS))
    assert len(turns) == 1 + len(PARTS)


def test_a_file_is_read_range_by_range(tmp_path: Path) -> None:
    (path := tmp_path / "image").write_bytes(BODY)
    meter = Meter(Budget())
    assert list(open_local(path, meter).read_all(PARTS)) == expected()
    assert meter.requests == len(PARTS)
