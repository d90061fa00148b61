"""The page: one self-contained file, harmless for hostile names, and clear about what it omits."""

import io
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyhole.inspectors.findings import found
from keyhole.inspectors.text import printable
from keyhole.intake.audits.audit import AuditedObject, AuditSpec, BucketFinding, How
from keyhole.reasons import STATUSES, Status, not_an_image
from keyhole.remedies import what_to_do
from keyhole.reports import contents, figures, page
from keyhole.reports.changes import Changes
from keyhole.reports.owners import name_code, owner_label
from keyhole.reports.page import write_html
from tests.reports import sample
from tests.reports.parsing import Element, Parsed, packed, parsed

NOW = sample.NOON + timedelta(minutes=5)
#: Every attribute in the page. None of them loads, runs or styles anything.
ALLOWED = """
aria-hidden aria-label aria-labelledby charset class content d data-find data-format data-image data-owner
data-status dir height hidden href http-equiv id lang name role scope tabindex text-anchor title transform
type viewbox width x y
"""
ATTRIBUTES = set(ALLOWED.split())
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></script></table><h1>Owned</h1>",
    "{{ 7 * 7 }}{% raw %}",
    "evil\u202egpj.exe",
    "a\x00b\x1b[31mc\r\nd\te",
    "zero\u200bwidth\ufeff",
    "&lt;b&gt; &amp;",
    "-->",
)


def html(
    objects: Iterable[AuditedObject] | None = None,
    findings: Iterable[BucketFinding] = (),
    changes: Changes | None = None,
    **audit: Any,
) -> str:
    out = io.BytesIO()
    of = sample.objects() if objects is None else tuple(objects)
    write_html(sample.audit(of, **audit), of, findings, out, now=NOW, changes=changes)
    return out.getvalue().decode()


def words(text: str) -> str:
    return " ".join(text.split())


