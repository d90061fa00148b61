"""Audits from end to end: unchanged objects cost no GET, and the server's counts confirm the limits."""

import time
from collections.abc import Iterator
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from keyhole.builders import qcow2
from keyhole.intake.audits.audit import Audit, AuditState, How
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.job import ScanJob
from keyhole.jobs.queues import AUDITS, JOBS
from keyhole.reasons import Status
from keyhole.reports.objects import audited_objects
from keyhole.store import keys
from tests.e2e import commands
from tests.e2e.audit_site import AuditSite, all_keys, assert_all_scanned_once, synthetic_site
from tests.e2e.conftest import Site
from tests.servers.synthetic_s3 import PAGE_KEYS, key_name

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditSite]:
    """A synthetic site with a worker."""
    with synthetic_site(tmp_path_factory.mktemp("audits")) as site, site.worker():
        yield site


@pytest.fixture
def audits(running: AuditSite) -> Iterator[AuditSite]:
    """The same site, whose S3 answers at once and has reset its counts."""
    running.s3.forget()
    yield running
    running.s3.release()
    running.s3.slow_down("GET", 0)


@pytest.fixture
def bucket() -> str:
    """The name of a bucket that only this test uses."""
    return f"test-{uuid4().hex}"


def assert_requests_are_those_of_the_server(site: AuditSite, *audits: Audit) -> None:
    counts = site.s3.counts()
    assert sum(audit.totals.requests for audit in audits) == counts["GET"] + counts["LIST"]
    assert sum(audit.totals.lists for audit in audits) == counts["LIST"]
    assert counts.keys() <= {"GET", "LIST"}


class TestRepeated:
    @pytest.mark.slow
    def test_an_unchanged_bucket_costs_lists_alone(self, audits: AuditSite, bucket: str) -> None:
        audits.s3.fill(bucket, 1500)
        first = audits.begin(bucket)
        audits.ended(first)
        assert_all_scanned_once(audits, first, all_keys(1500))
        assert_requests_are_those_of_the_server(audits, audits.audit(first))
        audits.s3.forget()

        second = audits.begin(bucket)

        totals = audits.ended(second).totals
        assert audits.s3.counts() == {"LIST": 2}
        assert (totals.listed, totals.unchanged, totals.queued, totals.requests) == (1500, 1500, 0, 2)
        assert totals.statuses == {Status.SAFE: 1500}
        assert audits.rows(second) == audits.rows(first)
        assert {row.how for row in audits.audits.rows(second)} == {How.UNCHANGED}

    def test_only_what_has_changed_or_is_new_is_scanned_and_what_is_gone_is_told(
        self, audits: AuditSite, bucket: str
    ) -> None:
        audits.s3.fill(bucket, 50)
        audits.ended(audits.begin(bucket))
        audits.s3.put(bucket, key_name(7))
        audits.s3.put(bucket, "images/new ü+&.vdi")
        audits.s3.delete(bucket, key_name(9))
        audits.s3.forget()

        audit_id = audits.begin(bucket)

        totals = audits.ended(audit_id).totals
        assert audits.s3.gets() == {f"{bucket}/{key_name(7)}": 1, f"{bucket}/images/new ü+&.vdi": 1}
        assert (totals.listed, totals.unchanged, totals.scanned, totals.gone) == (50, 48, 2, 1)
        assert [(finding.kind, finding.key) for finding in audits.audits.findings(audit_id)] == [
            ("gone", key_name(9))
        ]
        assert set(audits.rows(audit_id).values()) == {1}

    def test_all_are_scanned_if_it_is_asked_for(self, audits: AuditSite, bucket: str) -> None:
        audits.s3.fill(bucket, 50)
        audits.ended(audits.begin(bucket))

        audit_id = audits.begin(bucket, full=True)

        audits.ended(audit_id)
        assert_all_scanned_once(audits, audit_id, all_keys(50))


