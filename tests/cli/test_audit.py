"""`keyhole audit` and `keyhole audits`: audits of a bucket, by running workers or by the command's own."""

import csv
import io
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from keyhole.builders import qcow2
from keyhole.cli import audit_end
from keyhole.inspectors.text import escaped
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, How
from keyhole.intake.audits.records import PageResult, Row
from keyhole.intake.audits.store import AuditStore
from keyhole.reasons import Status
from keyhole.results.owner import Owner
from tests.cli.conftest import Keyhole
from tests.e2e import commands

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.e2e.held_s3 import HeldS3

GIB = 1024**3
UNREAD = Owner(unknown="access is denied")
CASE = "Names of tags are case-sensitive; check --owner-tag."
AGREES = "The tags of 1 object agree with the verdicts."
DISAGREE = (
    "The tags of 1 object agree with the verdicts; those of 2 objects do not, or could not be read: "
    "keyhole report a1"
)
TAGS = {"KEYHOLE_SINKS": "redis,tags"}


@pytest.fixture
def images(s3: "S3Client", bucket: str) -> str:
    """A bucket with a safe image, an unsafe image, and a PDF."""
    s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=qcow2(GIB).to_bytes())
    s3.put_object(Bucket=bucket, Key="unsafe.qcow2", Body=qcow2(GIB, backing_file="/x").to_bytes())
    s3.put_object(Bucket=bucket, Key="notes/readme.pdf", Body=b"%PDF-1.7\n" + b"text\n" * 99)
    return bucket


@pytest.fixture
def store(redis_url: str, valkey: redis.Redis, env: dict[str, str]) -> AuditStore:
    """The audits in the Redis that the command uses. No worker runs."""
    env["KEYHOLE_REDIS_URL"] = redis_url
    return AuditStore(valkey, expiry_seconds=None)


def begin(store: AuditStore, audit_id: str = "a1", **spec: object) -> str:
    store.create(
        audit_id, AuditSpec.model_validate({"bucket": "images", **spec}), ruleset="3:default", scanner="x"
    )
    return audit_id


def ended(
    store: AuditStore, counts: dict[str, int], owners: tuple[Owner, ...] | None = None, **spec: object
) -> str:
    """Begin an audit that ends with its first page, whose objects need no scan."""
    audit_id = begin(store, **spec)
    claim = store.claim(audit_id, "me")
    assert claim is not None
    rows = tuple(Row(f"{number:032x}", Status.SAFE, How.UNCHANGED) for number in range(len(owners or ())))
    assert store.commit(claim, PageResult({"pages": 1, **counts}, rows=rows, owners=owners))
    assert store.state(audit_id) is AuditState.DONE
    return audit_id


@pytest.mark.usefixtures("unsynced")
def test_one_that_is_not_on_the_servers_disk_gets_no_id(keyhole: Keyhole, unsynced_url: str) -> None:
    printed = keyhole("audit", "s3://images/", "--detach", "--json", KEYHOLE_REDIS_URL=unsynced_url)

    assert (printed.code, printed.out) == (3, "")
    assert printed.error.startswith("Redis did not write the data to its disk")
    assert "KEYHOLE_REDIS_URL" not in printed.error


