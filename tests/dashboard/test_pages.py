"""The pages: what they show, and that hostile names stay text."""

import re
from collections.abc import Callable
from html import unescape
from urllib.parse import urlencode

import pytest
import redis

from keyhole.inspectors.findings import Finding, Severity
from keyhole.intake.audits.audit import AuditState
from keyhole.reasons import STATUSES, Status
from keyhole.remedies import REMEDIES
from keyhole.results.redis_store import RedisStore
from keyhole.store import keys
from tests.dashboard.conftest import Site
from tests.dashboard.site import AUDIT, DEBIAN, HOSTILE, SCRIPT, audit_of, report

PAGES = ("/", "/verdicts", "/verdicts?q=e", "/audits", f"/audit?id={AUDIT}", "/work", "/dead", "/nowhere")


def object_path(key: str, bucket: str = "images") -> str:
    return "/object?" + urlencode({"bucket": bucket, "key": key})


def links(html: str, path: str) -> list[str]:
    return [unescape(found) for found in re.findall(rf'href="({path}\?[^"]*)"', html)]


@pytest.mark.parametrize(
    "path", [*PAGES, *map(object_path, HOSTILE), *(f"/verdicts?{urlencode({'q': key})}" for key in HOSTILE)]
)
def test_no_page_contains_anything_hostile(site: Site, path: str) -> None:
    """No markup, no control character, no mark of direction, and no password gets through."""
    answer = site.get(path)

    assert answer.status == (404 if path == "/nowhere" else 200)
    assert SCRIPT not in answer.text
    assert not set(answer.text) & {"\u202e", "\u202c", "\x1b", "\0"}
    assert "secret" not in answer.text
    # Scripts and styles come only from files.
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=[\"']", answer.text) == []


@pytest.mark.parametrize("key", HOSTILE)
def test_every_object_is_found_and_linked(site: Site, key: str) -> None:
    found = site.get(f"/verdicts?{urlencode({'q': key})}")
    (link,) = [one for one in links(found.text, "/object") if one == object_path(key)]

    page = site.get(link)

    assert page.status == 200
    assert "flatten the image" in page.text
    assert "What was read" in page.text


class TestTheOverview:
    def test_shows_what_needs_attention_and_the_latest(self, site: Site) -> None:
        text = site.get("/").text

        assert "1 dead letter: work that failed" in text
        assert "makes no progress" in text
        assert "9,000 of 12,000+ objects" in text
        assert text.index("Latest that are not safe") < text.index("Latest verdicts</h2>")
        assert f"<b>{len(HOSTILE)}</b><span>unsafe</span>" in text

    def test_of_an_empty_site_says_how_to_begin(self, start: Callable[..., Site]) -> None:
        text = start().get("/").text

        assert "There are no verdicts yet" in text
        assert "No worker takes work" in text

    def test_lists_all_that_is_not_safe_except_what_is_no_image(
        self, start: Callable[..., Site], valkey: redis.Redis
    ) -> None:
        store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        listed = [*(set(Status) - {Status.SAFE, Status.UNRECOGNIZED}), "unrecognized/no_known_format"]
        for status in Status:
            store.write(report(status, status=status), job_id=status, sequencer=None)
        for number, reason in enumerate(("no_known_format", *["not_an_image"] * 20)):
            other = report(
                f"{number}.pdf" if number else listed[-1],
                status=Status.UNRECOGNIZED,
                reasons=(reason,),
            )
            store.write(other, job_id=f"other-{number}", sequencer=None)

        text = start().get("/").text

        table = text[text.index("Latest that are not safe") : text.index("Latest verdicts</h2>")]
        assert sorted(links(table, "/object")) == sorted(map(object_path, [*listed, Status.UNRECOGNIZED]))


def test_a_waiver_that_has_ended_is_shown(start: Callable[..., Site], valkey: redis.Redis) -> None:
    waiver = {"check": "backing_file", "severity": "critical", "reason": "-", "until": "2020-01-31"}
    RedisStore(valkey, expiry_seconds=None, stream_length=100).write(
        report("a", waivers=(waiver,)), job_id="a", sequencer=None
    )
    site = start()

    assert "waiver_<wbr>ended:backing_<wbr>file" in site.get("/verdicts").text
    page = site.get(object_path("a")).text
    assert "The waiver of <code>backing_file</code> ended on 2020-01-31." in page


