"""`keyhole report`: where it writes which files, and that it never leaves an incomplete file."""

import csv
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import redis
from pyarrow import parquet

from keyhole.intake.audits.audit import AuditSpec, How
from keyhole.intake.audits.records import PageResult, Row
from keyhole.intake.audits.store import AuditStore
from keyhole.reasons import STATUSES, Status
from keyhole.reports import page
from keyhole.results.owner import Owner
from keyhole.results.redis_store import RedisStore
from keyhole.store import keys
from tests.cli.conftest import Keyhole
from tests.cli.terminal import on_a_terminal
from tests.e2e import commands
from tests.reports import sample

AUDIT = "3f0c9a1b2c4d"
NOWHERE = "redis://127.0.0.1:1"


def count() -> int:
    """The number of objects of the sample with a report."""
    return len([one for one in sample.objects() if one.report])


@pytest.fixture
def audits(valkey: redis.Redis) -> AuditStore:
    """Audits, one of which is done. It found all objects of the sample except the forgotten one."""
    verdicts = RedisStore(valkey, expiry_seconds=None, stream_length=1000)
    store = AuditStore(valkey, expiry_seconds=None)
    rows = []
    owners = []
    for audited in sample.owned():
        report = audited.report
        if report is not None:
            owners.append(Owner(audited.owner, audited.owner_unknown))
            verdicts.write(report, job_id=str(report.key), sequencer=None)
            object_id = keys.object_id(sample.BUCKET, str(report.key), report.version_id)
            rows.append(Row(object_id, audited.status, audited.how))
    spec = AuditSpec(bucket=sample.BUCKET, owner_tag="team")
    assert store.create(AUDIT, spec, ruleset="3:default", scanner="keyhole/test")
    claim = store.claim(AUDIT, "test")
    assert claim is not None
    counts = {f"status:{status}": count for status, count in Counter(row.status for row in rows).items()}
    assert store.commit(
        claim,
        PageResult(
            counts=counts | {"listed": len(rows), "gone": 1, "tag_mismatches": 1},
            rows=tuple(rows),
            findings=sample.findings(),
            owners=tuple(owners),
        ),
    )
    return store


@pytest.fixture
def url(audits: AuditStore, redis_url: str) -> str:
    """The URL of the Redis with that audit."""
    assert audits.get(AUDIT) is not None
    return redis_url


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command runs. It is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))[1:]


