"""The audit's page in a browser: it loads, sorts, searches, and is legible on every screen and in print."""

import io
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from keyhole.inspectors.findings import CHECKS, Severity, found
from keyhole.intake.audits.audit import AuditedObject, AuditSpec, How
from keyhole.reasons import Reason, Status
from keyhole.remedies import what_to_do
from keyhole.reports import figures, packed_rows
from keyhole.reports.changes import Changes, Move
from keyhole.reports.owners import name_code
from keyhole.reports.page import write_html
from keyhole.scan.waivers import Applied
from keyhole.store import keys
from tests.browser.chromium import LOOKS, Chromium, Look, Tab, pages_of
from tests.reports import sample

pytestmark = pytest.mark.slow

LAPTOP = Look(1280, dark=False)
HOSTILE = (
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title = 'owned'\">",
    "invoice\u202egpj.qcow2",
    "a\nb\x00c`d`",
    "k" * 1024,
    "</script></table><h1>Owned</h1>",
)
Opened = Callable[..., Tab]


def changes() -> Changes:
    """Changes since a last audit: one object of the sample was safe, one is new."""
    was_safe, new = [one.report for one in sample.objects() if one.report][:2]
    moves = {
        keys.object_id(sample.BUCKET, str(was_safe.key), None): Move(Status.DAMAGED, was_safe.status),
        keys.object_id(sample.BUCKET, str(new.key), None): Move(None, new.status),
    }
    last = sample.audit(id="20260424-images", started_at=sample.NOON - timedelta(days=7))
    return Changes(
        last, moves=sample.Counter(moves.values()), of_object=moves, gone=1, gone_keys=("old.raw",)
    )