def hostile(text: str) -> str:
    """A page in which every text from outside is this one."""
    key = f"folder/{text}"
    report = sample.verdict(
        key,
        Status.UNSAFE,
        reasons=("backing_file",),
        findings=(found("backing_file", text),),
        version_id=text,
        subformat=text,
        format=text,
        ruleset=text,
    )
    finding = BucketFinding(kind="gone", bucket=text, key=key, version_id=text, message=text)
    denied = sample.verdict(key, Status.UNREADABLE, reasons=("access_denied",), details={"error": text})
    spec = AuditSpec(
        bucket=text or "b", prefix=text, inventory=text, schedule=text, owner_tag=text[:100] or "team"
    )
    return html(
        [
            sample.audited(report).model_copy(update={"owner": text}),
            sample.audited(denied).model_copy(update={"owner_unknown": text}),
        ],
        [finding],
        spec=spec,
        state="failed",
        reason=text,
        ruleset=text,
        scanner=text,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(text: str) -> None:
    browser = parsed(hostile(text))

    rows = browser.all("bdi", "key")
    seen = f"folder/{printable(text.encode())}"
    assert Counter(row.text for row in rows[1:] if row.text != "folder/")[seen] == 5
    assert [row[2] for row in packed(browser)] == [seen] * 2
    benign = parsed(hostile("benign"))
    assert [(one.tag, sorted(one.attributes)) for one in browser.elements] == [
        (one.tag, sorted(one.attributes)) for one in benign.elements
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_adds_an_element_or_an_attribute_or_anything_unseen(text: str) -> None:
    page = hostile(f"x{text}")

    browser = parsed(page)
    assert {name for one in browser.elements for name in one.attributes} <= ATTRIBUTES
    assert (len(browser.all("script")), len(browser.all("style"))) == (3, 1)
    assert {c for c in page if not c.isprintable()} <= {"\n"}
    assert all(text.isprintable() for row in packed(browser) for text in row if isinstance(text, str))


def test_it_loads_nothing() -> None:
    text = html(findings=sample.findings())

    assert {name for one in parsed(text).elements for name in one.attributes} <= ATTRIBUTES
    for loading in ("url(", "@import", "http://", "https://", "//cdn", "fetch(", "import("):
        assert loading not in text


def test_its_policy_allows_its_own_style_and_script_and_nothing_else() -> None:
    browser = parsed(html())

    def source(tag: str) -> str:
        (ours,) = [one for one in browser.all(tag) if "type" not in one.attributes]  # others are data
        return f"'sha256-{b64encode(sha256(ours.text.encode()).digest()).decode()}'"

    policies = [one for one in browser.all("meta") if one.attributes.get("http-equiv")]
    ours = f"style-src {source('style')}; script-src {source('script')}"
    assert [one.attributes["content"] for one in policies] == [
        f"default-src 'none'; base-uri 'none'; form-action 'none'; {ours}"
    ]


def rows(browser: Parsed) -> list[Element]:
    return [one for one in browser.all("tr") if (one.attributes.get("id") or "").startswith("object-")]


def test_without_its_script_it_has_the_most_urgent_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "URGENT_OBJECTS", 40)

    browser = parsed(html())

    assert [one.attributes["id"] for one in browser.elements if "hidden" in one.attributes] == [
        "clicks",
        "tools",
        "pager",
    ]
    statuses = [next(of for of in STATUSES if one.text.strip().startswith(of)) for one in rows(browser)]
    assert statuses == ["unsafe"] * 21 + ["damaged"] * 19
    without = [one for one in browser.all("p", "left-out") if one.attributes.get("id") == "without-script"]
    assert words(without[0].text) == (
        "This table has the 40 most urgent objects. A browser that runs the page's script shows all 190. "
        "To get all objects without a browser: keyhole report 20260501-images --to "
        "keyhole-audit-20260501-images.csv"
    )


def test_with_its_script_it_has_every_object_once() -> None:
    browser = parsed(html())

    assert Counter(row[2] for row in packed(browser)) == {
        one.report.key: 1 for one in sample.objects() if one.report
    }
    assert len(rows(browser)) == 190


def test_links_to_an_object_name_its_row() -> None:
    browser = parsed(html())
    numbers = {f"#object-{row[0]}": row[2] for row in packed(browser)}
    links = [one for one in browser.all("a") if (one.attributes["href"] or "").startswith("#object-")]
    assert len(links) > 190
    assert all(numbers[str(one.attributes["href"])] == one.text for one in links)


def test_it_tells_whose_audit_it_is() -> None:
    browser = parsed(html(spec=AuditSpec(bucket="images", prefix="a/b/")))

    assert browser.all("title")[0].text == "Keyhole audit of s3://images/a/b/"
    assert words(browser.one("h1").text) == "s3://images/a/b/"
    assert "2026-05-01 12:00 to 12:03 UTC, 3 min 20 s; rules 3/default, by keyhole/0.1.0" in words(
        browser.one("header").text
    )


def test_an_audit_that_is_not_done_says_so_before_anything_else() -> None:
    stopped = parsed(html(state="stopped", reason="the limit of 100 requests is reached"))

    (notice,) = stopped.all("div", "notice")
    assert words(notice.text).startswith("Stopped before it was done. The limit of 100 requests is reached.")
    tags = [one for one in stopped.elements if one.tag in {"div", "svg"}]
    assert tags[0] is notice
    assert parsed(html()).all("div", "notice") == []


def test_the_command_in_a_notice_is_code() -> None:
    paused = parsed(html(state="paused"))

    (notice,) = paused.all("div", "notice")
    assert "`" not in notice.text
    assert any(one.text.startswith("keyhole audit --resume ") for one in paused.all("code"))


def test_a_selection_is_told_at_the_top() -> None:
    browser = parsed(html(spec=AuditSpec(bucket="images", limit=5)))
    assert "This audit covers only selected objects: limit 5 objects." in words(browser.one("header").text)
    assert "selection" not in parsed(html()).one("header").text


def test_statuses_have_names_beside_their_colours() -> None:
    (table,) = parsed(html()).all("table", "statuses")
    images = sum(one.status is not Status.UNRECOGNIZED for one in sample.objects())
    unrecognized = sum(one.status is Status.UNRECOGNIZED for one in sample.objects())
    other = sample.audit().totals.not_images
    images += unrecognized - other
    assert f"unsafe 21 {figures.share(21, images)} " in words(table.text)
    assert f"safe 99 {figures.share(99, images)} " in words(table.text)
    assert f"not images {other} unrecognized, and certainly no disk image" in words(table.text)
    assert f"Shares are of the {images} objects that can be images" in parsed(html()).one("main").text


def test_what_needs_attention_comes_with_its_sentence() -> None:
    articles = [words(one.text) for one in parsed(html()).all("article")]

    assert articles[0].startswith("unsafe backing_file 6 objects")
    assert f"What to do: {what_to_do('backing_file')}" in articles[0]
    assert (
        "build/uploads/backing.qcow2opening the image also opens its backing file '/etc/shadow'"
        in articles[0]
    )
    assert articles[0].endswith("and 3 more")
    assert [one.split()[0] for one in articles] == sorted(
        (one.split()[0] for one in articles),
        key=[*STATUSES, "not"].index,
    )
    assert [one[:23] for one in articles[-2:]] == ["not images empty 7 obje", "not images not_an_image"]


def test_a_page_that_cannot_hold_all_objects_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_OBJECTS", 40)

    browser = parsed(html())

    assert Counter(row[1] for row in packed(browser)) == {0: 21, 1: 19}
    left_out = [words(one.text) for one in browser.all("p", "left-out")]
    assert left_out[0] == (
        "This page has 40 objects, the most urgent first. It leaves out 2 damaged, 14 rejected, "
        "7 inconclusive, 7 failed, 8 unreadable, 14 unrecognized, 98 safe. "
        "To get all objects: keyhole report 20260501-images --to keyhole-audit-20260501-images.csv"
    )


def test_of_a_list_with_all_objects_nothing_is_said() -> None:
    kept = [one for one in sample.objects() if one.report]
    assert parsed(html(kept)).all("p", "left-out") == []


def test_objects_without_a_name_are_counted() -> None:
    forgotten = AuditedObject(how=How.UNCHANGED, status=Status.UNSAFE, report=None)

    browser = parsed(html([forgotten, forgotten]))

    (left_out,) = browser.all("p", "left-out")
    assert "2 objects cannot be named" in words(left_out.text)
    assert browser.all("table", "objects") == []


def test_a_list_that_is_not_of_all_objects_that_were_counted_says_so() -> None:
    objects = sample.objects()[:50]

    browser = parsed(html(objects, totals=sample.totals(sample.objects())))

    left_out = [words(one.text) for one in browser.all("p", "left-out")]
    assert left_out == ["This section is about 50 objects. The figures above count 191."]


def test_findings_about_the_bucket_are_told_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "SHOWN_FINDINGS", 1)

    browser = parsed(html(findings=sample.findings()))

    assert "gone: There is a verdict on an object that no longer exists. What to do: nothing, if" in words(
        browser.one("main").text
    )
    (table,) = browser.all("table", "findings")
    assert "gone build/images/debian-11.qcow2 the verdict is safe, of 2026-03-02" in words(table.text)
    assert any(
        words(one.text) == "This page leaves out 1 other finding. To get all findings: "
        "keyhole report 20260501-images -o jsonl"
        for one in browser.all("p", "left-out")
    )