class TestVerdicts:
    def test_pages_reach_every_verdict_once(self, start: Callable[..., Site], valkey: redis.Redis) -> None:
        store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        for number in range(120):
            store.write(report(f"{number:03}", minutes=number), job_id=str(number), sequencer=None)
        site, path, found = start(), "/verdicts?bucket=images", []
        while path:
            text = site.get(path).text
            found += [one.rpartition("=")[2] for one in links(text, "/object")]
            path = next(iter(re.findall(r'rel="next" href="([^"]*)"', text)), "")
            path = unescape(path)

        assert found == [f"{number:03}" for number in range(120)]

    def test_a_pasted_uri_finds_its_object(self, site: Site) -> None:
        text = site.get("/verdicts?" + urlencode({"q": f"s3://images/{DEBIAN}"})).text

        assert links(text, "/object") == [object_path(DEBIAN)]

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("status=happy", "is not a status"),
            ("since=yesterday", "write the time as"),
            ("after=1", "begin with the first page"),
            ("status=" + "%1b%e2%80%ae<b>", "is not a status"),
            ("contains=x", "no parameter contains; its parameters are q, bucket, prefix, status"),
            ("stauts=safe", "no parameter stauts; did you mean status?"),
            ("reason=truncatd", "&#39;truncatd&#39; is not a reason; did you mean truncated"),
            ("format=vmkd", "&#39;vmkd&#39; is not a format; did you mean vmdk?"),
            ("format=" + "%1b%e2%80%ae<b>", "is not a format; the formats are"),
            ("%1b%e2%80%ae<b>=", "no parameter \\x1b\\u202e&lt;b&gt;"),
            ("status=safe&status=unsafe", "give the parameter status once"),
            ("q=s3://", "name the bucket: s3://BUCKET/KEY"),
            ("q=s3:///key", "name the bucket: s3://BUCKET/KEY"),
            ("q=s3://images/a&bucket=other", "leave the bucket and the prefix empty"),
            ("q=s3://images/a&prefix=b", "leave the bucket and the prefix empty"),
            ("since=2026-01-31T12:00%2B99:00", "write the time as"),
        ],
    )
    def test_a_wrong_parameter_is_explained(self, site: Site, query: str, message: str) -> None:
        answer = site.get(f"/verdicts?{query}")

        assert answer.status == 400
        assert message in answer.text
        assert "\x1b" not in answer.text

    def test_a_wrong_value_stays_in_the_form(self, site: Site) -> None:
        answer = site.get("/verdicts?" + urlencode({"q": f'a"{SCRIPT}', "format": "vmkd", "status": "safe"}))

        assert answer.status == 400
        assert 'name="format" value="vmkd"' in answer.text
        assert 'name="q" value="a&#34;&lt;script&gt;' in answer.text
        assert "<option selected>safe" in answer.text
        assert "No verdict matches" not in answer.text

    def test_filters_are_combined(self, site: Site) -> None:
        def found(query: str) -> int:
            return len(links(site.get(f"/verdicts?{query}").text, "/object"))

        assert found("status=unsafe&reason=truncated&format=qcow2&since=1h") == len(HOSTILE)
        assert found("status=safe&reason=truncated") == 0
        assert found("prefix=releases/&bucket=images") == 1


class TestOneObject:
    def test_shows_facts_ranges_and_history(self, site: Site) -> None:
        text = site.get(object_path(DEBIAN)).text

        assert "3 ranges of the object, 464 KiB of 5 GiB, were read" in text
        assert re.findall(r'<rect class="read" x="([\d.]+)"', text) == ["0.0", "200.0", "996.0"]
        assert re.findall(r"etag-\d", text[text.index("History") :]) == ["etag-2", "etag-1", "etag-0"]
        assert "21,474,836,480 bytes" in text

    def test_without_a_verdict_says_how_to_scan_it(self, site: Site) -> None:
        assert "keyhole submit s3://images/never" in site.get(object_path("never")).text

    def test_whose_record_cannot_be_read_says_so(self, site: Site, valkey: redis.Redis) -> None:
        valkey.set(keys.record(keys.object_id("images", DEBIAN, None)), "surprise")

        assert "scan the object again" in site.get(object_path(DEBIAN)).text

    @pytest.mark.parametrize("query", ["", "bucket=a", "key=a", "bucket=&key="])
    def test_without_a_name_is_refused(self, site: Site, query: str) -> None:
        assert site.get(f"/object?{query}").status == 400


@pytest.mark.parametrize(
    ("path", "menu"),
    [
        ("/audits", ("/audits", "page")),
        (f"/audit?id={AUDIT}", ("/audits", "true")),
        (object_path(DEBIAN), ("/verdicts", "true")),
        ("/object?bucket=a&other=b", ("/verdicts", "true")),
    ],
)
def test_the_menu_shows_where_a_page_belongs(site: Site, path: str, menu: tuple[str, str]) -> None:
    assert re.findall(r'<a href="([^"]*)" aria-current="(\w+)"', site.get(path).text)[:1] == [menu]