class TestWithNothingConfigured:
    """The command starts its own worker."""

    @pytest.mark.slow
    def test_it_scans_all_and_then_nothing_that_is_unchanged(self, env: dict[str, str], images: str) -> None:
        first = commands.keyhole("audit", f"s3://{images}/", "--json", env=env)
        second = commands.keyhole("audit", f"s3://{images}/", "--json", env=env)

        assert (first.returncode, second.returncode) == (1, 1), first.stderr
        audit, again = (Audit.model_validate_json(done.stdout.splitlines()[-1]) for done in (first, second))
        assert audit.state is again.state is AuditState.DONE
        assert (audit.totals.scanned, again.totals.scanned, again.totals.unchanged) == (3, 0, 3)
        assert audit.totals.statuses == again.totals.statuses
        assert audit.totals.not_images == again.totals.not_images == 1
        assert (again.totals.requests, again.totals.lists) == (1, 1)

    @pytest.mark.slow
    def test_objects_that_are_not_images_do_not_fail(self, env: dict[str, str], images: str) -> None:
        done = commands.keyhole("audit", f"s3://{images}/", "--exclude", "unsafe*", env=env)
        failed = commands.keyhole("audit", f"s3://{images}/", "--fail-on", "unrecognized,unsafe", env=env)

        assert (done.returncode, failed.returncode) == (0, 1)
        assert b"1 safe  1 not an image" in done.stdout

    @pytest.mark.slow
    def test_a_table_sums_it_up_where_nobody_asks_for_json(self, env: dict[str, str], images: str) -> None:
        done = commands.keyhole("audit", f"s3://{images}/", "--suffix", ".qcow2", env=env)

        assert done.returncode == 1
        out = done.stdout.decode()
        assert f"s3://{images}/" in out
        assert "3 (1 not selected)" in out
        assert "1 unsafe  1 safe" in out
        assert b"keyhole report" in done.stderr

    @pytest.mark.slow
    def test_the_commands_own_worker_applies_its_policy(self, env: dict[str, str], images: str) -> None:
        """The message about `--policy` says so."""
        audited = commands.keyhole("audit", f"s3://{images}/", env=env | {"KEYHOLE_POLICY": "azure"})
        shown = commands.keyhole("show", f"s3://{images}/safe.qcow2", env=env)

        assert audited.returncode == shown.returncode == 1
        assert b"the policy does not accept qcow2 (v3); it accepts vhd (fixed)" in shown.stdout

    @pytest.mark.slow
    def test_a_dry_run_reads_nothing(self, env: dict[str, str], images: str, s3: "S3Client") -> None:
        s3.put_object(Bucket=images, Key="old.vhd", Body=b"x", StorageClass="GLACIER")

        done = commands.keyhole("audit", f"s3://{images}/", "--dry-run", "--json", env=env)

        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["totals"]["listed"] == 4
        assert (said["totals"]["queued"], said["totals"]["archived"]) == (3, 1)
        assert said["estimate"]["expected"]["gets"] == 9
        assert said["estimate"]["expected"]["dollars"] > 0
        printed = commands.keyhole("audit", f"s3://{images}/", "--dry-run", env=env).stdout.decode()
        assert "GET requests" in printed
        assert re.search(r"^listed +4, ", printed, re.MULTILINE)
        assert "unchanged" not in printed
        some = commands.keyhole("audit", f"s3://{images}/", "--dry-run", "--suffix", ".vhd", env=env)
        assert re.search(r"^listed +4 \(3 not selected\), 1 B", some.stdout.decode(), re.MULTILINE)
        assert commands.keyhole("results", env=env).stdout.startswith(b"no verdicts")

    @pytest.mark.slow
    def test_what_cannot_be_listed_is_told(self, env: dict[str, str]) -> None:
        done = commands.keyhole("audit", "s3://no-such-bucket-here/", env=env)

        assert done.returncode == 3
        assert b"failed" in done.stdout
        assert b"bucket" in done.stdout


class TestLettingGo:
    @pytest.fixture
    def held(self, s3_server: "HeldS3", env: dict[str, str]) -> Iterator["HeldS3"]:
        """A local S3 that can delay the answers to a scan."""
        env["KEYHOLE_S3_ENDPOINT_URL"] = s3_server.url
        s3_server.hold()
        yield s3_server
        s3_server.release()

    @pytest.mark.slow
    def test_ctrl_c_lets_go_and_the_audit_goes_on_when_it_is_followed_again(
        self, env: dict[str, str], tmp_path: Path, images: str, s3: "S3Client", held: "HeldS3"
    ) -> None:
        s3.put_object(Bucket=images, Key="held/a.qcow2", Body=qcow2(GIB).to_bytes())
        log = tmp_path / "log"
        with commands.started("audit", f"s3://{images}/", env=env, log=log) as process:
            held.await_request()
            os.kill(process.pid, signal.SIGINT)
            held.release()
            assert process.wait(commands.PATIENCE) == 130
        told = log.read_text()
        assert "keyhole audit --follow" in told
        audit_id = told.split("--follow ")[1].split()[0]

        done = commands.keyhole("audit", "--follow", audit_id, "--json", env=env)

        audit = Audit.model_validate_json(done.stdout.splitlines()[-1])
        assert (audit.state, audit.totals.scanned) == (AuditState.DONE, 4)


