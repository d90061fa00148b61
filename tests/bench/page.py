"""How long a browser needs for the HTML report of a large audit: `python -m tests.bench.page [OBJECTS]`.

It opens the report and an empty page in turn, in the same Chromium. The page is usable when its table is
complete, and can be sorted and searched. The machine can be busy, so compare the times of one run with each
other: the last column divides them by the time of the empty page.
"""

import io
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

from keyhole.reports.page import write_html
from tests.bench.table import Table
from tests.browser.chromium import Chromium, Look, chromium
from tests.reports import sample

#: How often each page is opened. The median counts.
TIMES: Final = 5
EMPTY: Final = (
    '<!doctype html><html lang="en"><title>empty</title><table id="table" data-ready></table></html>'
)
#: Notes when the table is complete, in milliseconds since the browser began to load the page.
WATCH: Final = """
const note = () => { document.documentElement.dataset.usable = performance.now(); };
const look = () => {
  if (document.querySelector("#table[data-ready]")) requestAnimationFrame(() => setTimeout(note));
  else requestAnimationFrame(look);
};
look();
"""
#: The durations of a sort, of the first search, and of a second search, in milliseconds.
USE: Final = """() => {
  const timed = act => { const began = performance.now(); act(); return performance.now() - began; };
  const find = text => () => {
    const field = document.getElementById("find");
    field.value = text;
    field.dispatchEvent(new Event("input"));
  };
  const [, , , sort] = document.querySelectorAll("#table th button");
  return [timed(() => sort.click()), timed(find("no such text")), timed(find("99"))];
}"""


def report(count: int) -> bytes:
    """The report of an audit of this many objects: the sample's reports in turn, under different keys."""
    reports = [one.report for one in sample.objects() if one.report]
    objects = tuple(
        sample.audited(
            reports[number % len(reports)].model_copy(update={"key": f"{number % 97}/{number}.qcow2"})
        )
        for number in range(count)
    )
    out = io.BytesIO()
    write_html(sample.audit(objects), objects, (), out, now=sample.NOON)
    return out.getvalue()


def usable(browser: Chromium, path: Path) -> float:
    """Open a page, and return the milliseconds until it is usable."""
    tab = browser.open("about:blank", Look(1280, dark=False))
    tab.page.add_init_script(WATCH)
    tab.page.goto(path.as_uri())
    tab.page.wait_for_selector("html[data-usable]", state="attached", timeout=120_000)
    return float(tab.page.evaluate("document.documentElement.dataset.usable"))


def used(browser: Chromium, path: Path) -> list[float]:
    """Return the milliseconds of a sort, of the first search and of the second."""
    tab = browser.open(path, Look(1280, dark=False))
    tab.page.wait_for_selector("#table[data-ready]", timeout=120_000)
    return [float(duration) for duration in tab.page.evaluate(USE)]


def run(count: int) -> list[Table]:
    """Return the tables."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page, empty = Path(folder, "report.html"), Path(folder, "empty.html")
        page.write_bytes(report(count))
        empty.write_text(EMPTY)
        times: dict[Path, list[float]] = {page: [], empty: []}
        uses = []
        for _ in range(TIMES):
            for path, found in times.items():
                found.append(usable(browser, path))
            uses.append(used(browser, page))
            browser.close_tabs()
        base = statistics.median(times[empty])
        size = page.stat().st_size / 1e6
        table = Table(f"a report of {count:,} objects, {size:.1f} MB", ("", "ms", "of an empty page"))
        table.add("an empty page is usable", base, 1.0)
        table.add(
            "the report is usable", statistics.median(times[page]), statistics.median(times[page]) / base
        )
        for name, durations in zip(
            ("sort", "first search", "second search"), zip(*uses, strict=True), strict=True
        ):
            table.add(name, statistics.median(durations), statistics.median(durations) / base)
        return [table]


if __name__ == "__main__":
    for printed in run(int((sys.argv[1:] or ["100000"])[0])):
        print(printed)