class TestSeveralAtOnce:
    @pytest.mark.slow
    def test_each_counts_its_own(self, audits: AuditSite, bucket: str) -> None:
        """Two audits are of the same bucket, both of all objects, and two of other buckets."""
        others = [f"{bucket}-{number}" for number in range(2)]
        for name in (bucket, *others):
            audits.s3.fill(name, 300)

        ids = [audits.begin(name, full=True, batch_size=20) for name in (bucket, bucket, *others)]

        ended = [audits.ended(audit_id) for audit_id in ids]
        for audit in ended:
            totals = audit.totals
            assert audit.state is AuditState.DONE
            assert totals.listed == totals.queued == totals.scanned == 300
            assert totals.statuses == {Status.SAFE: 300}
            assert totals.requests == totals.lists + 300
            of_bucket = [keys.object_id(audit.spec.bucket, name, None) for name in all_keys(300)]
            assert audits.rows(audit.id) == dict.fromkeys(of_bucket, 1)
            assert audits.left_over(audit.id) == set()
        assert_requests_are_those_of_the_server(audits, *ended)


class TestWhatWaits:
    @pytest.mark.slow
    def test_no_more_batches_than_may_be_outstanding_however_large_the_bucket(
        self, audits: AuditSite, bucket: str
    ) -> None:
        audits.s3.fill(bucket, 3000)
        audits.s3.slow_down("GET", 0.02)
        audit_id = audits.begin(bucket, outstanding=3, batch_size=50)
        samples: list[tuple[int, int, int]] = []

        def ended() -> bool:
            audit = audits.audit(audit_id)
            in_ledger = audits.redis.zcard(keys.ledger_open(AUDITS))
            samples.append((audit.outstanding, audits.waiting(AUDITS), in_ledger))
            cut = audits.redis.hlen(keys.audit(audit_id, "outstanding"))
            # In addition to the outstanding batches, Redis contains at most the batches of one page.
            assert cut <= 3 + 1000 // 50
            return audit.state.ended

        audits.until(audit_id, ended)

        assert len(samples) > 10
        outstanding, waiting, in_ledger = map(max, zip(*samples, strict=True))
        # A finished batch is removed from the ledger a moment later, by each of two processes.
        assert (outstanding, waiting) <= (3, 3)
        assert in_ledger <= 3 + 2
        assert_all_scanned_once(audits, audit_id, all_keys(3000))
        assert_requests_are_those_of_the_server(audits, audits.audit(audit_id))

    @pytest.mark.slow
    def test_an_upload_does_not_wait_for_an_audit(self, audits: AuditSite, bucket: str) -> None:
        """A hundred batches are queued, but the upload's job waits only for the few in progress."""
        audits.s3.fill(bucket, 2000)
        audits.s3.slow_down("GET", 0.02)
        audit_id = audits.begin(bucket, outstanding=100, batch_size=20)
        audits.until(audit_id, lambda: audits.audit(audit_id).totals.scanned >= 100)

        entry = Entry("upload", (ScanJob(id="upload", bucket=bucket, key=key_name(1999)),))
        audits.services.ledger.record(entry)
        message = ENTRY.dump_python(entry, mode="json", exclude_none=True)
        audits.celery.send_task("keyhole.scan", [message], task_id=entry.id, queue=JOBS)
        before = audits.redis.xlen(keys.VERDICTS)
        audits.until(audit_id, lambda: audits.services.ledger.is_done("upload"))
        audits.s3.slow_down("GET", 0)
        audits.ended(audit_id)

        announced = [fields[b"job"] for _, fields in audits.redis.xrange(keys.VERDICTS)]
        assert announced.index(b"upload") - before <= 10 * 20