def test_a_row_of_many_findings_says_that_there_are_more() -> None:
    many = tuple(found("extent_path", f"an extent is {n}") for n in range(8))
    report = sample.verdict("a.vmdk", Status.UNSAFE, reasons=("extent_path",), findings=many)

    (table,) = parsed(html([sample.audited(report)])).all("table", "objects")

    assert "an extent is 4" in table.text
    assert "an extent is 5" not in table.text
    assert "and 3 other findings" in table.text


def test_an_object_that_was_scanned_again_since_says_so() -> None:
    report = sample.verdict("a.raw", Status.SAFE)
    again = AuditedObject(how=How.SCANNED, status=Status.UNSAFE, report=report)
    assert "scanned again after the audit, now safe" in parsed(html([again])).one("main").text


def test_sizes_are_for_people_and_exact_in_the_title() -> None:
    report = sample.verdict("a.raw", size=69 * 1024**2 + 1)

    cells = parsed(html([sample.audited(report)])).all("td", "figure")

    assert ("69 MiB", "72,351,745 bytes") in [(one.text, one.attributes.get("title")) for one in cells]


def test_an_audit_of_nothing_has_a_page() -> None:
    browser = parsed(html([]))
    assert "There are no verdicts." in browser.one("main").text
    assert browser.all("table", "objects") == []


OWNER_TAG = AuditSpec(bucket=sample.BUCKET, owner_tag="team")


def test_objects_are_counted_by_owner() -> None:
    browser = parsed(html(sample.owned(), spec=OWNER_TAG))

    (section,) = [one for one in browser.all("section") if words(one.text).startswith("Owners")]
    links = {
        one.attributes["data-owner"]: words(one.text)
        for one in browser.all("a")
        if "data-owner" in one.attributes
    }
    assert links == {
        "=payments": "payments",
        "=identity & access": "identity & access",
        "=": "an empty tag",
        "-": "no owner tag",
        "!": "unknown owner",
    }
    assert "by the tag team" in words(section.text)
    unknown = sum(one.owner_unknown is not None and one.report is not None for one in sample.owned())
    assert f"The owner of {unknown} objects is unknown: reading the tags is denied." in words(section.text)
    heads = [words(one.text) for one in browser.all("th")]
    assert heads[-1] == "Owner"
    assert ("Owner tag", "team") in list(contents.asked(sample.audit(spec=OWNER_TAG)))


def test_without_an_owner_tag_nothing_is_said_of_owners() -> None:
    text = html()

    assert "data-owner=" not in text
    assert "#owners" not in text
    assert "Owner" not in [words(one.text) for one in parsed(text).all("th")]


def test_the_rows_of_the_script_have_owners() -> None:
    codes = Counter(row[-1] for row in packed(parsed(html(sample.owned(), spec=OWNER_TAG))))

    assert codes.keys() == {"=payments", "=identity & access", "=", "-", "!reading the tags is denied"}
    named = Counter(one.owner for one in sample.owned() if one.report and one.owner)
    assert codes["=payments"] == named["payments"]