def written(
    folder: Path, objects: tuple[AuditedObject, ...], since: Changes | None = None, **audit: object
) -> Path:
    path = folder / "report.html"
    out = io.BytesIO()
    now = sample.NOON + timedelta(minutes=5)
    write_html(sample.audit(objects, **audit), objects, sample.findings(), out, now=now, changes=since)
    path.write_bytes(out.getvalue())
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sample, with changes since a last audit."""
    return written(tmp_path_factory.mktemp("report"), sample.objects(), changes())


@pytest.fixture
def opened(browser: Chromium, page: Path) -> Opened:
    """Open a page, and wait until its table is ready."""

    def ready(path: Path = page, look: Look = LAPTOP, address: str = "") -> Tab:
        tab = browser.open(path.resolve().as_uri() + address, look)
        tab.page.wait_for_selector("#table[data-ready]")
        return tab

    return ready


def column(tab: Tab, place: int) -> list[str]:
    """The texts of a column of the table."""
    cells = tab.page.locator(f"#table tbody tr:not(.details) td:nth-child({place})")
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def found_rows(tab: Tab) -> str:
    return tab.page.locator("output").inner_text()


def test_it_is_legible_and_fits_on_every_screen(opened: Opened, tmp_path: Path, look: Look) -> None:
    tab = opened(written(tmp_path, sample.objects()[:60], changes()), look)
    tab.page.locator("#table tbody a").nth(1).click()  # with the section of an object

    assert tab.axe() == []
    assert tab.too_wide() == []
    assert tab.requested == [tab.page.url.split("#")[0]]
    charts = tab.page.locator("svg.chart:visible")
    assert charts.count() == 2
    assert charts.first.get_attribute("class") == f"chart {'narrow' if look.width == 390 else 'wide'}"


def test_it_prints(opened: Opened) -> None:
    tab = opened()
    assert 3 <= pages_of(tab.pdf()) <= 12
    tab.page.emulate_media(media="print")
    assert not tab.page.locator("nav, #pager, #find").first.is_visible()
    assert tab.page.locator("#table tbody tr").count() == 100
    tab.page.set_viewport_size({"width": 718, "height": 1000})  # A4 without margins
    charts = tab.page.locator("svg.chart:visible")
    right_edges = charts.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert right_edges[0] < charts.last.bounding_box()["x"]  # type: ignore[index] # it is visible
    assert tab.too_wide() == []


def test_every_object_is_reachable_by_turning_pages(opened: Opened) -> None:
    tab = opened()

    seen = column(tab, 2)
    assert found_rows(tab) == "1 to 100 of 190 objects"
    tab.page.get_by_role("button", name="Next page").click()
    seen += column(tab, 2)

    assert found_rows(tab) == "101 to 190 of 190 objects"
    assert sorted(seen) == sorted(str(one.report.key) for one in sample.objects() if one.report)
    tab.page.get_by_role("button", name="Next page").click(force=True)  # the last page: nothing happens
    assert found_rows(tab) == "101 to 190 of 190 objects"
    tab.page.get_by_label("Page", exact=True).fill("1")
    tab.page.get_by_label("Page", exact=True).press("Enter")
    assert found_rows(tab) == "1 to 100 of 190 objects"


def test_it_sorts_by_each_column_and_back(opened: Opened) -> None:
    tab = opened()
    heads = tab.page.locator("#table th button")
    reports = [one.report for one in sample.objects() if one.report]

    heads.filter(has_text="Object").click()
    assert column(tab, 2) == sorted(str(report.key) for report in reports)[:100]
    heads.filter(has_text="Stored").click()
    heads.filter(has_text="Stored").click()
    largest = sorted((report.size for report in reports if report.size is not None), reverse=True)
    assert column(tab, 4) == [figures.size(count) for count in largest[:100]]
    assert tab.page.locator("th[aria-sort=descending]").inner_text().startswith("Stored")
    heads.filter(has_text="Change").click()
    assert column(tab, 7)[:3] == ["was damaged", "new", ""]


def test_it_finds_by_text_status_format_and_change(opened: Opened) -> None:
    tab = opened()

    tab.page.get_by_label("Find").fill("BACKING.qed")
    assert set(column(tab, 2)) == {f"{team}/uploads/backing.qed" for team in ("build", "legacy", "staging")}
    tab.page.get_by_label("Find").fill("")
    tab.page.get_by_label("Status").select_option("rejected")
    tab.page.locator("#format").select_option("luks")
    assert found_rows(tab) == "1 to 7 of 7 objects (190 in all)"
    tab.page.get_by_label("Find").fill("no such text")
    assert "No object fits." in tab.page.locator("#table").inner_text()
    tab.page.get_by_label("Find").fill("")
    tab.page.get_by_label("Status").select_option("")
    tab.page.locator("#format").select_option("")
    tab.page.get_by_label("Change").select_option("new")
    assert found_rows(tab) == "1 to 1 of 1 objects (190 in all)"


def test_waived_objects_are_shown_alone_or_left_out(opened: Opened, tmp_path: Path, look: Look) -> None:
    base = Applied(
        check="backing_file", severity=Severity.CRITICAL, reason="on every host", until=date(2027, 3, 31)
    )
    names = sample.objects()[:6]
    waived = tuple(
        sample.audited(sample.verdict(f"waived/{number}.qcow2", waivers=(base,))) for number in range(3)
    )
    tab = opened(written(tmp_path, names + waived), look)
    choice = tab.page.get_by_label("Waived")

    choice.select_option("yes")
    assert column(tab, 2) == [f"waived/{number}.qcow2" for number in range(3)]
    assert "backing_file: waived until 2027-03-31: on every host" in tab.page.locator("#table").inner_text()
    assert tab.axe() == []
    assert tab.too_wide() == []
    choice.select_option("no")
    assert sorted(column(tab, 2)) == sorted(str(one.report.key) for one in names if one.report)

    choice.select_option("yes")
    tab.page.locator(".statuses a").filter(has_text="safe").first.click()  # a link shows all that it counts
    assert choice.input_value() == ""
    choice.select_option("yes")
    tab.page.evaluate("location.hash = '#object-1'")
    tab.page.wait_for_selector(".details")
    assert choice.input_value() == ""


def test_without_waivers_there_is_no_such_filter(opened: Opened) -> None:
    assert opened().page.get_by_label("Waived").count() == 0


def test_objects_are_shown_by_owner(opened: Opened, tmp_path: Path, look: Look) -> None:
    spec = AuditSpec(bucket=sample.BUCKET, owner_tag="team")
    tab = opened(written(tmp_path, sample.owned(), changes(), spec=spec), look)
    of = Counter(one.owner for one in sample.owned() if one.report and one.owner_unknown is None)
    unknown = sum(one.owner_unknown is not None for one in sample.owned() if one.report)
    owner = tab.page.locator("#owner")

    tab.page.locator("#owners ~ .scroll a").filter(has_text="identity & access").click()
    assert f"of {of['identity & access']} objects" in found_rows(tab)
    assert owner.input_value() == "=identity & access"
    for code, count in {"=": of[""], "-": of[None], "!": unknown, "=payments": of["payments"]}.items():
        owner.select_option(code)
        assert f"of {count} objects" in found_rows(tab)
    tab.page.locator("#table tbody a").first.click()
    tab.page.wait_for_selector(".details")
    facts = tab.page.locator(".details dl").inner_text()
    assert "payments" in facts
    assert tab.axe() == []
    assert tab.too_wide() == []


def test_it_sorts_by_owner_and_finds_by_owner(opened: Opened, tmp_path: Path) -> None:
    spec = AuditSpec(bucket=sample.BUCKET, owner_tag="team")
    tab = opened(written(tmp_path, sample.owned(), spec=spec))

    tab.page.locator("#table thead button").filter(has_text="Owner").click()
    assert set(column(tab, 7)[:5]) == {"identity & access"}
    tab.page.locator("#table thead button").filter(has_text="Owner").click()
    assert set(column(tab, 7)[:5]) == {"payments"}
    tab.page.get_by_label("Find").fill("IDENTITY &")
    assert set(column(tab, 7)) == {"identity & access"}


def test_a_link_names_an_owner_whom_the_filter_lacks(opened: Opened, tmp_path: Path) -> None:
    """The filter has the 200 owners with the most objects, and a link can be to any other."""
    spec = AuditSpec(bucket=sample.BUCKET, owner_tag="team")
    many = [f"{team:04}" for team in range(300) for _ in range(2)]
    objects = tuple(
        sample.audited(sample.verdict(f"{number:04}.img")).model_copy(update={"owner": owner})
        for number, owner in enumerate(many)
    )
    worst = sample.audited(sample.verdict("worst.img", Status.UNSAFE)).model_copy(update={"owner": "<b>x"})
    tab = opened(written(tmp_path, (*objects, worst), spec=spec))
    options = tab.page.locator("#owner option")
    assert options.count() == 1 + 200 + 1
    assert options.last.inner_text() == "101 more: use Find"

    tab.page.locator("#owners ~ .scroll a").filter(has_text="<b>x").click()

    assert column(tab, 2) == ["worst.img"]
    assert options.count() == 1 + 200 + 2


OWNED = AuditSpec(bucket=sample.BUCKET, owner_tag="team")
#: For each word within codes, the number of its lines. A code consists of words between places to break.
_LINES_OF_CODES = """() => Array.from(document.querySelectorAll("td > p.code, h3 .code, .reason .code"))
  .flatMap(code => Array.from(code.childNodes))
  .filter(node => node.nodeType === Node.TEXT_NODE)
  .flatMap(node => Array.from(node.data.matchAll(/\\S+/g), word => {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    return [word[0], new Set(Array.from(range.getClientRects()).map(rect => Math.round(rect.top))).size];
  }))"""


def test_codes_break_only_after_underscores(
    browser: Chromium, opened: Opened, tmp_path: Path, look: Look
) -> None:
    codes = [*CHECKS, *Reason]
    objects = tuple(
        sample.audited(sample.verdict(code, Status.REJECTED, reasons=(code, codes[number - 1])))
        for number, code in enumerate(codes)
    )
    path = written(tmp_path, objects)

    for tab in (opened(path, look, "#object-1"), browser.open(path, look, javascript=False)):
        lines = tab.page.evaluate(_LINES_OF_CODES)
        assert [text for text, count in lines if count != 1] == []
        assert len(lines) > 2 * len(codes)
        assert tab.too_wide() == []


def test_hostile_owners_are_text_and_fit(opened: Opened, tmp_path: Path, look: Look) -> None:
    names = (
        *HOSTILE[:4],
        *HOSTILE[5:],
        "W" * 256,
        "W W " * 64,
        "\U0001f980" * 256,
        "unknown owner",
        "__proto__",
    )
    objects = tuple(
        sample.audited(sample.verdict(f"{number}.img", Status.UNSAFE, reasons=("backing_file",))).model_copy(
            update={"owner": name}
        )
        for number, name in enumerate(names)
    )
    tab = opened(written(tmp_path, objects, spec=OWNED), look, "#object-6")

    assert tab.page.title() == "Keyhole audit of s3://images/"
    assert tab.page.locator("h1").count() == 1
    assert tab.too_wide() == []
    assert tab.axe() == []
    for number, name in enumerate(names):
        tab.page.locator("#owner").select_option(name_code(name))
        assert column(tab, 2) == [f"{number}.img"]
    tab.page.locator("#owner").select_option("")
    tab.page.locator("#find").fill("__PROTO__")
    assert column(tab, 2) == [f"{len(names) - 1}.img"]


def test_an_owner_that_imitates_another_is_another(opened: Opened, tmp_path: Path) -> None:
    """The page shows both in the same way, because one contains an invisible character."""
    names = ("R&D\xa0lab", r"R&D\xa0lab")
    objects = tuple(
        sample.audited(sample.verdict(f"{number}.img")).model_copy(update={"owner": name})
        for number, name in enumerate(names)
    )
    tab = opened(written(tmp_path, objects, spec=OWNED))

    for number in range(2):
        tab.page.locator("#owners ~ .scroll a").nth(number).click()
        assert found_rows(tab) == "1 to 1 of 1 objects (2 in all)"
        assert set(column(tab, 7)) == {r"R&D\xa0lab"}


def test_the_objects_of_each_of_many_owners_can_be_found(opened: Opened, tmp_path: Path) -> None:
    objects = tuple(
        sample.audited(sample.verdict(f"{number:04}.img")).model_copy(
            update={"owner": f"{number:04}".ljust(256, "x")}
        )
        for number in range(3000)
    )
    path = written(tmp_path, objects, spec=OWNED)
    tab = opened(path)

    assert path.stat().st_size < 1_000_000
    assert tab.page.locator("#owner option").last.inner_text() == "2,800 more: use Find"
    assert "all other owners (2,988)" in tab.page.locator("#owners ~ .scroll").inner_text()
    for number in (0, 1500, 2999):
        tab.page.locator("#find").fill(f"{number:04}xx")
        assert column(tab, 2) == [f"{number:04}.img"]


def test_objects_that_are_not_images_are_shown_alone_or_left_out(opened: Opened) -> None:
    tab = opened()
    other = sample.audit().totals.not_images

    tab.page.locator(".statuses a").filter(has_text="not images").click()
    assert found_rows(tab) == f"1 to {other} of {other} objects (190 in all)"
    tab.page.locator("#image").select_option("yes")
    assert found_rows(tab) == f"1 to 100 of {190 - other} objects (190 in all)"
    tab.page.locator(".statuses a").filter(has_text="damaged").click()
    assert tab.page.locator("#image").input_value() == "yes"
    assert found_rows(tab) == "1 to 21 of 21 objects (190 in all)"


def test_links_lead_to_the_objects_that_they_count(opened: Opened) -> None:
    tab = opened()

    tab.page.locator(".statuses a").filter(has_text="damaged").click()
    assert found_rows(tab) == "1 to 21 of 21 objects (190 in all)"
    tab.page.locator("article a.code").filter(has_text="backing_file").click()
    assert found_rows(tab) == "1 to 6 of 6 objects (190 in all)"
    tab.page.locator(".groups a").filter(has_text="tape/").click()
    assert column(tab, 2) == ["tape/2019.vmdk"]


def test_a_link_to_an_object_opens_its_section_wherever_it_is(opened: Opened, page: Path) -> None:
    tab = opened(page, LAPTOP, "#object-150")

    details = tab.page.locator(".details")
    key = str(sample.objects()[149].report.key)  # type: ignore[union-attr] # this object has a report
    assert details.locator("section").get_attribute("aria-label") == f"Details of {key}"
    tab.page.get_by_label("Status").select_option("unsafe")
    tab.page.locator("article ul a").filter(has_text="build/uploads/cut-off.vdi").click()
    tab.wait_for_focus("a build/uploads/cut-off.vdi")
    assert "What to do: " + what_to_do("truncated") in details.inner_text()
    assert tab.page.get_by_label("Status").input_value() == ""
    tab.page.keyboard.press("Enter")
    details.wait_for(state="detached")


def test_it_works_with_the_keyboard_alone(opened: Opened) -> None:
    tab = opened()

    assert tab.press("Tab") == "a Problems"
    assert tab.press("/") == "input#find in keys and reasons"
    tab.page.keyboard.type("backing.qed")
    tab.press("Tab", "Tab", "Tab", "Tab")
    assert tab.press("Tab") == "button Status"
    tab.press("Tab")
    assert tab.press("Enter") == "button Object"
    tab.press("Tab", "Tab", "Tab", "Tab", "Tab", "Tab")
    tab.page.keyboard.press("Enter")
    tab.page.locator(".details").wait_for()
    tab.wait_for_focus("a build/uploads/backing.qed")
    assert tab.page.locator(".details").inner_text().startswith("opening the image also opens")


def test_hostile_names_are_text(opened: Opened, tmp_path: Path) -> None:
    objects = tuple(
        sample.audited(
            sample.verdict(
                f"{name}/{name}",
                Status.UNSAFE,
                reasons=("backing_file",),
                findings=(found("backing_file", name),),
                version_id=name,
                subformat=name,
                etag=name,
                virtual_size=2**64 + 1,
            )
        )
        for name in HOSTILE
    )
    path = written(tmp_path, objects)

    for look in LOOKS[::3]:
        tab = opened(path, look, "#object-1")
        assert tab.page.title() == "Keyhole audit of s3://images/"
        assert tab.page.locator("h1").count() == 1
        assert tab.page.locator("img, table script").count() == 0
        assert any(key.startswith("invoice\\u202egpj") for key in column(tab, 2))
        assert "18,446,744,073,709,551,617 bytes" in tab.page.locator(".details").inner_text()
        assert tab.too_wide() == []
        assert tab.axe() == []


def test_sizes_are_formatted_as_everywhere(opened: Opened) -> None:
    tab = opened()
    counts = [
        None,
        0,
        1023,
        1024,
        1280,
        1075,
        418_304,
        1023 * 1024 + 1000,
        10**9,
        102_349,
        2**53,
        2**70,
        2**101,
    ]
    counts += [3**power for power in range(1, 63)]
    as_packed = [packed_rows.exactly(count) for count in counts]
    shown = tab.page.evaluate("counts => counts.map(count => [size(count), exact(count)])", as_packed)
    assert shown == [[figures.size(count), figures.exact(count)] for count in counts]


def test_without_scripts_the_most_urgent_objects_are_there(browser: Chromium, page: Path) -> None:
    tab = browser.open(page, LAPTOP, javascript=False)

    assert tab.page.locator("#table tbody tr").count() == 190
    assert not tab.page.locator("#tools").is_visible()
    tab.page.locator("article ul a").first.click()
    assert tab.page.url.endswith(f"#{tab.page.locator('#table tbody tr').first.get_attribute('id')}")


def test_a_hundred_thousand_objects_load_sort_and_search(opened: Opened, tmp_path: Path) -> None:
    """The times are far above what they take (a second to load, a tenth to sort), because CI is busy."""
    report = next(one.report for one in sample.objects() if one.report)
    objects = tuple(
        AuditedObject(
            how=How.SCANNED,
            status=report.status,
            report=report.model_copy(
                update={"key": f"{number % 97}/{number}.qcow2", "size": number * 7919 % 10**6}
            ),
        )
        for number in range(100_000)
    )
    path = written(tmp_path, objects)
    assert path.stat().st_size < 10_000_000

    tab = opened(path)
    assert found_rows(tab) == "1 to 100 of 100,000 objects"
    tab.page.locator("#table th button").filter(has_text="Stored").click()
    assert column(tab, 2)[0] == "0/0.qcow2"
    tab.page.get_by_label("Find").fill("/99999.qcow2")
    assert column(tab, 2) == ["89/99999.qcow2"]
    assert tab.page.evaluate("performance.now()") < 60_000
