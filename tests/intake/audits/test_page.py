"""One page of an audit: which objects are scanned and which are not, and where the audit ends."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import redis

from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, How, Totals
from keyhole.intake.audits.batches import MESSAGE_BYTES, batch_size, page_size
from keyhole.intake.audits.costs import GETS_PER_OBJECT, USUAL_TAGS, cost_of_tags
from keyhole.intake.audits.page import Auditor
from keyhole.intake.audits.prices import load_prices
from keyhole.intake.audits.records import NANO, PageResult, Place
from keyhole.intake.listing import Listed, Page
from keyhole.intake.selection import Selection
from keyhole.jobs.entry import ENTRY
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Status
from keyhole.results.lookup import Lookup
from keyhole.results.owner import Owner
from keyhole.results.redis_store import RedisStore
from keyhole.results.tag_check import TagFinding, TagQuestion
from keyhole.results.tags import TagDebt
from keyhole.scan.report import Report

WHEN = datetime(2026, 5, 1, tzinfo=UTC)
RULESET = "3:default"


def listed(key: str, **facts: object) -> Listed:
    return Listed(key, 100, f'"{key}"', WHEN)._replace(**facts)


def report(key: str, status: Status = Status.SAFE, **facts: object) -> Report:
    """The verdict on `listed(key)`."""
    plain = Report(
        target=f"s3://images/{key}",
        bucket="images",
        key=key,
        etag=f'"{key}"',
        size=100,
        last_modified=WHEN,
        status=status,
        scanned_at=WHEN,
        scanner="keyhole/test",
        ruleset=RULESET,
    )
    return plain.model_copy(update=facts)


class Site:
    """A listing, verdicts and tags, as a test specifies them."""

    ordered, by_gets = True, False

    def __init__(self, valkey: redis.Redis) -> None:
        self.store = RedisStore(valkey, expiry_seconds=None, stream_length=1)
        self.lookup = Lookup(valkey)
        self.prices = load_prices(None)
        self.listed: list[Listed] = []
        self.cursor: str | None = None
        self.tag_messages: dict[str, str] = {}
        self.tags_checked: list[str] = []
        self.owners: dict[str, Owner] = {}
        self.unreadable: str | None = None
        self.totals = Totals()
        self.tags = False
        self.lists = 0

    def page(self, _: str | None) -> Page:
        self.lists += 1
        return Page(tuple(self.listed), self.cursor, 1)

    def check_tags(self, questions: Sequence[TagQuestion]) -> list[TagFinding]:
        self.tags_checked += [question.key for question in questions]
        return [
            TagFinding(self._message(one), 1, one.key == self.unreadable, self.owners.get(one.key))
            for one in questions
        ]

    def _message(self, question: TagQuestion) -> str | None:
        return None if question.report is None else self.tag_messages.get(question.key)

    def verdict(self, *reports: Report) -> None:
        for one in reports:
            self.store.write(one, job_id=one.target, sequencer=None)

    def process(
        self, *, page: int = 0, after: str | None = None, **spec: object
    ) -> tuple[PageResult, tuple[Report, ...]]:
        audit = Audit(
            id="a",
            spec=AuditSpec.model_validate({"bucket": "images", **spec}),
            state=AuditState.RUNNING,
            started_at=WHEN,
            totals=self.totals,
        )
        auditor = Auditor(self.lookup, self.prices, self.check_tags, RULESET, tags=self.tags)
        return auditor.process(audit, Place(page, None, after), self)


@pytest.fixture
def site(valkey: redis.Redis) -> Site:
    return Site(valkey)


def queued(result: PageResult) -> list[str]:
    return [job.key for batch in result.batches for job in batch.jobs]


class TestWhereAnObjectBelongs:
    def test_what_has_no_verdict_is_scanned(self, site: Site) -> None:
        site.listed = [listed("a"), listed("b", storage_class="STANDARD_IA")]

        result, reports = site.process(page=7)

        (batch,) = result.batches
        assert (batch.id, batch.queue, batch.audit) == ("a-7-b0", AUDITS, "a")
        assert [(job.id, job.key, job.storage_class) for job in batch.jobs] == [
            ("a-7-0", "a", None),
            ("a-7-1", "b", "STANDARD_IA"),
        ]
        assert result.counts == {
            "lists": 1,
            "requests": 1,
            "nanodollars": round(site.prices.list_request() * NANO),
            "listed": 2,
            "listed_bytes": 200,
            "queued": 2,
        }
        assert reports == ()

    def test_what_is_unchanged_is_not(self, site: Site) -> None:
        site.verdict(report("a", Status.UNSAFE), report("b", etag='"other"'))
        site.listed = [listed("a"), listed("b")]

        result, _ = site.process()

        assert queued(result) == ["b"]
        assert result.counts["unchanged"] == result.counts["status:unsafe"] == 1
        assert [(row.status, row.how) for row in result.rows] == [(Status.UNSAFE, How.UNCHANGED)]

    def test_unless_all_is_to_be_scanned(self, site: Site) -> None:
        site.verdict(report("a"))
        site.listed = [listed("a")]

        assert queued(site.process(full=True)[0]) == ["a"]

    def test_what_is_not_selected_is_left_out(self, site: Site) -> None:
        site.listed = [listed("a.qcow2"), listed("b.txt"), listed("c.qcow2", size=5)]

        result, _ = site.process(selection=Selection(suffixes=(".qcow2",), min_size=10))

        assert queued(result) == ["a.qcow2"]
        assert (result.counts["listed"], result.counts["left_out"]) == (3, 2)
        assert result.counts["listed_bytes"] == 100

    def test_what_is_archived_gets_its_verdict_without_a_scan(self, site: Site) -> None:
        site.listed = [
            listed("a", storage_class="GLACIER"),
            listed("b", storage_class="DEEP_ARCHIVE", restored=True),
        ]

        result, (verdict,) = site.process(full=True)

        assert queued(result) == ["b"]
        assert (verdict.key, verdict.status, verdict.reasons) == ("a", Status.UNREADABLE, ("archived",))
        assert (verdict.etag, verdict.size, verdict.last_modified) == ('"a"', 100, WHEN)
        assert result.counts["archived"] == result.counts["status:unreadable"] == 1
        site.verdict(verdict)
        assert site.process()[1] == ()

    def test_a_version_is_scanned_as_itself(self, site: Site) -> None:
        site.verdict(report("a", version_id="v1"))
        site.listed = [listed("a", version_id="v1"), listed("a", version_id="v2")]

        result, _ = site.process(versions=True)

        assert [(job.key, job.version_id) for job in result.batches[0].jobs] == [("a", "v2")]

    def test_where_the_next_page_begins_is_told(self, site: Site) -> None:
        site.listed, site.cursor = [listed("a"), listed("b")], "more"

        result, _ = site.process()

        assert (result.cursor, result.after, result.ends_as) == ("more", "b", AuditState.DONE)


class TestBatches:
    def test_they_are_of_the_size_asked_for(self, site: Site) -> None:
        site.listed = [listed(str(number)) for number in range(7)]

        result, _ = site.process(batch_size=3)

        assert [len(batch.jobs) for batch in result.batches] == [3, 3, 1]
        assert [batch.id for batch in result.batches] == ["a-0-b0", "a-0-b1", "a-0-b2"]

    def test_their_messages_are_bounded(self, site: Site) -> None:
        """Keys have a thousand bytes, which are six thousand in JSON."""
        site.listed = [listed("\u1000" * 340 + str(number)) for number in range(1000)]

        result, _ = site.process(batch_size=1000)

        assert len(queued(result)) == 1000
        for batch in result.batches:
            assert len(ENTRY.dump_json(batch, exclude_none=True, ensure_ascii=True)) < 1.1 * MESSAGE_BYTES

    @pytest.mark.parametrize(("rate", "size"), [(0, 100), (1000, 100), (10, 50), (1, 5), (0.01, 1)])
    def test_a_slow_rate_makes_small_ones(self, rate: float, size: int) -> None:
        """A batch that waits for the rate limit must not exceed a task's time limit."""
        spec = AuditSpec(bucket="b", rate=rate, outstanding=8, batch_size=100)
        audit = Audit(id="a", spec=spec, state=AuditState.RUNNING, started_at=WHEN)

        assert batch_size(audit) == size