class TestWithoutObjects:
    """An audit that found nothing to scan does not say that all objects are safe."""

    @pytest.mark.parametrize("form", ["table", "json", "jsonl"])
    @pytest.mark.parametrize("chosen", [(), ("--fail-on", "never")])
    def test_nothing_is_there(
        self, keyhole: Keyhole, store: AuditStore, form: str, chosen: tuple[str, ...]
    ) -> None:
        audit_id = ended(store, {"requests": 1, "lists": 1}, prefix="typo/")

        printed = keyhole("audit", "--follow", audit_id, "-o", form, *chosen)

        assert (printed.code, printed.error) == (3, "there are no objects; check the prefix")
        if form == "table":
            assert re.search(r"^verdicts +none *$", printed.out, re.MULTILINE)
        else:
            assert Audit.model_validate_json(printed.out).totals.listed == 0

    def test_an_inventory_lists_nothing(self, keyhole: Keyhole, store: AuditStore) -> None:
        audit_id = ended(store, {}, inventory="s3://inv/manifest.json")

        printed = keyhole("audit", "--follow", audit_id)

        assert (printed.code, printed.error) == (
            3,
            "there are no objects; check the prefix, and that the inventory is up to date",
        )

    def test_the_selection_leaves_out_all(self, keyhole: Keyhole, store: AuditStore) -> None:
        selection = {"include": ["*.img"], "sample": 0.5}
        audit_id = ended(store, {"listed": 1204, "left_out": 1204}, selection=selection)

        printed = keyhole("audit", "--follow", audit_id)

        assert printed.code == 3
        assert printed.err.splitlines()[-1] == (
            "Error: none of the 1,204 objects is selected; check --include and --sample"
        )

    def test_only_a_running_audit_has_none_yet(self, keyhole: Keyhole, store: AuditStore) -> None:
        begin(store)
        store.set_state("a1", AuditState.PAUSED, "by me")
        assert "none yet" in keyhole("audit", "--follow", "a1").out
        store.set_state("a1", AuditState.CANCELLED, "by me")

        cancelled = keyhole("audit", "--follow", "a1")

        assert re.search(r"^verdicts +none *$", cancelled.out, re.MULTILINE)
        assert (cancelled.code, cancelled.err) == (3, "")

    @pytest.mark.slow
    def test_a_mistyped_prefix_is_told(self, env: dict[str, str], images: str) -> None:
        done = commands.keyhole("audit", f"s3://{images}/typo/", env=env)

        assert done.returncode == 3
        assert done.stderr.splitlines()[-1] == b"Error: there are no objects; check the prefix"


