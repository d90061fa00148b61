"""Estimates: the requests predicted from a listing, compared with the requests of real scans and tags."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.intake.audits.costs import BYTES_PER_OBJECT, GETS_PER_OBJECT, USUAL_TAGS, TagRequests
from keyhole.intake.audits.estimate import MOST_TAGS, Estimate, Estimator
from keyhole.intake.audits.prices import GB, load_prices
from keyhole.intake.listing import Listed
from keyhole.reasons import Status
from keyhole.results import tag_writer
from keyhole.results.tag_writer import TagOutcome, TagRequest, TagWriter
from keyhole.results.tags import TagDebt
from keyhole.scan.report import Report
from tests.pages import REFERENCE, rows

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PRICES = load_prices(None)
MIB = 1024**2
#: The default budget of a scan.
MOST_GETS, MOST_BYTES = 32, 16 * MIB


def estimator(*, tags: bool = False) -> Estimator:
    return Estimator(PRICES, tags, GETS_PER_OBJECT, BYTES_PER_OBJECT, MOST_GETS, MOST_BYTES)


def estimate(*listed: Listed, lists: int = 0, tags: bool = False) -> Estimate:
    reckoning = estimator(tags=tags)
    reckoning.listing(lists)
    for entry in listed:
        reckoning.add(entry)
    return reckoning.result()


def image(size: int = 100 * MIB, storage_class: str = "STANDARD", *, restored: bool = False) -> Listed:
    return Listed("a.img", size, storage_class=storage_class, restored=restored)


class TestDollars:
    def test_a_thousand_images_of_s3_standard(self) -> None:
        """Each image needs three GETs, and the listing one LIST."""
        found = estimate(*[image()] * 1000, lists=1)

        assert (found.objects, found.bytes, found.archived) == (1000, 1000 * 100 * MIB, 0)
        assert (found.expected.lists, found.expected.gets) == (1, 3000)
        assert found.expected.bytes_read == 1000 * BYTES_PER_OBJECT
        assert found.expected.requests == 3001
        assert found.expected.dollars == pytest.approx(0.005 / 1000 + 0.0012)

    def test_reading_an_inventory_costs_gets_and_no_lists(self) -> None:
        reckoning = estimator()
        reckoning.listing(7, by_gets=True)

        found = reckoning.result()

        assert (found.expected.lists, found.expected.gets, found.most.gets) == (0, 7, 7)
        assert found.expected.dollars == pytest.approx(7 * PRICES.get("STANDARD", 0))

    def test_tags_cost_more_than_reading(self) -> None:
        """The requests are: read, check, write, read back, check again."""
        found = estimate(*[image()] * 1000, tags=True)

        assert (found.expected.tag_reads, found.expected.tag_writes, found.expected.heads) == (
            2000,
            1000,
            2000,
        )
        assert found.expected.dollars == pytest.approx(0.0012 + 2 * 0.0004 + 0.005 + 2 * 0.0004)

    def test_cold_classes_charge_for_what_is_read(self) -> None:
        found = estimate(*[image(storage_class="GLACIER_IR")] * 1000)

        read = 1000 * BYTES_PER_OBJECT / GB
        assert found.expected.dollars == pytest.approx(3 * 0.01 + read * 0.03)

    def test_a_head_costs_what_a_get_of_its_class_does(self) -> None:
        """Requests for tags cost as much as in S3 Standard."""
        plain = estimate(image(storage_class="GLACIER_IR"))
        tagged = estimate(image(storage_class="GLACIER_IR"), tags=True)

        more = 2 * 0.01 / 1000 + 2 * PRICES.get_tagging() + PRICES.put_tagging()
        assert tagged.expected.dollars - plain.expected.dollars == pytest.approx(more)

    def test_at_most_is_what_the_budget_allows(self) -> None:
        found = estimate(*[image(storage_class="STANDARD_IA")] * 10, lists=1)

        assert (found.most.lists, found.most.gets, found.most.bytes_read) == (1, 320, 10 * MOST_BYTES)
        read = 10 * MOST_BYTES / GB
        assert found.most.dollars == pytest.approx(0.005 / 1000 + 320 * 0.001 / 1000 + read * 0.01)

    def test_no_more_is_read_than_there_is(self) -> None:
        assert estimate(image(size=1000), image(size=0)).expected.bytes_read == 1000

    def test_nothing_costs_nothing(self) -> None:
        found = estimate()
        assert (found.objects, found.classes, found.expected.dollars, found.most.dollars) == (0, {}, 0, 0)

    def test_the_prices_are_named(self) -> None:
        found = estimate()
        assert (found.prices_date, found.region) == (PRICES.date, "us-east-1")


class TestClasses:
    def test_what_is_archived_is_counted_and_not_read(self) -> None:
        found = estimate(image(storage_class="GLACIER"), image(storage_class="DEEP_ARCHIVE"), tags=True)

        assert (found.objects, found.archived, found.bytes) == (2, 2, 200 * MIB)
        assert found.expected.requests == found.most.requests == 0
        assert found.expected.dollars == found.most.dollars == 0

    def test_what_is_restored_is_read(self) -> None:
        found = estimate(image(storage_class="GLACIER", restored=True), image(storage_class="GLACIER"))

        assert (found.objects, found.archived, found.expected.gets) == (2, 1, 3)
        assert found.classes["GLACIER"].model_dump() == {
            "objects": 2,
            "bytes": 200 * MIB,
            "archived": 1,
            "priced": True,
        }

    def test_a_class_without_a_price_is_named_and_reckoned_as_the_dearest(self) -> None:
        found = estimate(image(storage_class="MYSTERY"), image())

        assert found.unpriced == ("MYSTERY",)
        dear, cheap = estimate(image(storage_class="GLACIER_IR")), estimate(image())
        assert found.expected.dollars == pytest.approx(dear.expected.dollars + cheap.expected.dollars)


LISTED = st.builds(
    Listed,
    key=st.just("a"),
    size=st.integers(min_value=0, max_value=5 * 1024**4),
    storage_class=st.sampled_from([*PRICES.classes, "MYSTERY"]),
    restored=st.booleans(),
)
LISTINGS = st.lists(LISTED, max_size=30)


@given(LISTINGS, LISTINGS, st.booleans())
def test_an_estimate_of_two_listings_is_the_sum_of_both(
    first: list[Listed], second: list[Listed], tagged: bool
) -> None:
    """The order makes no difference."""
    one, two = estimate(*first, lists=1, tags=tagged), estimate(*second, lists=2, tags=tagged)
    both = estimate(*reversed(second), *first, lists=3, tags=tagged)

    assert both.objects == one.objects + two.objects == sum(it.objects for it in both.classes.values())
    assert both.bytes == one.bytes + two.bytes
    for name in ("expected", "most"):
        parts, whole = [getattr(one, name), getattr(two, name)], getattr(both, name)
        assert whole.requests == sum(part.requests for part in parts)
        assert whole.bytes_read == sum(part.bytes_read for part in parts)
        assert whole.dollars == pytest.approx(sum(part.dollars for part in parts))


@given(LISTINGS, st.booleans())
def test_what_is_expected_is_never_more_than_the_most(listed: list[Listed], tagged: bool) -> None:
    found = estimate(*listed, lists=1, tags=tagged)
    assert found.expected.requests <= found.most.requests
    assert found.expected.bytes_read <= found.most.bytes_read
    assert found.expected.dollars <= found.most.dollars


class TestAgainstWhatIsMeasured:
    def test_a_usual_image_takes_what_the_table_of_the_reference_says(self) -> None:
        """The average is neither more nor much less."""
        cells = rows(REFERENCE["cost"], "image")
        gets = [int(row[2]) for row in cells]
        kib = [int(row[4].replace("KiB", "").replace(",", "")) for row in cells]

        assert len(gets) >= 5
        assert GETS_PER_OBJECT * 0.8 <= sum(gets) / len(gets) <= GETS_PER_OBJECT
        assert BYTES_PER_OBJECT * 0.8 <= sum(kib) * 1024 / len(kib) <= BYTES_PER_OBJECT

    def test_tagging_takes_the_usual_requests(self, s3: "S3Client", bucket: str) -> None:
        assert tagged(s3, bucket) == (TagOutcome.WRITTEN, USUAL_TAGS)

    def test_tags_that_are_fought_for_take_the_most_but_a_write(self, s3: "S3Client", bucket: str) -> None:
        """Another client always overwrites the tags."""

        def overwrite(write: int) -> None:
            if write >= 0:
                s3.put_object_tagging(
                    Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "x", "Value": "y"}]}
                )

        outcome, requests = tagged(s3, bucket, after_write=overwrite)
        assert outcome is TagOutcome.FAILED_CONTENDED
        assert requests == TagRequests(reads=5, looks=5, writes=4)

    def test_tags_on_an_object_that_is_replaced_at_last_take_the_most(
        self, s3: "S3Client", bucket: str
    ) -> None:
        """The tags are removed again, which is one more write."""

        def intrude(write: int) -> None:
            if write < tag_writer._WRITES - 1:
                s3.put_object_tagging(
                    Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "x", "Value": "y"}]}
                )
            else:
                kept = s3.get_object_tagging(Bucket=bucket, Key="a")["TagSet"]
                s3.put_object(Bucket=bucket, Key="a", Body=b"another")
                s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": kept})

        outcome, requests = tagged(s3, bucket, after_write=intrude)
        assert outcome is TagOutcome.SKIPPED_CHANGED
        assert requests == MOST_TAGS


def tagged(
    s3: "S3Client", bucket: str, *, after_write: Callable[[int], None] = lambda _: None
) -> tuple[TagOutcome, TagRequests]:
    """Tag an object. Each of Keyhole's writes is followed by `after_write`, with its number from 0."""
    etag = s3.put_object(Bucket=bucket, Key="a", Body=b"0123")["ETag"]
    report = Report(
        target=f"s3://{bucket}/a",
        bucket=bucket,
        key="a",
        etag=etag,
        status=Status.SAFE,
        scanned_at=datetime.now(UTC),
        scanner="test",
        ruleset="test",
    )
    asked: Counter[TagRequest] = Counter()

    def ask(request: TagRequest) -> None:
        if request is TagRequest.READ and asked[TagRequest.WRITE]:
            after_write(asked[TagRequest.WRITE] - 1)
        asked[request] += 1

    outcome = TagWriter(s3).write(TagDebt.of(report), asked=ask)
    return outcome, TagRequests(asked[TagRequest.READ], asked[TagRequest.LOOK], asked[TagRequest.WRITE])
