"""A dry run reports what the audit would do, and sends only LIST requests."""

from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.api import scan_s3
from keyhole.intake.audits.audit import AuditSpec, Totals
from keyhole.intake.audits.costs import BYTES_PER_OBJECT, GETS_PER_OBJECT, USUAL_TAGS, cost_of_tags
from keyhole.intake.audits.dry_run import dry_run
from keyhole.intake.audits.estimate import MOST_TAGS, Estimate, Estimator
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.listing import lister_for
from keyhole.intake.selection import Selection
from keyhole.results.lookup import Lookup
from keyhole.results.redis_store import RedisStore
from keyhole.scan.policy import ruleset
from keyhole.scan.settings import ScanSettings
from keyhole.sources.s3_access import S3Access
from tests.servers.recorded_moto import RecordedMoto

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

RULES = ruleset(ScanSettings().policy)


@pytest.fixture
def images(s3: "S3Client", bucket: str) -> str:
    """A bucket with five objects, of which one is archived."""
    for number in range(4):
        s3.put_object(Bucket=bucket, Key=f"{number}.img", Body=b"x" * (number + 1))
    s3.put_object(Bucket=bucket, Key="z.img", Body=b"x", StorageClass="DEEP_ARCHIVE")
    return bucket


def run(
    access: S3Access, valkey: redis.Redis, bucket: str, *, page_size: int = 2, **spec: object
) -> tuple[Totals, Estimate, list[int]]:
    pages: list[int] = []
    totals, estimate = dry_run(
        AuditSpec.model_validate({"bucket": bucket, **spec}),
        lister_for(access.client, bucket, "", page_size=page_size),
        Lookup(valkey),
        Estimator(
            load_prices(None),
            tags=False,
            gets_per_object=GETS_PER_OBJECT,
            bytes_per_object=BYTES_PER_OBJECT,
            most_gets=32,
            most_bytes=1024,
            owner="owner_tag" in spec,
        ),
        ruleset=RULES,
        on_page=lambda so_far: pages.append(so_far.listed),
    )
    return totals, estimate, pages


def test_it_lists_all_and_reads_nothing(
    recorded: RecordedMoto, recorded_access: S3Access, valkey: redis.Redis, images: str
) -> None:
    recorded.requests.clear()

    totals, estimate, pages = run(recorded_access, valkey, images)

    assert (totals.listed, totals.queued, totals.archived, totals.listed_bytes) == (5, 4, 1, 11)
    assert (estimate.objects, estimate.archived, estimate.expected.gets) == (5, 1, 12)
    assert (totals.lists, estimate.expected.lists) == (3, 3)
    assert pages == [2, 4, 5]
    assert len(recorded.requests) == 3
    assert all(request.query.get("list-type") == "2" for request in recorded.requests)


def test_what_has_its_verdict_is_not_reckoned_with(
    recorded_access: S3Access, valkey: redis.Redis, images: str
) -> None:
    report = scan_s3(recorded_access, images, "1.img", None, ScanSettings())
    RedisStore(valkey, expiry_seconds=None, stream_length=1).write(report, job_id="j", sequencer=None)

    totals, estimate, _ = run(recorded_access, valkey, images, check_tags=True)
    assert (totals.queued, totals.unchanged, estimate.expected.gets) == (3, 1, 9)
    assert estimate.expected.tag_reads == 1

    totals, estimate, _ = run(recorded_access, valkey, images, full=True)
    assert (totals.queued, totals.unchanged, estimate.expected.gets) == (4, 0, 12)


def test_correcting_tags_is_reckoned_with_as_if_all_were_wrong(
    recorded_access: S3Access, valkey: redis.Redis, images: str
) -> None:
    """The dry run reads no tags, so its estimate is too high rather than too low."""
    report = scan_s3(recorded_access, images, "1.img", None, ScanSettings())
    RedisStore(valkey, expiry_seconds=None, stream_length=1).write(report, job_id="j", sequencer=None)

    _, compared, _ = run(recorded_access, valkey, images, check_tags=True)
    _, fixed, _ = run(recorded_access, valkey, images, fix_tags=True)

    for less, more, tags in (
        (compared.expected, fixed.expected, USUAL_TAGS),
        (compared.most, fixed.most, MOST_TAGS),
    ):
        assert more.tag_reads - less.tag_reads == tags.reads
        assert more.tag_writes - less.tag_writes == tags.writes
        assert more.heads - less.heads == tags.looks
        assert more.dollars - less.dollars == pytest.approx(
            cost_of_tags(load_prices(None), "STANDARD", tags).dollars
        )


def test_what_is_not_selected_is_left_out_and_a_limit_ends_it(
    recorded_access: S3Access, valkey: redis.Redis, images: str
) -> None:
    selection = Selection(exclude=("0*",))

    totals, estimate, pages = run(recorded_access, valkey, images, selection=selection, limit=2)

    assert (totals.listed, totals.left_out, totals.queued) == (3, 1, 2)
    assert estimate.objects == 2
    assert pages == [2, 3]


def test_it_counts_what_an_audit_leaves_out_before_it_ends(
    recorded_access: S3Access, valkey: redis.Redis, images: str
) -> None:
    """Two objects are included, the third is not selected, and the fourth is beyond the limit."""
    totals, _, _ = run(recorded_access, valkey, images, selection=Selection(exclude=("2*",)), limit=2)

    assert (totals.listed, totals.left_out, totals.queued) == (3, 1, 2)


@pytest.mark.parametrize("owner", [False, True])
def test_the_requests_that_find_owners_are_included(
    recorded_access: S3Access, valkey: redis.Redis, images: str, owner: bool
) -> None:
    """Each scanned object, and the archived one, takes one request for its tags."""
    _, estimate, _ = run(recorded_access, valkey, images, **({"owner_tag": "team"} if owner else {}))

    assert estimate.expected.tag_reads == estimate.most.tag_reads == (5 if owner else 0)
    assert (estimate.expected.heads, estimate.expected.tag_writes) == (0, 0)