OBJECTS = st.lists(
    st.builds(
        lambda status, reasons, key, form, owner, kept: AuditedObject(
            how=How.SCANNED,
            status=status,
            report=sample.verdict(key, status, reasons=reasons, format=form) if kept else None,
            owner=owner,
        ),
        st.sampled_from(Status),
        st.sampled_from([(), ("not_an_image",), ("empty",), ("no_known_format",)]),
        st.text("ab/", max_size=5),
        st.sampled_from([None, *(f"form{number}" for number in range(20))]),
        st.none() | st.text("abc", max_size=3),
        st.booleans(),
    )
)


def group_tables(browser: Parsed) -> list[list[list[int]]]:
    """The counts in each table of groups: objects, safe, not safe, not images. The total comes last."""
    tables: list[list[list[int]]] = []
    inside = False
    for one in browser.elements:
        if one.tag == "table":
            inside = "groups" in (one.attributes.get("class") or "").split()
            tables += [[]] if inside else []
        elif inside and one.tag == "tr":
            tables[-1].append([])
        elif inside and one.tag == "td" and len(tables[-1][-1]) < 4:
            tables[-1][-1].append(int(one.text.replace(",", "")))
    return [[row for row in table if row] for table in tables]


@given(OBJECTS)
@settings(max_examples=40, deadline=None)
def test_the_rows_of_groups_add_up_to_the_total(objects: list[AuditedObject]) -> None:
    browser = parsed(html(objects, spec=OWNER_TAG))

    not_images = sum(
        one.report is not None and not_an_image(one.status, one.report.reasons) for one in objects
    )
    for table in group_tables(browser):
        *groups, total = table
        assert all(row[0] == sum(row[1:]) for row in table)
        assert total == [sum(column) for column in zip(*groups, strict=True)]
        assert total[0] == len(objects)
        assert total[1] == sum(one.status is Status.SAFE for one in objects)
        assert total[3] == not_images
    assert len(group_tables(browser)) == (3 if any(one.report for one in objects) else 0)


def test_expired_verdicts_are_a_group_and_those_that_are_not_images_are_told_apart() -> None:
    """The total of the audit states how many objects are not images, also if verdicts have expired."""
    pdf = sample.audited(sample.verdict("a.pdf", Status.UNRECOGNIZED, reasons=("not_an_image",)))
    expired = AuditedObject(how=How.SCANNED, status=Status.UNRECOGNIZED, report=None)
    objects = (pdf, *[expired] * 5)
    totals = sample.totals(objects).model_copy(update={"not_images": 4})

    for table in group_tables(parsed(html(objects, totals=totals))):
        assert table == [[1, 0, 0, 1], [5, 0, 2, 3], [6, 0, 2, 4]]


def test_the_chart_of_formats_has_all_formats() -> None:
    """It once had only eight."""

    def legend(count: int) -> list[str]:
        reports = [sample.verdict(f"{n}", format=f"form{n:02}", size=10) for n in range(count)]
        browser = parsed(html(map(sample.audited, reports)))
        labels = [one.text for one in browser.all("text") if one.text.startswith(("form", "others"))]
        return labels[: len(labels) // 2]  # each chart is drawn twice

    assert set(legend(9)) == {f"form{n:02}" for n in range(9)}
    assert set(legend(20)) == {*(f"form{n:02}" for n in range(8)), "others (12)"}


def test_codes_break_only_after_an_underscore() -> None:
    report = sample.verdict("a", Status.REJECTED, reasons=("unsupported_subformat", "banned_format"))
    text = html([sample.audited(report)])

    assert '<p class="code soft">unsupported_<wbr>subformat banned_<wbr>format</p>' in text
    assert 'data-status="rejected">unsupported_<wbr>subformat</a>' in text
    assert 'data-find="unsupported_subformat"' in text


@pytest.mark.parametrize("name", [*HOSTILE, "unknown owner", "", "x" * 256, "\u202e" * 256])
def test_hostile_owners_are_names(name: str) -> None:
    objects = [
        sample.audited(sample.verdict(f"{number}.img")).model_copy(update={"owner": owner})
        for number, owner in enumerate((name, None, name))
    ]
    browser = parsed(html(objects, spec=OWNER_TAG))

    links = {
        one.attributes["data-owner"]: one.text for one in browser.all("a") if "data-owner" in one.attributes
    }
    assert links[name_code(name)] == printable(owner_label(name).encode())
    assert sorted(row[-1] for row in packed(browser)) == sorted([name_code(name)] * 2 + ["-"])
    cells = [one.text for one in browser.all("td")]
    assert cells.count(printable(owner_label(name).encode())) == 2
    assert cells.count("no owner tag") == 1
