"""`keyhole results` and `keyhole show`: the stored verdicts, and errors if they cannot be read."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import redis

from keyhole.jobs.tag_debts import TagDebts
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from keyhole.results.tags import TagDebt
from keyhole.scan.report import Report
from tests.cli.conftest import Keyhole

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
VERDICTS = {
    "a.qcow2": ("qcow2", Status.SAFE),
    "b.qcow2": ("qcow2", Status.UNSAFE),
    "c.vmdk": ("vmdk", Status.UNSAFE),
    "d": (None, Status.UNREADABLE),
}
NOWHERE = "redis://127.0.0.1:1"


def report(key: str, image_format: str | None, status: Status, minutes: int = 0) -> Report:
    return Report(
        target=f"s3://images/{key}",
        bucket="images",
        key=key,
        format=image_format,
        size=5 * 1024**3,
        virtual_size=10 * 1024**4,
        status=status,
        reasons=() if status is Status.SAFE else ("backing_file", "unsupported_subformat"),
        scanned_at=NOON + timedelta(minutes=minutes),
        scanner="keyhole/test",
        ruleset="1",
    )


@pytest.fixture
def store(valkey: redis.Redis) -> RedisStore:
    return RedisStore(valkey, expiry_seconds=None, stream_length=1000)


@pytest.fixture
def kept(store: RedisStore, redis_url: str) -> str:
    """The URL of a Redis with verdicts. The last verdict is the latest."""
    for minutes, (key, (image_format, status)) in enumerate(VERDICTS.items()):
        store.write(report(key, image_format, status, minutes), job_id=key, sequencer=None)
    return redis_url


def listed(keyhole: Keyhole, url: str, *arguments: str) -> list[str | None]:
    """The keys of the listed verdicts. Only if there are none, there is a note."""
    printed = keyhole("results", "--json", *arguments, KEYHOLE_REDIS_URL=url)
    assert (printed.code, bool(printed.err)) == (0, not printed.lines)
    return [Report.model_validate_json(line).key for line in printed.lines]


class TestFilters:
    @pytest.mark.parametrize(
        ("options", "keys"),
        [
            (("--bucket", "images", "--prefix", "b."), ["b.qcow2"]),
            (("--bucket", "image"), []),
            (("--contains", "QCOW2"), ["b.qcow2", "a.qcow2"]),
            (("--reason", "backing_file"), ["d", "c.vmdk", "b.qcow2"]),
            (("--reason", "truncated"), []),
            (("--since", "2026-05-01T12:02"), ["d", "c.vmdk"]),
            (("--since", "99999w"), ["d", "c.vmdk", "b.qcow2", "a.qcow2"]),
            (("--since", "1m"), []),
            (("--status", "unsafe", "--format", "vmdk", "--limit", "1"), ["c.vmdk"]),
        ],
    )
    def test_they_choose_and_the_latest_comes_first(
        self, keyhole: Keyhole, kept: str, options: tuple[str, ...], keys: list[str]
    ) -> None:
        assert listed(keyhole, kept, *options) == keys

    @pytest.mark.parametrize("time", ["yesterday", "24", "999999w", "-1h", ""])
    def test_a_time_that_is_none_is_refused(self, keyhole: Keyhole, kept: str, time: str) -> None:
        printed = keyhole("results", "--since", time, KEYHOLE_REDIS_URL=kept)

        assert (printed.code, printed.out) == (2, "")
        assert "write the time as 90m, 24h, 7d" in printed.err

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--reason", "truncatd"), "'truncatd' is not a reason; did you mean truncated"),
            (("--reason", "x"), "'x' is not a reason; `keyhole explain` lists all reasons"),
            (("--format", "vmkd"), "'vmkd' is not a format; did you mean vmdk?"),
            (
                ("--format", "vmdk:streamOptimized"),
                "'vmdk:streamOptimized' is a format with a variant; name only the format: vmdk",
            ),
            (
                ("--format", "vhd (fixed)"),
                "'vhd (fixed)' is a format with a variant; name only",
            ),
            (("--format", "?", "--json"), "'?' is not a format; the formats are"),
        ],
    )
    def test_a_misspelt_one_is_refused(
        self, keyhole: Keyhole, kept: str, options: tuple[str, ...], message: str
    ) -> None:
        printed = keyhole("results", *options, KEYHOLE_REDIS_URL=kept)

        assert (printed.code, printed.out) == (2, "")
        assert printed.error.startswith(message)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--bucket", "s3://images"), "only the name of a bucket; write --bucket images"),
            (("--bucket", "images/a b"), "only the name of a bucket; write --bucket images --prefix 'a b'"),
            (("--prefix", "s3://images/a"), "the beginning of keys; write --bucket images --prefix a"),
            (("s3://images/a",), "an address is written with options; write --bucket images --prefix a"),
            (("s3://",), "write --bucket NAME"),
            (("images",), "unexpected extra argument: images. See `keyhole results --help`."),
        ],
    )
    def test_an_address_is_refused_with_the_options_that_mean_it(
        self, keyhole: Keyhole, kept: str, arguments: tuple[str, ...], message: str
    ) -> None:
        printed = keyhole("results", *arguments, KEYHOLE_REDIS_URL=kept)

        assert (printed.code, printed.out) == (2, "")
        assert printed.error.endswith(message)

    def test_a_key_can_be_the_address_of_a_page(self, keyhole: Keyhole, store: RedisStore, kept: str) -> None:
        store.write(report("http://host/a", "qcow2", Status.SAFE), job_id="page", sequencer=None)

        assert listed(keyhole, kept, "--prefix", "http://") == ["http://host/a"]

    def test_a_value_that_only_a_record_has_is_accepted(
        self, keyhole: Keyhole, store: RedisStore, kept: str
    ) -> None:
        """A later version can have recorded a verdict."""
        later = report("later", "newdisk", Status.DAMAGED).model_copy(update={"reasons": ("new_check",)})
        store.write(later, job_id="later", sequencer=None)

        assert listed(keyhole, kept, "--reason", "new_check") == ["later"]
        assert listed(keyhole, kept, "--format", "newdisk") == ["later"]
        assert listed(keyhole, kept, "--format", "newdisk", "--status", "safe") == []

    def test_a_bucket_without_verdicts_is_named(self, keyhole: Keyhole, kept: str) -> None:
        def told(*options: str) -> str:
            return keyhole("results", *options, KEYHOLE_REDIS_URL=kept).out

        assert told("--bucket", "image") == "there is no verdict on an object in bucket image\n"

    @pytest.mark.parametrize(
        ("options", "note"),
        [
            (("--bucket", "image"), "there is no verdict on an object in bucket image"),
            (("--bucket", "ima\x1bge"), "there is no verdict on an object in bucket ima\\x1bge"),
            (
                ("--bucket", "images", "--prefix", "x y"),
                "no verdict matches --bucket images --prefix 'x y'; this bucket has other verdicts",
            ),
            (
                ("--status", "damaged,failed", "--format", "vdi"),
                "no verdict matches --status damaged,failed --format vdi; there are other verdicts",
            ),
            (
                ("--since", "2027-01-31", "--contains", "x", "--reason", "truncated"),
                (
                    "no verdict matches --contains x --reason truncated --since 2027-01-31T00:00:00+00:00; "
                    "there are other verdicts"
                ),
            ),
        ],
    )
    def test_if_nothing_is_found_a_note_says_what_was_searched(
        self, keyhole: Keyhole, kept: str, options: tuple[str, ...], note: str
    ) -> None:
        """In a form for programs, the note is on standard error, and the output is complete."""
        assert keyhole("results", *options, KEYHOLE_REDIS_URL=kept).out == f"{note}\n"
        for form in ("json", "jsonl", "csv", "sarif"):
            printed = keyhole("results", *options, "-o", form, KEYHOLE_REDIS_URL=kept)
            assert (printed.code, printed.err) == (0, f"{note}\n")
            if form == "json":
                assert json.loads(printed.out) == []
            quiet = keyhole("results", *options, "-o", form, "-q", KEYHOLE_REDIS_URL=kept)
            assert (quiet.out, quiet.err) == (printed.out, "")


class TestResults:
    def test_the_latest_come_first(self, keyhole: Keyhole, kept: str) -> None:
        assert listed(keyhole, kept) == ["d", "c.vmdk", "b.qcow2", "a.qcow2"]

    @pytest.mark.parametrize(
        ("arguments", "keys"),
        [
            (("--status", "unsafe"), ["c.vmdk", "b.qcow2"]),
            (("--status", "damaged"), []),
            (("--status", "not-safe"), ["d", "c.vmdk", "b.qcow2"]),
            (("--status", "safe,unreadable"), ["d", "a.qcow2"]),
            (("--status", "not-safe", "--format", "qcow2"), ["b.qcow2"]),
            (("--format", "qcow2"), ["b.qcow2", "a.qcow2"]),
            (("--format", "qcow2", "--status", "unsafe"), ["b.qcow2"]),
            (("--limit", "1"), ["d"]),
            (("--limit", "1", "--format", "qcow2"), ["b.qcow2"]),
        ],
    )
    def test_they_can_be_chosen(
        self, keyhole: Keyhole, kept: str, arguments: tuple[str, ...], keys: list[str]
    ) -> None:
        assert listed(keyhole, kept, *arguments) == keys

    def test_the_table_says_how_many_there_are_in_all(self, keyhole: Keyhole, kept: str) -> None:
        printed = keyhole("results", "--limit", "2", KEYHOLE_REDIS_URL=kept)

        assert printed.lines[-1] == "All: 2 unsafe, 1 unreadable, 1 safe"
        assert "a.qcow2" not in printed.out
        assert "--limit" in printed.err

    def test_no_line_calls_a_pdf_only_unrecognized(
        self, keyhole: Keyhole, kept: str, store: RedisStore
    ) -> None:
        pdf = report("e.pdf", None, Status.UNRECOGNIZED).model_copy(update={"reasons": ("not_an_image",)})
        store.write(pdf, job_id="e", sequencer=None)

        whole = keyhole("results", KEYHOLE_REDIS_URL=kept).lines
        part = keyhole("results", "--status", "safe", KEYHOLE_REDIS_URL=kept).lines

        assert whole[-1] == "5 objects: 2 unsafe, 1 unreadable, 1 safe, 1 not an image"
        assert part[-2:] == [
            "1 object: 1 safe",
            "All: 2 unsafe, 1 unreadable, 1 unrecognized or not images, 1 safe",
        ]

    def test_it_says_how_many_wait_for_their_tags(
        self, keyhole: Keyhole, kept: str, valkey: redis.Redis
    ) -> None:
        TagDebts(valkey).record(TagDebt("images", "a.qcow2"))

        printed = keyhole("results", KEYHOLE_REDIS_URL=kept)

        assert printed.lines[-1].startswith("The tags of 1 objects could not be written yet")

    def test_no_more_than_there_are_is_said(self, keyhole: Keyhole, kept: str) -> None:
        assert keyhole("results", "--limit", "4", KEYHOLE_REDIS_URL=kept).err == ""

    def test_each_verdict_has_its_whole_name_and_the_time_of_its_scan(
        self, keyhole: Keyhole, kept: str
    ) -> None:
        _, first, *_ = keyhole("results", KEYHOLE_REDIS_URL=kept).lines

        assert first.endswith(" s3://images/d")
        assert " 2026-05-01 12:03 " in first

    def test_quiet_prints_only_the_table(self, keyhole: Keyhole, kept: str) -> None:
        printed = keyhole("results", "-q", "--limit", "2", KEYHOLE_REDIS_URL=kept)

        assert (len(printed.lines), printed.err) == (3, "")

    def test_there_are_none_yet(self, keyhole: Keyhole, redis_url: str) -> None:
        printed = keyhole("results", KEYHOLE_REDIS_URL=redis_url)

        assert (printed.code, printed.out) == (0, "no verdicts yet; try `keyhole submit`\n")
        as_json = keyhole("results", "--status", "safe", "-o", "json", KEYHOLE_REDIS_URL=redis_url)
        assert (json.loads(as_json.out), as_json.err) == ([], "no verdicts yet; try `keyhole submit`\n")

    @pytest.mark.parametrize("arguments", [("--status", "fine"), ("--limit", "0"), ("--limit", "x")])
    def test_what_cannot_be_is_a_usage_error(
        self, keyhole: Keyhole, kept: str, arguments: tuple[str, ...]
    ) -> None:
        assert keyhole("results", *arguments, KEYHOLE_REDIS_URL=kept).code == 2


class TestShow:
    @pytest.mark.parametrize(("key", "code"), [("a.qcow2", 0), ("b.qcow2", 1), ("d", 3)])
    def test_the_exit_code_is_the_verdicts(self, keyhole: Keyhole, kept: str, key: str, code: int) -> None:
        printed = keyhole("show", f"s3://images/{key}", KEYHOLE_REDIS_URL=kept)

        assert (printed.code, printed.err) == (code, "")
        assert VERDICTS[key][1].value in printed.out

    def test_as_json_it_is_the_report(self, keyhole: Keyhole, kept: str, store: RedisStore) -> None:
        (line,) = keyhole("show", "--json", "s3://images/b.qcow2", KEYHOLE_REDIS_URL=kept).lines

        assert Report.model_validate_json(line) == store.get("images", "b.qcow2")

    def test_a_version_is_shown(self, keyhole: Keyhole, store: RedisStore, redis_url: str) -> None:
        old = report("v", "qcow2", Status.UNSAFE).model_copy(update={"version_id": "1"})
        new = report("v", "qcow2", Status.SAFE, 1).model_copy(update={"version_id": "2"})
        for each in (old, new):
            store.write(each, job_id=f"job-{each.version_id}", sequencer=None)

        assert keyhole("show", "s3://images/v", KEYHOLE_REDIS_URL=redis_url).code == 0
        assert keyhole("show", "--version-id", "1", "s3://images/v", KEYHOLE_REDIS_URL=redis_url).code == 1

    def test_tags_that_are_owed_are_told(self, keyhole: Keyhole, kept: str, valkey: redis.Redis) -> None:
        """The output states why, whatever version the verdict is about."""
        debts = TagDebts(valkey)
        hold = debts.hold(TagDebt("images", "a.qcow2"))
        assert hold is not None
        debts.postpone(hold, "slow_down", "the server asks to slow down")

        printed = keyhole("show", "s3://images/a.qcow2", KEYHOLE_REDIS_URL=kept)

        assert printed.code == 0
        assert "attempts that failed with slow_down: 1" in " ".join(printed.out.split())

    def test_what_was_never_scanned(self, keyhole: Keyhole, kept: str) -> None:
        printed = keyhole("show", "s3://images/never", KEYHOLE_REDIS_URL=kept)

        assert printed.code == 3
        assert printed.error == "no verdict on s3://images/never; try `keyhole submit`"

    def test_earlier_verdicts_are_on_the_page_and_not_in_json(
        self, keyhole: Keyhole, store: RedisStore, redis_url: str
    ) -> None:
        for minutes, status in enumerate((Status.SAFE, Status.UNSAFE, Status.SAFE)):
            store.write(report("a", "qcow2", status, minutes), job_id=str(minutes), sequencer=None)

        page = keyhole("show", "s3://images/a", KEYHOLE_REDIS_URL=redis_url)
        document = keyhole("show", "-o", "json", "s3://images/a", KEYHOLE_REDIS_URL=redis_url)

        assert [line.split(maxsplit=1)[1] for line in page.lines if line.startswith("before ")] == [
            "2026-05-01T12:01:00+00:00: unsafe (backing_file, unsupported_subformat)",
            "2026-05-01T12:00:00+00:00: safe",
        ]
        assert [Report.model_validate(one).status for one in json.loads(document.out)] == ["safe"]

    def test_what_is_no_object(self, keyhole: Keyhole, kept: str) -> None:
        printed = keyhole("show", "images/never", KEYHOLE_REDIS_URL=kept)

        assert printed.code == 2
        assert "s3://bucket/key" in printed.error


class TestErrors:
    @pytest.mark.slow
    @pytest.mark.parametrize("arguments", [("results",), ("show", "s3://b/k")])
    def test_redis_is_away(
        self, keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
    ) -> None:
        monkeypatch.setattr("keyhole.store.connection._RETRIES", 0)

        printed = keyhole(*arguments, KEYHOLE_REDIS_URL=NOWHERE)

        assert (printed.code, printed.out) == (3, "")
        assert "KEYHOLE_REDIS_URL" in printed.error

    def test_redis_is_no_redis(self, keyhole: Keyhole) -> None:
        printed = keyhole("results", KEYHOLE_REDIS_URL="http://localhost")

        assert printed.code == 2
        assert "KEYHOLE_REDIS_URL" in printed.error

    def test_a_broker_without_a_redis(self, keyhole: Keyhole) -> None:
        printed = keyhole("results", KEYHOLE_BROKER_URL=NOWHERE)

        assert printed.code == 2
        assert "KEYHOLE_REDIS_URL" in printed.error

    def test_a_record_that_cannot_be_read(self, keyhole: Keyhole, kept: str, valkey: redis.Redis) -> None:
        (record,) = [key for key in valkey.scan_iter("keyhole:{v1}:obj:*") if b"a.qcow2" in valkey.get(key)]
        valkey.set(record, "surprise")

        printed = keyhole("show", "s3://images/a.qcow2", KEYHOLE_REDIS_URL=kept)

        assert printed.code == 3
        assert "scan the object again" in printed.error