@pytest.mark.parametrize("path", ["/?q=a", "/audits?bucket=images", "/work?a=", "/dead?id=1"])
def test_a_page_without_parameters_refuses_them(site: Site, path: str) -> None:
    """Otherwise, the page would show more than the address seems to ask for."""
    answer = site.get(path)

    assert answer.status == 400
    assert "this page has no parameters" in answer.text


class TestTheAudits:
    def test_count_objects_that_are_not_images_on_their_own(self, site: Site, valkey: redis.Redis) -> None:
        text = site.get("/audits").text

        assert '<span class="count">not images 2</span>' in text
        assert ">unrecognized</span>" not in text

        valkey.hset(keys.audit(AUDIT, "totals"), "status:unrecognized", 3)
        assert ">unrecognized</span> 3</span>" in site.get("/audits").text

    def test_have_a_cost_that_a_person_reads(self, site: Site, valkey: redis.Redis) -> None:
        valkey.hset(keys.audit(AUDIT, "totals"), "nanodollars", 5000)

        assert 'title="$0.0000050">under a cent</td>' in site.get("/audits").text


class TestOneAudit:
    def test_shows_progress_counts_costs_and_how_to_make_the_report(self, site: Site) -> None:
        text = site.get(f"/audit?id={AUDIT}").text

        assert "9,000 of 12,000+ objects" in text
        assert links(text, "/verdicts")[0].startswith("/verdicts?bucket=images&prefix=")
        assert re.search(r"s-safe.*?9,000", text)
        assert f"keyhole report {AUDIT}" in text
        assert f"keyhole audit --pause {AUDIT}" in text
        assert "Objects listed" in text

    @pytest.mark.parametrize(
        ("state", "command"),
        [
            (AuditState.RUNNING, "--pause"),
            (AuditState.PAUSED, "--resume"),
            (AuditState.FAILED, "--resume"),
            (AuditState.DONE, None),
            (AuditState.CANCELLED, None),
            (AuditState.STOPPED, None),
        ],
    )
    def test_names_the_commands_that_its_state_allows(
        self, site: Site, valkey: redis.Redis, state: AuditState, command: str | None
    ) -> None:
        valkey.hset(keys.audit(AUDIT), "state", state)

        text = site.get(f"/audit?id={AUDIT}").text

        commands = re.findall(r"keyhole audit (--\w+)", text)
        expected = {command} if state.ended else {command, "--cancel"}
        assert set(commands) == expected - {None}

    def test_is_linked_where_it_is_named(self, site: Site) -> None:
        for path in ("/", "/audits"):
            assert f"/audit?id={AUDIT}" in links(site.get(path).text, "/audit"), path

    @pytest.mark.parametrize(
        "name", ["never", f"{AUDIT}:objects", f"{AUDIT}:totals", "*", SCRIPT, "a" * 9000]
    )
    def test_that_does_not_exist_is_not_found(self, site: Site, valkey: redis.Redis, name: str) -> None:
        valkey.rpush(keys.audit(AUDIT, "objects"), b"x")

        answer = site.get("/audit?" + urlencode({"id": name}))

        assert answer.status == 404
        assert "there is no audit with this id" in answer.text