class TestLimits:
    def test_a_number_of_objects(self, site: Site) -> None:
        site.verdict(report("b"))
        site.listed = [listed(key) for key in "abcdef"]
        site.totals = Totals(queued=1, unchanged=1)

        result, _ = site.process(limit=5)

        assert queued(result) == ["a", "c"]
        assert (result.counts["listed"], result.counts["unchanged"]) == (3, 1)
        assert (result.cursor, result.ends_as) == (None, AuditState.DONE)
        assert "5 objects" in result.reason

    def test_requests(self, site: Site) -> None:
        """Queued objects are counted before they are scanned. Unchanged objects cost nothing."""
        site.verdict(report("a"))
        site.listed = [listed(key) for key in "abcdef"]
        site.totals = Totals(requests=10, queued=4, scanned=2)

        result, _ = site.process(max_requests=10 + 1 + (2 + 3) * GETS_PER_OBJECT)

        assert queued(result) == ["b", "c", "d"]
        assert (result.cursor, result.ends_as) == (None, AuditState.STOPPED)
        assert "requests" in result.reason

    def test_tags_are_reckoned_with_where_they_are_written(self, site: Site) -> None:
        site.listed = [listed(key) for key in "abcdef"]
        site.tags = True

        result, _ = site.process(max_requests=1 + 2 * (GETS_PER_OBJECT + sum(USUAL_TAGS)))

        assert queued(result) == ["a", "b"]

    def test_requests_of_listings(self, site: Site) -> None:
        """In a bucket without changes, nothing else can be limited."""
        site.totals = Totals(requests=10, lists=10)

        result, _ = site.process(max_requests=10)

        assert (site.lists, result.counts, result.cursor) == (0, {}, None)
        assert result.ends_as is AuditState.STOPPED

    def test_requests_that_compare_tags(self, site: Site) -> None:
        site.verdict(*map(report, "abc"))
        site.listed = [listed(key) for key in "abc"]

        result, _ = site.process(check_tags=True, max_requests=1 + 2)

        assert site.tags_checked == ["a", "b"]
        assert (result.counts["requests"], result.counts["unchanged"]) == (3, 2)
        assert result.ends_as is AuditState.STOPPED

    def test_dollars(self, site: Site) -> None:
        get = site.prices.get("STANDARD", 0)
        site.listed = [listed(key) for key in "abcdef"]
        most = site.prices.list_request() + 4.5 * GETS_PER_OBJECT * get

        result, _ = site.process(max_dollars=most)

        assert queued(result) == ["a", "b", "c", "d"]
        assert result.ends_as is AuditState.STOPPED
        assert "$" in result.reason

    def test_a_dearer_class_reaches_the_limit_sooner(self, site: Site) -> None:
        most = site.prices.list_request() + 4.5 * GETS_PER_OBJECT * site.prices.get("STANDARD", 0)
        site.listed = [listed(key, storage_class="GLACIER_IR") for key in "abcdef"]

        result, _ = site.process(max_dollars=most)

        assert queued(result) == []


