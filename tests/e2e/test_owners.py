"""Owners from tags that a stranger wrote: each form of the report has each of them, as text and unchanged."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
from markdown_it import MarkdownIt
from moto.utilities.tagging_service import TaggingService
from pyarrow import parquet

from keyhole.builders import qcow2
from keyhole.inspectors.text import escaped, printable
from keyhole.reports.owned import owner_cell
from keyhole.reports.owners import name_code, owner_label
from keyhole.results.owner import Owner
from tests.e2e import commands
from tests.e2e.conftest import Site
from tests.reports.parsing import packed, parsed

pytestmark = pytest.mark.slow

UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()
#: The owners of objects, by key. AWS accepts fewer characters in tags.
OWNERS: Mapping[str, str | None] = {
    "plain": "payments",
    "absent": None,
    "empty": "",
    "script": "<script>document.title = 1</script>",
    "attribute": "\" onmouseover='alert(1)",
    "pipe": "a|b`c ``` | d",
    "lines": "a\nb\tc",
    "direction": "invoice\u202egpj.exe\u200f\u2066",
    "escape": r"invoice\u202egpj.exe\u200f\u2066",
    "terminal": "a\x9b31m\x85b",
    "formula": "=cmd|' /C calc'!A0",
    "columns": "x  s3://other/object",
    "link": "https://example.com @everyone [a](b) #1",
    "group": "unknown owner",
    "dash": "-",
    "mark": "!",
    "script-name": "__proto__",
    "longest": "W" * 256,
    "longest-wide": "\U0001f980" * 256,
}


@pytest.fixture(scope="module", autouse=True)
def _any_tag() -> Iterator[None]:
    """Moto accepts any tag, as some servers do. By default, it refuses the characters that AWS refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaggingService, "validate_tags", lambda *_, **__: "")
        yield


def put(site: Site, bucket: str, key: str, owner: str | None) -> None:
    """Upload an object with this owner in its tag `team`."""
    tagging = {} if owner is None else {"Tagging": f"team={quote(owner)}"}
    site.s3.put_object(Bucket=bucket, Key=key, Body=UNSAFE, **tagging)


def audit(site: Site, bucket: str) -> dict[str, Any]:
    """Run an audit with owners, and return its last state."""
    done = commands.keyhole("audit", f"s3://{bucket}/", "--owner-tag", "team", "--json", env=site.env)
    assert done.returncode == 1, done.stderr
    ended: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return ended