class TestLimits:
    @pytest.mark.slow
    @pytest.mark.parametrize("audits_at_once", [1, 2])
    def test_no_more_requests_a_second_than_the_rate(
        self, audits: AuditSite, bucket: str, audits_at_once: int
    ) -> None:
        """All audits of a bucket share the rate.

        After a silence, the requests of one second can come at once.
        """
        rate, objects = 100.0, 300
        audits.s3.fill(bucket, objects)
        began = time.monotonic()

        ids = [audits.begin(bucket, rate=rate, full=True) for _ in range(audits_at_once)]
        for audit_id in ids:
            audits.ended(audit_id)

        took = time.monotonic() - began
        asked = sum(audits.s3.counts().values())
        assert asked == audits_at_once * (objects + 1)
        assert asked <= rate + rate * took

    def test_of_objects(self, audits: AuditSite, bucket: str) -> None:
        audits.s3.fill(bucket, 200)

        audit = audits.ended(audits.begin(bucket, limit=25))

        assert (audit.state, audit.totals.scanned) == (AuditState.DONE, 25)
        assert audits.s3.counts() == {"LIST": 1, "GET": 25}

    def test_of_requests(self, audits: AuditSite, bucket: str) -> None:
        audits.s3.fill(bucket, 200)

        audit = audits.ended(audits.begin(bucket, max_requests=60, batch_size=5, outstanding=2))

        assert audit.state is AuditState.STOPPED
        assert "60 requests" in str(audit.reason)
        assert audits.s3.counts()["GET"] > 0
        assert sum(audits.s3.counts().values()) == audit.totals.requests <= 60

    def test_of_requests_where_nothing_has_changed(self, audits: AuditSite, bucket: str) -> None:
        audits.s3.fill(bucket, 200)
        audits.ended(audits.begin(bucket))
        audits.s3.list_at_most(10)
        audits.s3.forget()

        audit = audits.ended(audits.begin(bucket, max_requests=5))

        audits.s3.list_at_most(PAGE_KEYS)
        assert (audit.state, audit.totals.unchanged) == (AuditState.STOPPED, 50)
        assert audits.s3.counts() == {"LIST": 5}

    def test_of_requests_where_every_seventh_fails(self, audits: AuditSite, bucket: str) -> None:
        """Repeated requests are counted too, and all objects get their verdict."""
        audits.s3.fill(bucket, 100)
        audits.s3.fail_every(7)

        audit = audits.ended(audits.begin(bucket))

        audits.s3.fail_every(0)
        assert audit.totals.statuses == {Status.SAFE: 100}
        assert audits.s3.counts()["refused"] > 10
        assert audit.totals.requests == audits.s3.counts()["GET"] + audits.s3.counts()["LIST"]


class TestTurned:
    @pytest.mark.slow
    def test_a_paused_one_rests_and_goes_on_when_it_is_told_to(self, audits: AuditSite, bucket: str) -> None:
        audit_id = self._in_the_middle(audits, bucket)

        assert commands.keyhole("audit", "--pause", audit_id, env=audits.env).returncode == 0
        audits.s3.release()
        audits.until(audit_id, lambda: not audits.audit(audit_id).outstanding and not audits.in_hand())
        assert audits.audit(audit_id).totals.scanned == audits.s3.counts()["GET"] == 20
        assert audits.audit(audit_id).state is AuditState.PAUSED

        done = commands.keyhole("audit", "--resume", audit_id, env=audits.env)

        assert done.returncode == 0, done.stderr
        assert_all_scanned_once(audits, audit_id, all_keys(400))
        assert_requests_are_those_of_the_server(audits, audits.audit(audit_id))

    @pytest.mark.slow
    def test_a_cancelled_one_ends_and_leaves_nothing_to_do(self, audits: AuditSite, bucket: str) -> None:
        audit_id = self._in_the_middle(audits, bucket)

        assert commands.keyhole("audit", "--cancel", audit_id, env=audits.env).returncode == 0
        audits.s3.release()
        commands.until(lambda: not audits.services.ledger.count() and not audits.in_hand())

        audit = audits.audit(audit_id)
        assert audit.state is AuditState.CANCELLED
        assert audit.outstanding == 0
        assert audit.totals.scanned == audits.s3.counts()["GET"] == 20
        assert audits.waiting(AUDITS) == 0
        assert all(
            audits.redis.ttl(name) > 0 for name in audits.redis.scan_iter(match=f"{keys.audit(audit_id)}*")
        )

    def _in_the_middle(self, audits: AuditSite, bucket: str) -> str:
        """Start an audit whose first two batches wait for an answer of S3."""
        audits.s3.fill(bucket, 400)
        audits.s3.hold("GET")
        audit_id = audits.begin(bucket, batch_size=10, outstanding=2)
        audits.until(audit_id, lambda: audits.s3.held() == 20)
        return audit_id


@pytest.fixture
def tagged(site: Site) -> AuditSite:
    """The site with moto. Its worker also writes tags."""
    return AuditSite(site.settings, site.env, None, site.log)  # type: ignore[arg-type] # no synthetic S3