class TestWhatIsGone:
    def test_a_verdict_on_a_key_that_the_page_would_have_told_of_is_a_finding(self, site: Site) -> None:
        site.verdict(*(report(key) for key in ("a", "b", "c", "d", "z")))
        site.listed, site.cursor = [listed("b"), listed("d")], "more"

        result, _ = site.process(after="a")

        assert [(finding.kind, finding.key) for finding in result.findings] == [("gone", "c")]
        assert result.counts["gone"] == 1

    def test_the_last_page_tells_of_all_that_follows(self, site: Site) -> None:
        site.verdict(report("p/a"), report("p/z"), report("q"))
        site.listed = [listed("p/a")]

        result, _ = site.process(prefix="p/")

        assert [finding.key for finding in result.findings] == ["p/z"]

    def test_a_bucket_that_is_empty_has_lost_all(self, site: Site) -> None:
        site.verdict(report("a"), report("b"))

        assert [finding.key for finding in site.process()[0].findings] == ["a", "b"]

    def test_what_would_be_too_much_for_one_page_is_told_by_several(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bucket was emptied.

        A page reports a limited number of deletions, and the same LIST is sent again.
        """
        monkeypatch.setattr("keyhole.intake.audits.orphans.MOST", 2)
        site.verdict(*map(report, "abcde"))
        site.listed = [listed("d"), listed("z")]

        first, _ = site.process()
        second, _ = site.process(after=first.after)

        assert [finding.key for finding in first.findings] == ["a", "b"]
        assert (first.cursor, first.after, first.counts["gone"]) == ("", "b", 2)
        assert queued(first) == []
        assert [finding.key for finding in second.findings] == ["c", "e"]
        assert (second.cursor, second.after) == (None, "z")
        assert queued(second) == ["z"]

    def test_keys_of_an_earlier_part_of_the_page_are_not_taken_for_keys_of_the_later(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the second part, there are as many orphans as the first part has objects with verdicts."""
        monkeypatch.setattr("keyhole.intake.audits.orphans.MOST", 2)
        site.verdict(*map(report, "abce"))
        site.listed = [listed("b"), listed("z")]

        first, _ = site.process()
        second, _ = site.process(after=first.after)

        assert (first.after, [finding.key for finding in first.findings]) == ("c", ["a", "c"])
        assert [finding.key for finding in second.findings] == ["e"]

    def test_a_page_without_changes_takes_two_commands(self, site: Site, valkey: redis.Redis) -> None:
        """One reads the verdicts, the other counts the keys with verdicts. The index is not read."""
        names = [f"{number:04}" for number in range(1000)]
        site.verdict(*map(report, names))
        site.listed, site.cursor = [listed(name) for name in names], "more"
        valkey.config_resetstat()

        result, _ = site.process()

        calls = {name: stat["calls"] for name, stat in valkey.info("commandstats").items()}
        calls.pop("cmdstat_config|resetstat", None)
        assert calls == {"cmdstat_mget": 1, "cmdstat_zlexcount": 1}
        assert result.counts["unchanged"] == 1000

    def test_a_verdict_that_is_younger_than_the_listing_says_nothing(self, site: Site) -> None:
        """The verdict's object was put and scanned while the page was listed."""
        site.verdict(report("a", scanned_at=datetime.now(UTC) + timedelta(hours=1)), report("b"))

        assert [finding.key for finding in site.process()[0].findings] == ["b"]

    def test_what_is_not_selected_or_was_known_to_be_missing_is_not_told(self, site: Site) -> None:
        site.verdict(
            report("a.txt"), report("b", Status.UNREADABLE, reasons=("not_found",)), report("c", size=None)
        )

        result, _ = site.process(selection=Selection(exclude=("*.txt",), min_size=50))

        assert [finding.key for finding in result.findings] == ["c"]

    def test_a_key_whose_record_expired_is_forgotten(self, site: Site, valkey: redis.Redis) -> None:
        site.verdict(report("a"))
        valkey.delete(*valkey.scan_iter(match="*:obj:*"))

        assert site.process()[0].findings == ()
        assert list(site.lookup.keys_between("images", "", None, None)) == []

    def test_a_listing_without_an_order_tells_of_nothing(self, site: Site) -> None:
        site.verdict(report("a"))
        site.ordered = False

        assert site.process()[0].findings == ()

    def test_neither_does_one_that_a_limit_ended(self, site: Site) -> None:
        site.verdict(report("a0"), report("z"))
        site.listed = [listed("a"), listed("b")]

        assert site.process(limit=1)[0].findings == ()


class TestTags:
    def test_they_are_compared_where_the_verdict_stands(self, site: Site) -> None:
        site.verdict(report("a"), report("b"), report("c", etag='"old"'))
        site.listed = [listed("a"), listed("b"), listed("c")]
        site.tag_messages = {"b": "says safe"}

        result, _ = site.process(check_tags=True)

        assert site.tags_checked == ["a", "b"]
        assert [(finding.kind, finding.key, finding.message) for finding in result.findings] == [
            ("tag_mismatch", "b", "says safe")
        ]
        assert (result.counts["tag_mismatches"], result.counts["tags_agree"]) == (1, 1)
        assert result.counts["requests"] == 3
        spent = site.prices.list_request() + 2 * site.prices.get_tagging()
        assert result.counts["nanodollars"] == round(spent * NANO)

    def test_wrong_tags_are_corrected_if_it_is_asked_for(self, site: Site) -> None:
        site.verdict(report("a"), report("b", version_id="v1"), report("c", etag='"old"'))
        site.listed = [listed("a"), listed("b"), listed("c")]
        site.tag_messages = {"b": "says safe"}

        result, _ = site.process(fix_tags=True, rate=7.5)

        assert site.tags_checked == ["a", "b"]
        assert result.tag_debts == (TagDebt.of(report("b", version_id="v1"), rate=7.5),)
        assert [(finding.kind, finding.key, finding.message) for finding in result.findings] == [
            ("tag_mismatch", "b", "says safe; the tags will be corrected")
        ]
        assert (result.counts["tag_mismatches"], result.counts["tag_fixes"]) == (1, 1)

    def test_correcting_them_is_counted(self, site: Site) -> None:
        site.verdict(report("a"), report("b"))
        site.listed = [listed("a"), listed("b", storage_class="STANDARD_IA")]
        site.tag_messages = {"b": "says safe"}

        result, _ = site.process(fix_tags=True)

        writing = cost_of_tags(site.prices, "STANDARD_IA")
        assert result.cost_of_debts == writing
        assert result.counts["requests"] == 1 + 2 + sum(USUAL_TAGS)
        spent = site.prices.list_request() + 2 * site.prices.get_tagging() + writing.dollars
        assert result.counts["nanodollars"] == round(site.prices.list_request() * NANO) + 2 * round(
            site.prices.get_tagging() * NANO
        ) + round(writing.dollars * NANO)
        assert result.counts["nanodollars"] == pytest.approx(spent * NANO, abs=3)

    def test_only_wrong_tags_use_up_a_limit(self, site: Site) -> None:
        """Ten objects cost a LIST and ten comparisons. There is room to correct the tags of one object."""
        site.verdict(*map(report, "abcdefghij"))
        site.listed = [listed(key) for key in "abcdefghij"]
        site.tag_messages = {"c": "says safe"}

        result, _ = site.process(fix_tags=True, max_requests=1 + 10 + 2 * sum(USUAL_TAGS))

        assert site.tags_checked == list("abcdefghij")
        assert (result.counts["unchanged"], result.ends_as) == (10, AuditState.DONE)
        assert result.counts["requests"] == 1 + 10 + sum(USUAL_TAGS)

    def test_an_audit_stops_before_corrections_exceed_a_limit(self, site: Site) -> None:
        site.verdict(*map(report, "abcdefghij"))
        site.listed = [listed(key) for key in "abcdefghij"]
        site.tag_messages = dict.fromkeys("abcdefghij", "says safe")

        result, _ = site.process(fix_tags=True, max_requests=1 + 3 * (1 + sum(USUAL_TAGS)) + 2)

        assert [debt.key for debt in result.tag_debts] == ["a", "b", "c"]
        assert (result.counts["unchanged"], result.ends_as) == (3, AuditState.STOPPED)

    def test_unreadable_tags_are_told_and_not_written(self, site: Site) -> None:
        site.verdict(report("a"))
        site.listed = [listed("a")]
        site.tag_messages, site.unreadable = {"a": "the object's tags cannot be read: denied"}, "a"

        result, _ = site.process(fix_tags=True)

        (finding,) = result.findings
        assert finding.message == "the object's tags cannot be read: denied"
        assert (result.tag_debts, result.counts["tag_fixes"]) == ((), 0)

    def test_the_tags_of_objects_that_are_scanned_are_written_by_the_scan(self, site: Site) -> None:
        site.verdict(report("a"))
        site.listed = [listed("a")]
        site.tag_messages = {"a": "says safe"}

        result, _ = site.process(fix_tags=True, full=True)

        assert queued(result) == ["a"]
        assert (result.tag_debts, result.counts["tag_fixes"]) == ((), 1)

    def test_without_being_asked_to_none_is_read(self, site: Site) -> None:
        site.verdict(report("a"))
        site.listed = [listed("a")]

        site.process()

        assert site.tags_checked == []


class TestOwners:
    @pytest.fixture
    def owned(self, site: Site) -> Site:
        """An unchanged, an archived, a new and a changed object, and one that is not selected."""
        site.verdict(report("a", Status.UNSAFE), report("d", etag='"other"'))
        site.listed = [
            listed("a"),
            listed("b", storage_class="GLACIER"),
            listed("c"),
            listed("d"),
            listed("e.txt"),
        ]
        site.owners = {"a": Owner("payments"), "b": Owner(unknown="denied")}
        return site

    def test_the_tags_of_objects_that_are_not_scanned_are_read(self, owned: Site) -> None:
        result, _ = owned.process(owner_tag="team", selection=Selection(exclude=("*.txt",)))

        assert owned.tags_checked == ["a", "b"]
        assert [row.how for row in result.rows] == [How.UNCHANGED, How.ARCHIVED]
        assert result.owners == (Owner("payments"), Owner(unknown="denied"))
        assert result.counts["owners_unknown"] == 1
        assert result.counts["requests"] == 1 + 2
        assert queued(result) == ["c", "d"]

    @pytest.mark.parametrize(("full", "asked"), [(False, ["a", "b"]), (True, ["a", "b"])])
    def test_with_a_comparison_one_request_still_is_enough(
        self, owned: Site, full: bool, asked: list[str]
    ) -> None:
        """A full audit compares the tags of an object that it scans, and the scan finds the owner."""
        owned.tag_messages = {"a": "differs", "b": "never told: nothing to compare"}

        result, _ = owned.process(owner_tag="team", check_tags=True, full=full)

        assert owned.tags_checked == asked
        assert [(finding.kind, finding.key) for finding in result.findings] == [("tag_mismatch", "a")]
        unknown = Owner(unknown="denied")
        assert result.owners == ((unknown,) if full else (Owner("payments"), unknown))

    def test_without_the_option_there_are_none(self, owned: Site) -> None:
        result, _ = owned.process()

        assert owned.tags_checked == []
        assert result.owners is None
        assert "owners_unknown" not in result.counts
        assert {batch.version for batch in result.batches} == {1}

    def test_older_workers_leave_the_batches_to_newer_ones(self, owned: Site) -> None:
        """An older worker cannot read the specification, and would not find the owners."""
        result, _ = owned.process(owner_tag="team")

        assert [batch.version for batch in result.batches] == [2]

    @pytest.mark.parametrize(("sink", "each"), [(False, GETS_PER_OBJECT + 1), (True, 8)])
    def test_the_limit_of_requests_accounts_for_them(self, site: Site, sink: bool, each: int) -> None:
        """Without the sink `tags`, a scan needs one more request. With it, the tags are read anyway."""
        site.tags = sink
        assert sum(USUAL_TAGS) + GETS_PER_OBJECT == 8
        site.verdict(report("a"))
        site.listed = [listed("a"), listed("b"), listed("c")]

        enough, _ = site.process(owner_tag="team", max_requests=1 + 1 + each)
        too_few, _ = site.process(owner_tag="team", max_requests=1 + each)
        none, _ = site.process(owner_tag="team", max_requests=1)

        assert (len(enough.rows), queued(enough)) == (1, ["b"])
        assert (len(too_few.rows), queued(too_few)) == (1, [])
        assert (len(none.rows), queued(none), none.owners) == (0, [], ())

    def test_a_slow_rate_makes_small_pages(self) -> None:
        assert page_size(AuditSpec(bucket="images", rate=2, owner_tag="team")) == 240
        assert page_size(AuditSpec(bucket="images", rate=2)) == 1000

    def test_an_owner_stays_with_its_row_if_tags_are_read_in_parts(self, site: Site) -> None:
        """An audit that could reach its limit first reads the tags of the objects so far."""
        site.verdict(*map(report, "abcdefghij"))
        site.listed = [listed(key) for key in "abcdefghij"]
        site.owners = {key: Owner(key) for key in "abcdefghij"}
        site.tag_messages = {"c": "says safe"}

        most = 1 + 10 + 2 * sum(USUAL_TAGS)
        result, _ = site.process(fix_tags=True, owner_tag="team", max_requests=most)

        assert site.tags_checked == list("abcdefghij")
        assert result.owners == tuple(map(Owner, "abcdefghij"))
        assert len(result.rows) == 10