def report(site: Site, audit_id: str, form: str, *options: str) -> bytes:
    """The report of an audit in a form."""
    done = commands.keyhole("report", audit_id, "-o", form, *options, env=site.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def owners(site: Site, audit_id: str) -> dict[str, str | None]:
    """The owner of each key, as programs read it."""
    document = json.loads(report(site, audit_id, "json"))
    return {one["report"]["key"]: one["owner"] for one in document["objects"]}


@pytest.fixture(scope="module")
def audited(running_site: Site) -> tuple[str, str]:
    """A bucket, and an audit of it."""
    bucket = running_site.bucket()
    for key, owner in OWNERS.items():
        put(running_site, bucket, key, owner)
    return bucket, str(audit(running_site, bucket)["id"])


def test_programs_read_each_owner_unchanged(running_site: Site, audited: tuple[str, str]) -> None:
    _, audit_id = audited

    assert owners(running_site, audit_id) == OWNERS
    table = parquet.read_table(io.BytesIO(report(running_site, audit_id, "parquet"))).to_pylist()
    assert {row["key"]: row["owner"] for row in table} == OWNERS
    (run,) = json.loads(report(running_site, audit_id, "sarif"))["runs"]
    found = {one["properties"]["key"]: one["properties"].get("owner") for one in run["results"]}
    assert found == OWNERS


def test_one_owner_is_that_owner_alone(running_site: Site, audited: tuple[str, str]) -> None:
    _, audit_id = audited

    for key in ("plain", "empty", "direction", "escape", "longest-wide", "dash"):
        one = json.loads(report(running_site, audit_id, "json", f"--owner={OWNERS[key]}"))
        assert [found["report"]["key"] for found in one["objects"]] == [key]


def test_no_spreadsheet_runs_an_owner(running_site: Site, audited: tuple[str, str]) -> None:
    _, audit_id = audited
    text = report(running_site, audit_id, "csv").decode("utf-8-sig")

    rows = {row["key"]: row["owner"] for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert rows.keys() == OWNERS.keys()
    assert all(not owner.startswith(("=", "+", "-", "@")) for owner in rows.values())
    assert rows["formula"] == "'=cmd|' /C calc'!A0"
    assert (rows["direction"], rows["escape"]) == (
        r"invoice\u202egpj.exe\u200f\u2066",
        r"invoice\\u202egpj.exe\\u200f\\u2066",
    )
    assert text.replace("\r\n", "").isprintable()


def test_a_terminal_and_a_file_get_one_printable_line_for_each_object(
    running_site: Site, audited: tuple[str, str]
) -> None:
    bucket, audit_id = audited

    head, *lines = report(running_site, audit_id, "table").decode().split("\n")

    place = head.index("owner ")
    found = {line.rpartition(f" s3://{bucket}/")[2]: line[place:] for line in lines[: len(OWNERS)]}
    assert found.keys() == OWNERS.keys()
    assert all(line.isprintable() for line in lines)
    for key, owner in OWNERS.items():
        assert found[key].startswith(owner_cell(Owner(owner)) + " ")


def test_a_viewer_of_markdown_shows_each_owner_as_text(running_site: Site, audited: tuple[str, str]) -> None:
    bucket, audit_id = audited
    text = report(running_site, audit_id, "markdown").decode()

    rows: list[list[Any]] = []
    for before, token in pairwise(MarkdownIt("commonmark").enable("table").parse(text)):
        if before.type == "tr_open":
            rows.append([])
        if before.type in {"td_open", "th_open"}:
            rows[-1].append(token.children)
    assert {len(row) for row in rows} == {7}
    found = {row[6][0].content: [(part.type, part.content) for part in row[5]] for row in rows[1:]}
    for key, owner in OWNERS.items():
        expected = (
            ("code_inline", escaped(owner))
            if owner
            else ("text", f"{'an empty tag' if owner == '' else 'no owner tag'}")
        )
        assert found[f"s3://{bucket}/{key}"] == [expected]


def test_the_page_shows_each_owner_as_text(running_site: Site, audited: tuple[str, str]) -> None:
    _, audit_id = audited

    browser = parsed(report(running_site, audit_id, "html").decode())

    codes = {row[2]: row[-1] for row in packed(browser)}
    assert codes == {key: "-" if owner is None else name_code(owner) for key, owner in OWNERS.items()}
    assert len(browser.all("script")) == 3
    shown = [one.text for one in browser.all("td")]
    for owner in OWNERS.values():
        label = "no owner tag" if owner is None else printable(owner_label(owner).encode())
        assert label in shown


def test_an_owner_that_changes_between_audits_changes_in_the_later_one_only(running_site: Site) -> None:
    """The objects are unchanged, so the second audit reads only their tags."""
    bucket = running_site.bucket()
    before: dict[str, str | None] = {"a": "payments", "b": "identity", "c": None, "d": "lab"}
    for key, owner in before.items():
        put(running_site, bucket, key, owner)
    first = audit(running_site, bucket)
    for key, owner in {"a": "identity", "c": "\u202elab"}.items():
        tags = [{"Key": name, "Value": value} for name, value in running_site.tags(bucket, key).items()]
        tags = [one for one in tags if one["Key"] != "team"] + [{"Key": "team", "Value": owner}]
        running_site.s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": tags})  # type: ignore[typeddict-item] # two texts
    running_site.s3.delete_object_tagging(Bucket=bucket, Key="d")

    second = audit(running_site, bucket)

    assert second["totals"]["unchanged"] == len(before)
    assert owners(running_site, first["id"]) == before
    assert owners(running_site, second["id"]) == {
        "a": "identity",
        "b": "identity",
        "c": "\u202elab",
        "d": None,
    }


def test_tags_that_no_xml_can_hold_hide_no_other_owner(faulty_site: Site) -> None:
    """Their objects have an unknown owner, and every form says why."""
    site = faulty_site
    site.env["KEYHOLE_SINKS"] = "redis"  # such tags cannot be written, either
    bucket = site.bucket()
    for number in range(30):
        put(site, bucket, f"hostile/{number:02}", f"\x1b[2J{number}")
    put(site, bucket, "plain", "payments")

    with commands.worker(site.env, site.log):
        first, second = audit(site, bucket), audit(site, bucket)

    assert (first["totals"]["scanned"], second["totals"]["unchanged"]) == (31, 31)
    for one in (first, second):
        assert one["totals"]["owners_unknown"] == 30
        assert owners(site, one["id"])["plain"] == "payments"
    for form in ("table", "markdown", "html"):
        assert "The owner of 30 objects is unknown: " in report(site, second["id"], form).decode()
