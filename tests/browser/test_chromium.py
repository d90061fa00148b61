"""The harness itself: it notices what it claims to notice."""

from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, Look, pages_of

pytestmark = pytest.mark.slow

POOR = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Poor</title>
<main><h1>Poor</h1><p style="color: #ccc; background: #fff">faint</p><img src="missing.png" alt="">
<div style="width: 2000px">wide</div>
<div style="overflow: auto"><b style="padding: 0 3000px">scrolls</b></div>
</main><script>console.warn("warned"); throw new Error("thrown")</script>"""
FAIR = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Fair</title>
<meta name="color-scheme" content="light dark">
<style>@media (prefers-color-scheme: dark) { body { background: #000 } }
@media print { h1 { break-after: page } }</style><main><h1>Fair</h1>
<button id="go">Go</button> <a href="#">On</a></main>"""


def page(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_it_notices_what_is_wrong_with_a_page(browser: Chromium, tmp_path: Path) -> None:
    tab = browser.open(page(tmp_path, POOR), Look(390, dark=False))

    assert [line for line in tab.axe() if line.startswith("color-contrast (serious): p:")]
    assert [html[:24] for html in tab.too_wide()] == ['<div style="width: 2000p']
    assert "warning: warned" in tab.console
    assert "uncaught: thrown" in tab.console
    assert [line.rsplit("/", 1)[1] for line in tab.failed] == ["missing.png: net::ERR_FILE_NOT_FOUND"]
    tab.console.clear()
    tab.failed.clear()


def test_a_page_without_faults_has_no_complaints(browser: Chromium, tmp_path: Path, look: Look) -> None:
    tab = browser.open(page(tmp_path, FAIR), look)

    assert tab.axe() == []
    assert tab.too_wide() == []
    assert tab.press("Tab") == "button#go Go"
    assert tab.press("Tab") == "a On"
    assert tab.press("Shift+Tab") == "button#go Go"
    assert pages_of(tab.pdf()) == 2
    assert tab.page.evaluate("innerWidth") == look.width
    black = tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
    assert black is look.dark