class TestWhere:
    @pytest.mark.parametrize(
        ("arguments", "begins"),
        [
            ((), "<!doctype html>"),
            (("-o", "csv"), '\ufeff"status","reasons"'),
            (("-o", "jsonl"), '{"type":"audit","id":"3f0c9a1b2c4d"'),
            (("-o", "jsonl", "--to", "-"), '{"type":"audit"'),
            (("--json",), '{"type":"audit"'),
            (("--json", "-o", "jsonl", "--to", "-"), '{"type":"audit"'),
        ],
    )
    def test_what_is_piped_goes_to_standard_output(
        self, keyhole: Keyhole, url: str, folder: Path, arguments: tuple[str, ...], begins: str
    ) -> None:
        printed = keyhole("report", AUDIT, *arguments, KEYHOLE_REDIS_URL=url)

        assert printed.code == 0
        assert printed.out.startswith(begins)
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize(
        ("name", "begins"),
        [
            ("a.html", b"<!doctype html>"),
            ("a.HTM", b"<!doctype html>"),
            ("a.csv", b'\xef\xbb\xbf"status"'),
            ("a.jsonl", b'{"type":"audit"'),
            ("a.ndjson", b'{"type":"audit"'),
            ("a.json", b'{"audit": {"id":"3f0c9a1b2c4d"'),
            ("a.md", b"| status | reasons | "),
            ("a.sarif", b'{"$schema": "https://docs.oasis-open.org/sarif/'),
            ("a.txt", b"status "),
            ("a.parquet", b"PAR1"),
        ],
    )
    def test_a_file_tells_the_format_by_its_name(
        self, keyhole: Keyhole, url: str, folder: Path, name: str, begins: bytes
    ) -> None:
        printed = keyhole("report", AUDIT, "--to", name, KEYHOLE_REDIS_URL=url)

        assert (printed.code, printed.out) == (0, "")
        assert printed.err.startswith(f"{name} (")
        assert [path.name for path in folder.iterdir()] == [name]
        assert (folder / name).read_bytes().startswith(begins)

    def test_a_format_that_is_named_counts_more_than_the_files_name(
        self, keyhole: Keyhole, url: str, folder: Path
    ) -> None:
        keyhole("report", AUDIT, "-o", "csv", "--to", "a.html", KEYHOLE_REDIS_URL=url)
        assert (folder / "a.html").read_bytes().startswith(b'\xef\xbb\xbf"status"')

    def test_a_file_is_named_by_another_option_than_the_form(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("report", AUDIT, "-o", "found.csv", KEYHOLE_REDIS_URL=url)

        assert printed.code == 2
        assert "'found.csv' is not a form of a report; use --to to name a file" in printed.err

    def test_json_contradicts_another_form(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("report", AUDIT, "--json", "-o", "csv", KEYHOLE_REDIS_URL=url)

        assert (printed.code, printed.out) == (2, "")
        assert "--json means -o jsonl, which contradicts -o csv" in printed.err

    def test_json_is_one_document_with_everything(self, keyhole: Keyhole, url: str) -> None:
        found = json.loads(keyhole("report", AUDIT, "-o", "json", KEYHOLE_REDIS_URL=url).out)

        assert found["audit"]["id"] == AUDIT
        assert len(found["objects"]) == count()
        assert [one["kind"] for one in found["findings"]] == ["gone", "tag_mismatch"]

    def test_a_table_shows_the_most_urgent_objects_first(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("report", AUDIT, "-o", "table", KEYHOLE_REDIS_URL=url)

        table, findings = printed.lines[: 2 + count()], printed.lines[2 + count() :]
        statuses = [line.split()[0] for line in table[1:-1]]
        assert statuses == sorted(statuses, key=lambda status: list(STATUSES).index(Status(status)))
        assert table[-1].startswith(f"{count()} objects: ")
        unknown = sum(one.owner_unknown is not None for one in sample.owned() if one.report)
        assert findings == [
            f"The owner of {unknown} objects is unknown: reading the tags is denied.",
            "",
            "findings about the bucket",
            *(f"{one.kind}  {one.target}: {one.message}" for one in sample.findings()),
        ]
        assert "Not included" not in printed.err

    def test_markdown_names_the_objects_of_findings(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("report", AUDIT, "-o", "markdown", KEYHOLE_REDIS_URL=url)

        assert printed.out.endswith(
            "\nFindings about the bucket:\n\n"
            f"- `gone` `s3://{sample.BUCKET}/build/images/debian-11.qcow2`: "
            "`the verdict is safe, of 2026-03-02; the object is gone`\n"
            f"- `tag_mismatch` `s3://{sample.BUCKET}/desktop/uploads/delta.vhd`: "
            "`the tag says safe, the verdict is unsafe`\n"
        )
        assert printed.err == ""

    def test_a_table_with_too_many_findings_says_so(
        self, keyhole: Keyhole, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keyhole.cli.report.READABLE", 1)

        printed = keyhole("report", AUDIT, "-o", "markdown", KEYHOLE_REDIS_URL=url)

        assert printed.out.count("\n- `gone`") == 1
        assert "tag_mismatch" not in printed.out
        assert "Not included: 1 finding about the bucket; use -o html, json, jsonl or sarif." in printed.err

    def test_of_many_objects_a_table_shows_only_the_most_urgent(
        self, keyhole: Keyhole, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("keyhole.cli.report.READABLE", 3)

        printed = keyhole("report", AUDIT, "-o", "markdown", KEYHOLE_REDIS_URL=url)

        assert [line.split()[1] for line in printed.lines[2:5]] == ["unsafe"] * 3
        assert "\n3 objects: 3 unsafe\n" in printed.out
        assert f"Not included: {count() - 3} objects; use -o csv or jsonl for all." in printed.err

    def test_a_name_that_tells_no_format_is_refused(self, keyhole: Keyhole, url: str, folder: Path) -> None:
        printed = keyhole("report", AUDIT, "--to", "a.doc", KEYHOLE_REDIS_URL=url)

        assert printed.code == 2
        assert printed.error.startswith("a.doc has no known suffix: use .html")
        assert list(folder.iterdir()) == []

    def test_on_a_terminal_it_is_a_file_by_the_audits_name(
        self, url: str, folder: Path, env: dict[str, str]
    ) -> None:
        printed = on_a_terminal("report", AUDIT, env=env | {"KEYHOLE_REDIS_URL": url})

        assert f"keyhole-audit-{AUDIT}.html (" in printed.splitlines()[-1]
        assert [path.name for path in folder.iterdir()] == [f"keyhole-audit-{AUDIT}.html"]

    @pytest.mark.slow
    def test_a_terminal_gets_no_parquet(self, url: str, folder: Path, env: dict[str, str]) -> None:
        printed = on_a_terminal(
            "report", AUDIT, "-o", "parquet", "--to", "-", env=env | {"KEYHOLE_REDIS_URL": url}
        )

        assert (
            printed.strip()
            == "Error: Parquet cannot be shown on a terminal; write it to a file with --to FILE"
        )
        assert list(folder.iterdir()) == []

    def test_a_pipe_gets_parquet(self, url: str, env: dict[str, str]) -> None:
        done = commands.keyhole("report", AUDIT, "-o", "parquet", env=env | {"KEYHOLE_REDIS_URL": url})

        assert done.returncode == 0
        assert parquet.read_table(io.BytesIO(done.stdout)).num_rows == count()

    def test_a_device_is_written_to_and_stays_one(self, keyhole: Keyhole, url: str, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        reader = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)

        printed = keyhole("report", AUDIT, "-o", "csv", "--to", "pipe", KEYHOLE_REDIS_URL=url)

        assert printed.code == 0
        assert os.read(reader, 9) == b'\xef\xbb\xbf"statu'
        os.close(reader)
        assert (folder / "pipe").is_fifo()

    def test_a_link_stays_one(self, keyhole: Keyhole, url: str, folder: Path) -> None:
        (folder / "real.csv").write_text("old")
        (folder / "link.csv").symlink_to("real.csv")

        keyhole("report", AUDIT, "--to", "link.csv", KEYHOLE_REDIS_URL=url)

        assert (folder / "link.csv").is_symlink()
        assert (folder / "real.csv").read_text().startswith('\ufeff"status"')


class TestWhole:
    def test_what_was_there_stays_until_all_is_written(
        self, keyhole: Keyhole, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "a.html").write_text("yesterday's")
        monkeypatch.setattr(page, "shown", lambda _: 1 / 0)

        assert keyhole("report", AUDIT, "--to", "a.html", KEYHOLE_REDIS_URL=url).code == 3

        assert [path.name for path in folder.iterdir()] == ["a.html"]
        assert (folder / "a.html").read_text() == "yesterday's"

    def test_it_may_be_read_by_whom_other_files_may(self, keyhole: Keyhole, url: str, folder: Path) -> None:
        (folder / "other").touch()
        keyhole("report", AUDIT, "--to", "a.csv", KEYHOLE_REDIS_URL=url)
        assert (folder / "a.csv").stat().st_mode == (folder / "other").stat().st_mode

    @pytest.mark.parametrize("output", ["nowhere/a.csv", "."])
    def test_where_it_cannot_be_written_one_line_says_so(
        self, keyhole: Keyhole, url: str, folder: Path, output: str
    ) -> None:
        printed = keyhole("report", AUDIT, "-o", "csv", "--to", output, KEYHOLE_REDIS_URL=url)

        assert printed.code == 3
        assert printed.error.startswith(f"{output} cannot be written: ")
        assert list(folder.iterdir()) == []


class TestWhat:
    def test_every_object_has_its_row(self, keyhole: Keyhole, url: str) -> None:
        rows = rows_of(keyhole("report", AUDIT, "-o", "csv", KEYHOLE_REDIS_URL=url).out)

        expected = [one for one in sample.objects() if one.report]
        assert [(row[0], row[3], row[19]) for row in rows] == [
            (one.status.value, one.report.key, one.how.value) for one in expected if one.report
        ]

    def test_lines_of_json_have_everything(self, keyhole: Keyhole, url: str) -> None:
        printed = keyhole("report", AUDIT, "-o", "jsonl", KEYHOLE_REDIS_URL=url)

        kinds = Counter(json.loads(line)["type"] for line in printed.lines)
        assert kinds == {"audit": 1, "object": count(), "finding": 2}
        assert printed.err == ""

    @pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
    def test_a_table_says_what_it_has_no_room_for(self, keyhole: Keyhole, url: str, name: str) -> None:
        printed = keyhole("report", AUDIT, "--to", name, KEYHOLE_REDIS_URL=url)
        assert printed.err.splitlines()[1:] == [
            "Not included: 2 findings about the bucket; use -o html, json, jsonl or sarif."
        ]

    def test_an_object_whose_record_has_expired_is_in_it_without_its_name(
        self, keyhole: Keyhole, url: str, valkey: redis.Redis
    ) -> None:
        first = next(one.report for one in sample.objects() if one.report)
        valkey.delete(keys.record(keys.object_id(sample.BUCKET, str(first.key), None)))

        rows = rows_of(keyhole("report", AUDIT, "-o", "csv", KEYHOLE_REDIS_URL=url).out)

        assert len(rows) == count()
        assert rows[0] == ["safe", *[""] * 18, "scanned", "", "payments", ""]

    def test_of_an_audit_that_runs_it_says_so(
        self, keyhole: Keyhole, audits: AuditStore, redis_url: str
    ) -> None:
        audits.create("running", AuditSpec(bucket="images"), ruleset="3:default", scanner="keyhole/test")

        printed = keyhole("report", "running", KEYHOLE_REDIS_URL=redis_url)

        assert (printed.code, printed.err) == (0, "The audit is running; the report is incomplete.\n")
        assert "Still running." in printed.out


class TestErrors:
    def test_its_id_may_be_shortened(self, keyhole: Keyhole, url: str, audits: AuditStore) -> None:
        whole = keyhole("report", AUDIT, "-o", "jsonl", KEYHOLE_REDIS_URL=url)

        assert keyhole("report", AUDIT[:3], "-o", "jsonl", KEYHOLE_REDIS_URL=url).out == whole.out

        audits.create(AUDIT + "0", AuditSpec(bucket="b"), ruleset="3:default", scanner="keyhole/test")
        assert keyhole("report", AUDIT, "-o", "jsonl", KEYHOLE_REDIS_URL=url).out == whole.out
        printed = keyhole("report", AUDIT[:3], KEYHOLE_REDIS_URL=url)
        assert printed.code == 2
        assert printed.error.startswith(f"several audits begin with {AUDIT[:3]}: ")

    def test_latest_is_the_audit_that_started_last(
        self, keyhole: Keyhole, url: str, audits: AuditStore
    ) -> None:
        whole = keyhole("report", AUDIT, "-o", "jsonl", KEYHOLE_REDIS_URL=url)
        assert keyhole("report", "latest", "-o", "jsonl", KEYHOLE_REDIS_URL=url).out == whole.out

        audits.create("0later", AuditSpec(bucket="b"), ruleset="3:default", scanner="keyhole/test")
        assert '"id":"0later"' in keyhole("report", "latest", "-o", "jsonl", KEYHOLE_REDIS_URL=url).out

    def test_latest_needs_an_audit(self, keyhole: Keyhole, redis_url: str) -> None:
        printed = keyhole("report", "latest", KEYHOLE_REDIS_URL=redis_url)

        assert (printed.code, printed.error[:24]) == (2, "there is no audit latest")

    def test_an_audit_that_is_not_there(self, keyhole: Keyhole, url: str, folder: Path) -> None:
        printed = keyhole("report", "x\x1b[31m", "--to", "a.csv", KEYHOLE_REDIS_URL=url)

        assert printed.code == 2
        assert printed.error.startswith(
            r"there is no audit x\x1b[31m; `keyhole audits` lists them, and KEYHOLE_"
        )
        assert list(folder.iterdir()) == []

    def test_parquet_without_pyarrow(
        self, keyhole: Keyhole, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pyarrow", None)

        printed = keyhole("report", AUDIT, "--to", "a.parquet", KEYHOLE_REDIS_URL=url)

        assert printed.code == 2
        assert "run `pip install -c deploy/constraints.txt '.[inventory]'` in a clone" in printed.error
        assert list(folder.iterdir()) == []

    @pytest.mark.slow
    def test_a_redis_that_does_not_answer(self, keyhole: Keyhole, folder: Path) -> None:
        printed = keyhole("report", AUDIT, "--to", "a.csv", KEYHOLE_REDIS_URL=NOWHERE)

        assert printed.code == 3
        assert printed.error.startswith("Redis does not answer")
        assert list(folder.iterdir()) == []

    @pytest.mark.slow
    def test_a_reader_that_has_seen_enough_is_no_error(self, url: str, env: dict[str, str]) -> None:
        with subprocess.Popen(
            [*commands.KEYHOLE, "report", AUDIT, "-o", "jsonl"],
            env=env | {"KEYHOLE_REDIS_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""


class TestOwners:
    """The audit of the sample has an owner tag."""

    NAMED = tuple(one for one in sample.owned() if one.report and one.owner == "payments")

    def test_each_row_has_its_owner(self, keyhole: Keyhole, url: str) -> None:
        lines = keyhole("report", AUDIT, "-o", "jsonl", KEYHOLE_REDIS_URL=url).out.splitlines()

        objects = [json.loads(line) for line in lines if json.loads(line)["type"] == "object"]
        found = {one["report"]["key"]: (one["owner"], one["owner_unknown"]) for one in objects}
        assert found == {
            str(one.report.key): (one.owner, one.owner_unknown) for one in sample.owned() if one.report
        }

    def test_a_report_can_be_of_one_owner(self, keyhole: Keyhole, url: str) -> None:
        done = keyhole("report", AUDIT, "--owner", "payments", "-o", "json", KEYHOLE_REDIS_URL=url)

        document = json.loads(done.out)
        assert {one["report"]["key"] for one in document["objects"]} == {
            str(one.report.key) for one in self.NAMED if one.report
        }
        assert document["findings"] == []
        assert "Not included: 2 findings about the bucket" in done.err

    def test_a_table_can_be_of_one_owner(self, keyhole: Keyhole, url: str) -> None:
        done = keyhole("report", AUDIT, "--owner", "payments", "-o", "table", KEYHOLE_REDIS_URL=url)

        assert f"{len(self.NAMED)} objects" in done.out

    @pytest.mark.parametrize("form", ["table", "markdown", "sarif", "csv", "html"])
    def test_every_form_has_owners(self, keyhole: Keyhole, url: str, form: str) -> None:
        done = keyhole("report", AUDIT, "-o", form, KEYHOLE_REDIS_URL=url)

        for text in ("payments", "identity &", "denied"):
            assert text in done.out
        if form in {"table", "markdown"}:
            count = sum(one.owner_unknown is not None for one in sample.owned() if one.report)
            assert f"The owner of {count} objects is unknown: " in done.out
            assert " owner " in done.lines[0]

    @pytest.mark.parametrize("form", ["table", "markdown", "sarif"])
    def test_without_an_owner_tag_no_form_has_owners(
        self, keyhole: Keyhole, valkey: redis.Redis, redis_url: str, form: str
    ) -> None:
        store = AuditStore(valkey, expiry_seconds=None)
        RedisStore(valkey, expiry_seconds=None, stream_length=10).write(
            sample.verdict("a", Status.UNSAFE, reasons=("backing_file",)), job_id="a", sequencer=None
        )
        row = Row(keys.object_id(sample.BUCKET, "a", None), Status.UNSAFE, How.SCANNED)
        spec = AuditSpec(bucket=sample.BUCKET)
        assert store.create(AUDIT, spec, ruleset="3:default", scanner="keyhole/test")
        claim = store.claim(AUDIT, "test")
        assert claim is not None
        assert store.commit(claim, PageResult(counts={"listed": 1, "status:unsafe": 1}, rows=(row,)))

        done = keyhole("report", AUDIT, "-o", form, KEYHOLE_REDIS_URL=redis_url)

        assert "s3://images/a" in done.out
        assert "owner" not in done.out

    def test_a_page_is_of_all_owners(self, keyhole: Keyhole, url: str) -> None:
        done = keyhole("report", AUDIT, "--owner", "payments", KEYHOLE_REDIS_URL=url)

        assert done.code == 2
        assert "the HTML page has all owners and a filter" in done.err

    def test_an_audit_without_an_owner_tag_has_no_owners(
        self, keyhole: Keyhole, valkey: redis.Redis, redis_url: str
    ) -> None:
        store = AuditStore(valkey, expiry_seconds=None)
        store.create(AUDIT, AuditSpec(bucket=sample.BUCKET), ruleset="3:default", scanner="keyhole/test")

        done = keyhole("report", AUDIT, "--owner", "payments", "-o", "csv", KEYHOLE_REDIS_URL=redis_url)

        assert done.code == 2
        assert "--owner-tag NAME" in done.err