class TestWhatOnlyMotoHas:
    @pytest.mark.slow
    def test_archived_objects_are_told_of_and_not_read(self, site: Site, tagged: AuditSite) -> None:
        bucket = site.bucket()
        site.held.hold()
        site.s3.put_object(Bucket=bucket, Key="held/archived.qcow2", Body=SAFE, StorageClass="GLACIER")
        site.s3.put_object(Bucket=bucket, Key="plain.qcow2", Body=SAFE)

        audit_id = tagged.begin(bucket)

        totals = tagged.ended(audit_id).totals
        assert site.held._asked.empty()
        site.held.release()
        assert (totals.listed, totals.archived, totals.scanned) == (2, 1, 1)
        assert totals.statuses == {Status.SAFE: 1, Status.UNREADABLE: 1}
        report = site.store.get(bucket, "held/archived.qcow2")
        assert report is not None
        assert (report.status, report.reasons) == (Status.UNREADABLE, ("archived",))

    def test_every_version_is_scanned_as_itself(self, site: Site, tagged: AuditSite) -> None:
        bucket = site.bucket()
        site.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        versions = [
            site.s3.put_object(Bucket=bucket, Key=key, Body=body)["VersionId"]
            for key, body in (("a", UNSAFE), ("a", SAFE), ("b", SAFE))
        ]
        site.s3.delete_object(Bucket=bucket, Key="b")

        audit_id = tagged.begin(bucket, versions=True)

        totals = tagged.ended(audit_id).totals
        assert (totals.listed, totals.scanned) == (3, 3)
        assert totals.statuses == {Status.SAFE: 2, Status.UNSAFE: 1}
        named = [(key, version) for key, version in zip("aab", versions, strict=True)]
        assert tagged.rows(audit_id) == {keys.object_id(bucket, *name): 1 for name in named}
        assert tagged.ended(tagged.begin(bucket, versions=True)).totals.unchanged == 3

    def test_a_tag_that_somebody_changed_is_a_finding(self, site: Site, tagged: AuditSite) -> None:
        bucket = site.bucket()
        for key, body in {"a": SAFE, "b": UNSAFE, "c": SAFE}.items():
            site.s3.put_object(Bucket=bucket, Key=key, Body=body)
        tagged.ended(tagged.begin(bucket))
        tags = site.tags(bucket, "b") | {"keyhole-status": "safe"}
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        site.s3.put_object_tagging(Bucket=bucket, Key="b", Tagging={"TagSet": tag_set})

        audit_id = tagged.begin(bucket, check_tags=True)

        totals = tagged.ended(audit_id).totals
        assert (totals.unchanged, totals.tag_mismatches) == (3, 1)
        assert totals.requests == totals.lists + 3
        (finding,) = tagged.audits.findings(audit_id)
        assert (finding.kind, finding.key) == ("tag_mismatch", "b")
        assert "unsafe" in finding.message

    def test_the_owner_of_each_object_is_found(self, site: Site, tagged: AuditSite) -> None:
        """The worker that writes the verdict as tags finds the owner in the tags that it reads anyway."""
        bucket = site.bucket()
        for key, team in {"a": "payments", "b": "=1+1 @x", "c": None}.items():
            tagging = {} if team is None else {"Tagging": urlencode({"team": team})}
            site.s3.put_object(Bucket=bucket, Key=key, Body=SAFE, **tagging)
        site.s3.put_object(Bucket=bucket, Key="d", Body=SAFE, StorageClass="GLACIER", Tagging="team=disks")

        tagged.ended(tagged.begin(bucket))
        plain = tagged.ended(tagged.begin(bucket, full=True)).totals
        first_id = tagged.begin(bucket, full=True, owner_tag="team")
        first = tagged.ended(first_id).totals
        again_id = tagged.begin(bucket, owner_tag="team", check_tags=True)
        again = tagged.ended(again_id).totals

        # Moto refuses to read the tags of an archived object. S3 does not.
        owners = {"a": "payments", "b": "=1+1 @x", "c": None, "d": None}
        for audit_id in (first_id, again_id):
            found = audited_objects(tagged.audits, tagged.services.lookup, audit_id)
            named = {str(one.report and one.report.key): one for one in found}
            assert {key: one.owner for key, one in named.items()} == owners
            assert [key for key, one in named.items() if one.owner_unknown] == ["d"]
            assert "archived" in str(named["d"].owner_unknown)
        assert (first.scanned, first.archived, first.owners_unknown) == (3, 1, 1)
        # The tags of the archived object take one request, and the tags of the others none.
        assert first.requests == plain.requests + 1
        assert (again.unchanged, again.archived, again.requests - again.lists) == (3, 1, 4)