class TestOwners:
    """The command states how many objects have the tag, because a mistyped tag finds no owner."""

    @pytest.mark.parametrize(
        ("owners", "line"),
        [
            ([Owner()] * 3, f"No object has the tag Taem. {CASE}"),
            ([Owner(), UNREAD], f"No object whose tags could be read has the tag Taem. {CASE}"),
            ([Owner("a"), Owner("b"), Owner("b"), Owner()], "Taem has 2 values; 1 object has no such tag."),
            ([Owner("a")], "Taem has 1 value; all objects have this tag."),
            ([Owner("a"), UNREAD], "Taem has 1 value; all objects whose tags could be read have this tag."),
        ],
    )
    def test_a_line_states_how_many_objects_have_the_tag(
        self, keyhole: Keyhole, store: AuditStore, owners: list[Owner], line: str
    ) -> None:
        unknown = sum(owner.unknown is not None for owner in owners)
        counts = {"listed": len(owners), "unchanged": len(owners), "owners_unknown": unknown}
        audit_id = ended(store, counts, tuple(owners), owner_tag="Taem")

        for form in ("table", "jsonl"):
            printed = keyhole("audit", "--follow", audit_id, "-o", form)

            assert printed.code == 0
            assert printed.err.splitlines()[form == "table"] == line

    def test_many_owners_are_not_counted_exactly(
        self, keyhole: Keyhole, store: AuditStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise memory would grow with the owners, which uploaders choose."""
        monkeypatch.setattr(audit_end, "MOST_OWNERS", 3)
        owners = tuple(Owner(f"{number}") for number in range(10))
        audit_id = ended(store, {"listed": 10, "unchanged": 10}, owners, owner_tag="team")

        printed = keyhole("audit", "--follow", audit_id, "-o", "jsonl")

        assert printed.err.splitlines() == ["team has more than 3 values; all objects have this tag."]

    @pytest.mark.parametrize("owners", [(), (UNREAD,)])
    def test_nothing_is_said_if_no_tags_were_read(
        self, keyhole: Keyhole, store: AuditStore, owners: tuple[Owner, ...]
    ) -> None:
        audit_id = ended(store, {"listed": 1, "archived": 1}, owners, owner_tag="team")

        assert "team" not in keyhole("audit", "--follow", audit_id).err

    def test_tags_that_were_read_for_owners_only_are_not_compared(
        self, keyhole: Keyhole, store: AuditStore
    ) -> None:
        audit_id = ended(store, {"listed": 1, "unchanged": 1}, (Owner("a"),), owner_tag="team")

        printed = keyhole("audit", "--follow", audit_id, KEYHOLE_SINKS="redis,tags")

        assert printed.err.splitlines()[-1] == (
            "The tags of 1 unchanged object were read for the owners, but not compared with the verdicts. "
            "--check-tags compares them without further requests; --fix-tags also writes missing tags."
        )


class TestTags:
    """The command states how many tags agree, because no message could also mean that none was compared."""

    @pytest.mark.parametrize(
        ("counts", "line"),
        [
            ({"unchanged": 3, "tags_agree": 3}, "The tags of 3 objects agree with the verdicts."),
            ({"unchanged": 2, "archived": 1, "tags_agree": 1, "tag_mismatches": 2}, DISAGREE),
            # Another line is about the tags that are corrected.
            ({"unchanged": 3, "tags_agree": 1, "tag_mismatches": 2, "tag_fixes": 2}, AGREES),
            ({"left_out": 3}, None),
            # Workers of an earlier version do not count the tags that agree.
            ({"unchanged": 3}, None),
        ],
    )
    def test_a_line_states_how_many_agree(
        self, keyhole: Keyhole, store: AuditStore, counts: dict[str, int], line: str | None
    ) -> None:
        audit_id = ended(store, {"listed": 3, **counts}, check_tags=True)

        for form in ("table", "jsonl"):
            printed = keyhole("audit", "--follow", audit_id, "-o", form)
            told = [one for one in printed.err.splitlines() if one.startswith("The tags")]
            assert told == ([] if line is None else [line])
            assert "tags" not in keyhole("audit", "--follow", audit_id, "-q", "-o", form).err

    def test_without_the_option_nothing_is_said_of_agreement(
        self, keyhole: Keyhole, store: AuditStore
    ) -> None:
        audit_id = ended(store, {"listed": 3, "unchanged": 3})

        assert "agree" not in keyhole("audit", "--follow", audit_id).err

    @pytest.mark.slow
    def test_a_first_audit_says_that_it_compared_none_and_the_next_how_many_agree(
        self, env: dict[str, str], images: str
    ) -> None:
        command = ("audit", "--check-tags", f"s3://{images}/", "--suffix", ".qcow2", "--json")
        told = [commands.keyhole(*command, env=env | TAGS).stderr.decode().splitlines()[-1] for _ in range(2)]

        assert told == [
            "No tags were compared, because no object had a valid verdict before this audit.",
            "The tags of 2 objects agree with the verdicts.",
        ]


class TestTable:
    """Figures that are zero are left out, and nouns are in the singular or plural."""

    def test_what_is_zero_is_left_out(self, keyhole: Keyhole, store: AuditStore) -> None:
        counts = {"listed": 1, "unchanged": 1, "gone": 1, "requests": 1, "lists": 1}
        audit_id = ended(store, counts | {"status:safe": 1})

        out = keyhole("audit", "--follow", audit_id).out

        assert re.search(r"^listed +1, 0 B *$", out, re.MULTILINE)
        assert re.search(r"^bucket +1 verdict without an object *$", out, re.MULTILINE)
        assert re.search(r"^cost +1 request \(1 for the list\), \$0\.00 *$", out, re.MULTILINE)
        assert "scanned" not in out
        assert "archived" not in out

    def test_what_is_not_zero_is_shown(self, keyhole: Keyhole, store: AuditStore) -> None:
        counts = {"listed": 3, "left_out": 1, "archived": 2, "tag_mismatches": 2, "tag_fixes": 1}
        audit_id = ended(store, counts | {"status:inconclusive": 2})

        out = keyhole("audit", "--follow", audit_id).out

        assert re.search(r"^listed +3 \(1 not selected\), 0 B *$", out, re.MULTILINE)
        assert re.search(r"^bucket +2 tags that disagree *$", out, re.MULTILINE)
        assert "1 of these tags will be corrected" in out
        assert "unchanged" not in out


class TestTurning:
    def test_an_audit_is_paused_resumed_and_cancelled(self, keyhole: Keyhole, store: AuditStore) -> None:
        begin(store)

        paused = keyhole("audit", "--pause", "a1")
        assert (paused.code, store.state("a1")) == (0, AuditState.PAUSED)
        assert "a1 is paused" in paused.out
        resumed = keyhole("audit", "--resume", "a1", "--detach", "--json")
        assert (resumed.code, store.state("a1")) == (0, AuditState.RUNNING)
        assert Audit.model_validate_json(resumed.out).state is AuditState.RUNNING
        cancelled = keyhole("audit", "--cancel", "a1")
        assert (cancelled.code, store.state("a1")) == (0, AuditState.CANCELLED)

    def test_what_cannot_be_is_told(self, keyhole: Keyhole, store: AuditStore) -> None:
        begin(store)
        store.set_state("a1", AuditState.CANCELLED)

        refused = keyhole("audit", "--resume", "a1")
        assert refused.error == "audit a1 is cancelled, so --resume is not possible"
        assert keyhole("audit", "--follow", "other").error == (
            "there is no audit other; `keyhole audits` lists them, and KEYHOLE_AUDIT_SECONDS is how long "
            "they are kept after their end"
        )

    def test_an_audit_that_is_paused_is_not_followed_for_ever(
        self, keyhole: Keyhole, store: AuditStore
    ) -> None:
        begin(store)
        store.set_state("a1", AuditState.PAUSED, "by me")

        done = keyhole("audit", "--follow", "a1")

        assert done.code == 3
        assert "by me" in done.out


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["s3://b/", "--follow", "a1"],
            ["--follow", "a1", "--pause", "a1"],
            ["images"],
            ["s3://b/", "--sample", "0%"],
            ["s3://b/", "--min-size", "many"],
            ["s3://b/", "--max-dollars", "0"],
            ["s3://b/", "--rate", "-1"],
            ["s3://b/", "--rate", "inf"],
            ["s3://b/", "--rate", "nan"],
            ["s3://b/", "--inventory", "manifest.json"],
            ["s3://b/", "--owner-tag", ""],
            ["s3://b/", "--owner-tag", "keyhole-status"],
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, keyhole: Keyhole, store: AuditStore, arguments: list[str]
    ) -> None:
        assert keyhole("audit", *arguments).code == 2
        assert store.latest(1) == []

    def test_a_bucket_without_a_scheme_gets_the_form_of_a_bucket(
        self, keyhole: Keyhole, store: AuditStore
    ) -> None:
        assert keyhole("audit", "images").error == (
            "'images' is not an S3 bucket or prefix; write s3://bucket/ or s3://bucket/prefix/"
        )
        assert store.latest(1) == []

    def test_tags_are_not_corrected_if_keyhole_writes_none(self, keyhole: Keyhole, store: AuditStore) -> None:
        refused = keyhole("audit", "s3://images/", "--fix-tags", KEYHOLE_SINKS="redis")

        assert refused.code == 2
        assert refused.error == (
            "--fix-tags needs the sink tags, but KEYHOLE_SINKS is redis; "
            "set KEYHOLE_SINKS=redis,tags here and for the workers"
        )
        assert store.latest(1) == []

    def test_options_become_the_audits(self, keyhole: Keyhole, store: AuditStore) -> None:
        done = keyhole(
            *("audit", "s3://images/a/", "--detach", "--include", "*.img", "--exclude", "tmp/*"),
            *("--suffix", ".img", "--min-size", "1 MiB", "--max-size", "2GiB", "--sample", "1%"),
            *("--limit", "5", "--full", "--versions", "--check-tags", "--fix-tags", "--rate", "7.5"),
            *("--owner-tag", "cost center"),
            *("--max-requests", "9", "--max-dollars", "0.5", "--inventory", "s3://inv/manifest.json"),
            KEYHOLE_SINKS="redis,tags",
            KEYHOLE_AUDIT_OUTSTANDING=3,
            KEYHOLE_BATCH_SIZE=11,
        )

        assert done.code == 0
        (audit,) = store.latest(2)
        assert audit.id in done.out
        assert audit.spec == AuditSpec.model_validate(
            {
                "bucket": "images",
                "prefix": "a/",
                "selection": {
                    "include": ["*.img"],
                    "exclude": ["tmp/*"],
                    "suffixes": [".img"],
                    "min_size": 1024**2,
                    "max_size": 2 * GIB,
                    "sample": 0.01,
                },
                "limit": 5,
                "full": True,
                "versions": True,
                "check_tags": True,
                "fix_tags": True,
                "owner_tag": "cost center",
                "inventory": "s3://inv/manifest.json",
                "max_requests": 9,
                "max_dollars": 0.5,
                "rate": 7.5,
                "outstanding": 3,
                "batch_size": 11,
            }
        )


class TestListing:
    def test_the_latest_come_first(self, keyhole: Keyhole, store: AuditStore) -> None:
        for number in range(3):
            begin(store, f"a{number}", prefix=f"p{number}/")

        listed = keyhole("audits", "--limit", "2")

        assert listed.code == 0
        rows = [line.split()[0] for line in listed.lines[1:-1]]
        assert rows == ["a2", "a1"]
        assert listed.lines[-1] == "2 audits: 2 running"
        assert "there are more" in listed.err
        as_json = keyhole("audits", "--json")
        assert [json.loads(line)["id"] for line in as_json.lines] == ["a2", "a1", "a0"]

    def test_in_a_pipe_each_audit_is_one_line(self, keyhole: Keyhole, store: AuditStore) -> None:
        prefix = "and/a/\u202eprefix/that/goes/on/" * 9
        begin(store, bucket="a-bucket-with-a-very-long-name", prefix=prefix)

        _, row, _ = keyhole("audits").lines

        assert row.endswith(f" s3://a-bucket-with-a-very-long-name/{escaped(prefix)}")

    def test_other_forms_have_a_record_for_each(self, keyhole: Keyhole, store: AuditStore) -> None:
        begin(store, "a1", prefix="=1+1|`x`")

        (document,) = json.loads(keyhole("audits", "-o", "json").out)
        (record,) = csv.DictReader(io.StringIO(keyhole("audits", "-o", "csv").out.removeprefix("\ufeff")))
        markdown = keyhole("audits", "-o", "markdown").lines

        assert document["id"] == record["id"] == "a1"
        assert (record["prefix"], record["unsafe"], record["dollars"]) == ("'=1+1|`x`", "0", "0.000000")
        assert markdown[2].startswith("| `a1` | ")
        assert r"=1+1\|`x`" in markdown[2]

    def test_sarif_has_a_run_for_each(self, keyhole: Keyhole, store: AuditStore) -> None:
        assert json.loads(keyhole("audits", "-o", "sarif").out)["runs"] == []
        begin(store, "a1", prefix="p1/")
        begin(store, "a2", prefix="p2/")

        printed = keyhole("audits", "-o", "sarif", "--limit", "1")

        assert printed.code == 0
        assert "there are more" in printed.err
        (run,) = json.loads(printed.out)["runs"]
        assert run["automationDetails"]["id"].endswith("/p2//a2")

    def test_without_any_it_says_how_to_begin(self, keyhole: Keyhole, store: AuditStore) -> None:
        assert store.latest(1) == []
        assert "keyhole audit s3://" in keyhole("audits").out