class TestTheObjectsOfAnAudit:
    def test_the_most_urgent_are_first_and_each_links_to_its_page(self, site: Site) -> None:
        text = site.get(f"/audit?id={AUDIT}").text

        table = text[text.index('id="objects"') :].replace("<wbr>", "")
        assert links(table, "/object") == [*map(object_path, HOSTILE), object_path(DEBIAN)]
        assert table.index("backing_file, truncated") < table.index("its verdict has expired")

    def test_pages_reach_every_object_once(self, start: Callable[..., Site], valkey: redis.Redis) -> None:
        store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        objects = [(f"{number:03}", [*STATUSES][number * 5 % 8]) for number in range(120)]
        for key, status in objects:
            store.write(report(key, status=status), job_id=key, sequencer=None)
        audit_of(valkey, objects, batch=7)
        site, path, found = start(), f"/audit?id={AUDIT}", []
        while path:
            text = site.get(path).text
            found += links(text, "/object")
            path = unescape(next(iter(re.findall(r'rel="next" href="([^"#]*)#objects"', text)), ""))

        ordered = sorted(objects, key=lambda one: [*STATUSES].index(one[1]))
        assert found == [object_path(key) for key, _ in ordered]

    def test_a_status_is_a_filter(self, site: Site) -> None:
        def found(status: str) -> int:
            return len(links(site.get(f"/audit?id={AUDIT}&status={status}").text, "/object"))

        assert (found("unsafe"), found("safe"), found("failed")) == (len(HOSTILE), 1, 0)
        text = site.get(f"/audit?id={AUDIT}").text
        assert f"/audit?id={AUDIT}&status=unsafe#objects" in unescape(text)
        assert "No object has the status failed" in site.get(f"/audit?id={AUDIT}&status=failed").text

    def test_a_verdict_of_a_later_scan_is_told(self, site: Site, filled: redis.Redis) -> None:
        store = RedisStore(filled, expiry_seconds=None, stream_length=100)
        store.write(report(DEBIAN, status=Status.DAMAGED), job_id="later", sequencer=None)

        text = site.get(f"/audit?id={AUDIT}&status=safe").text

        assert object_path(DEBIAN) in links(text, "/object")
        assert "scanned again, now damaged" in text

    def test_an_audit_without_verdicts_says_so(self, start: Callable[..., Site], valkey: redis.Redis) -> None:
        audit_of(valkey, [])

        assert "No object has a verdict yet" in start().get(f"/audit?id={AUDIT}").text

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("status=unsfe", "is not a status; did you mean unsafe"),
            ("after=1", "begin with the first page"),
            ("after=%1b%e2%80%ae<b>", "begin with the first page"),
            ("bucket=a", "its parameters are id, status, after"),
        ],
    )
    def test_a_wrong_parameter_is_explained(self, site: Site, query: str, message: str) -> None:
        answer = site.get(f"/audit?id={AUDIT}&{query}")

        assert answer.status == 400
        assert message in answer.text

    @pytest.mark.parametrize(("query", "most"), [("", 5), ("&status=failed", 5), ("&after=safe-99940", 5)])
    def test_a_page_of_many_objects_needs_few_commands(
        self, start: Callable[..., Site], valkey: redis.Redis, query: str, most: int
    ) -> None:
        """Redis answers 100,000 rows, which have 1.8 MB, in three commands, and the reports in one or two."""
        audit_of(valkey, [(str(number), Status.SAFE) for number in range(100_000)])
        site = start()
        valkey.config_resetstat()

        assert site.get(f"/audit?id={AUDIT}{query}").status == 200

        calls = {name: found["calls"] for name, found in valkey.info("commandstats").items()}
        assert calls["cmdstat_lrange"] + calls.get("cmdstat_mget", 0) <= most
        # One script reads the state of all audits and workers.
        assert sum(calls.values()) < 60, calls


class TestTextsWithCommands:
    def test_commands_are_code_and_no_page_shows_backticks(
        self, start: Callable[..., Site], valkey: redis.Redis
    ) -> None:
        store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
        finding = Finding("dirty", Severity.WARNING, "not closed cleanly; run `qemu-img check -r all` on it")
        bad = report("a", status=Status.DAMAGED, reasons=tuple(REMEDIES), findings=(finding,))
        store.write(bad, job_id="a", sequencer=None)
        audit_of(valkey, [])
        valkey.hset(keys.audit(AUDIT), "state", AuditState.PAUSED)
        valkey.hset(keys.audit(AUDIT), "reason", "Redis is full; see `keyhole doctor`")
        site = start()
        texts = {
            path: site.get(path).text for path in ("/", "/audits", f"/audit?id={AUDIT}", object_path("a"))
        }

        assert {path for path, text in texts.items() if "`" in text} == set()
        assert "<code>qemu-img check -r all</code>" in texts[object_path("a")]
        assert "<code>max_virtual_size</code>" in texts[object_path("a")]
        assert "<code>keyhole doctor</code>" in texts["/audits"]
        assert f"<code>keyhole audit --resume {AUDIT}</code>" in texts["/"]
        assert "start one with <code>keyhole worker</code>" in texts["/"]

    def test_a_name_from_an_image_keeps_its_backticks(
        self, start: Callable[..., Site], valkey: redis.Redis
    ) -> None:
        name = f"`{SCRIPT}`"
        finding = Finding("backing_file", Severity.CRITICAL, f"opens its backing file {name!r}")
        bad = report("a", status=Status.UNSAFE, reasons=("backing_file",), findings=(finding,))
        RedisStore(valkey, expiry_seconds=None, stream_length=100).write(bad, job_id="a", sequencer=None)

        assert "&#39;`&lt;script&gt;alert(1)&lt;/script&gt;`&#39;" in start().get(object_path("a")).text


def test_nothing_is_written(site: Site, filled: redis.Redis) -> None:
    before = {key: filled.dump(key) for key in filled.scan_iter()}

    for path in (*PAGES, object_path(DEBIAN)):
        site.get(path)

    assert {key: filled.dump(key) for key in filled.scan_iter()} == before


def test_a_verdict_of_every_status_has_its_tile(start: Callable[..., Site], valkey: redis.Redis) -> None:
    store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
    for status in Status:
        store.write(report(status, status=status), job_id=status, sequencer=None)

    text = start().get("/").text

    assert all(f"<b>1</b><span>{status}</span>" in text for status in Status)
    # Redis counts verdicts by status, so the number includes objects such as PDFs.
    assert "<span>unrecognized</span> <span>or not images</span>" in text
