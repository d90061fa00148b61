"""The dashboard in a browser: every page in every look, by keyboard, without scripts, live and on paper."""

import re
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
import redis

from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore
from tests.browser.chromium import Chromium, Look, pages_of
from tests.dashboard.conftest import TOKEN, Site, running
from tests.dashboard.site import AUDIT, DEBIAN, HOSTILE, fill, report
from tests.e2e.commands import until

pytestmark = pytest.mark.slow

PAGES = (
    *("/", "/verdicts", "/verdicts?q=nothing-matches", "/audits", f"/audit?id={AUDIT}", "/work", "/dead"),
    *("/object?" + urlencode({"bucket": "images", "key": key}) for key in (DEBIAN, HOSTILE[0], HOSTILE[2])),
)


@pytest.fixture
def site(valkey: redis.Redis) -> Iterator[Site]:
    """A dashboard over hostile names, without a token."""
    fill(valkey)
    with running(valkey) as site:
        yield site


def test_every_page_fits_and_is_accessible_in_every_look(browser: Chromium, site: Site, look: Look) -> None:
    for path in PAGES:
        tab = browser.open(site.url + path, look)

        assert tab.too_wide() == [], path
        assert tab.axe() == [], path
        # Nothing is loaded from elsewhere, and no hostile name became an element.
        assert all(url.startswith(site.url) for url in tab.requested)
        assert tab.page.locator("main script, main img, main b b").count() == 0


def test_the_login_is_accessible_in_every_look(browser: Chromium, valkey: redis.Redis, look: Look) -> None:
    with running(valkey, TOKEN) as site:
        tab = browser.open(f"{site.url}/verdicts?q=a", look)
        assert tab.axe() == []
        assert tab.too_wide() == []

        tab.wait_for_focus("input")  # the field for the token
        tab.page.keyboard.type("wrong-token")
        tab.page.keyboard.press("Enter")
        tab.page.get_by_role("alert").wait_for()
        tab.console.clear()  # the browser reports the answer 403
        tab.failed.clear()
        tab.wait_for_focus("input")
        tab.page.keyboard.type(TOKEN)
        tab.page.keyboard.press("Enter")

        tab.page.get_by_role("heading", name="Verdicts").wait_for()
        assert tab.page.url == f"{site.url}/verdicts?q=a"
        assert tab.page.evaluate("document.cookie") == ""


def test_a_person_with_a_keyboard_finds_an_object(browser: Chromium, site: Site) -> None:
    tab = browser.open(f"{site.url}/")

    assert tab.press("Tab") == "a Skip to the content"
    assert "Search keys" in tab.press("/")
    tab.page.keyboard.type("DEBIAN-12")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="Verdicts").wait_for()
    link = tab.page.get_by_role("link", name=DEBIAN)
    link.focus()
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("heading", name="What was read").wait_for()

    assert DEBIAN in tab.page.locator("h1").inner_text()
    assert tab.page.get_by_role("img", name="3 ranges of the object").count() == 1


def test_a_person_with_a_keyboard_filters_the_objects_of_an_audit(browser: Chromium, site: Site) -> None:
    tab = browser.open(f"{site.url}/audit?id={AUDIT}")
    while not tab.focused().startswith("a safe "):
        tab.press("Tab")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**status=safe#objects")

    rows = tab.page.locator("#objects tbody tr")
    assert rows.count() == 1
    assert DEBIAN in rows.inner_text()
    assert tab.page.locator(".choices [aria-current]").inner_text().startswith("safe")
    # The browser goes on from the table, and not from the top of the page.
    assert "all" in tab.press("Tab")


def test_new_verdicts_appear_without_a_reload(browser: Chromium, site: Site, valkey: redis.Redis) -> None:
    tab = browser.open(f"{site.url}/")
    tile = tab.page.locator("#counts li.s-damaged b")
    assert tile.inner_text() == "0"

    store = RedisStore(valkey, expiry_seconds=None, stream_length=100)
    for number in range(3):
        new = report(f"<b>new</b>-{number}", status=Status.DAMAGED, reasons=("truncated",))
        store.write(new, job_id=f"new-{number}", sequencer=None)

    tab.page.locator("#latest").get_by_text("<b>new</b>-2").first.wait_for()
    tab.page.locator("#counts li.s-damaged b", has_text=re.compile("^3$")).wait_for()


def test_without_scripts_every_page_is_complete(browser: Chromium, site: Site) -> None:
    tab = browser.open(f"{site.url}/", javascript=False)
    tab.page.get_by_role("searchbox").fill("debian-12")
    tab.page.get_by_role("button", name="Search").click()
    tab.page.get_by_role("link", name=DEBIAN).click()

    assert tab.page.get_by_role("heading", name="History").count() == 1


def test_an_object_is_printed_on_few_pages(browser: Chromium, site: Site) -> None:
    tab = browser.open(f"{site.url}{PAGES[-3]}")

    assert pages_of(tab.pdf()) <= 2


def test_an_open_page_does_not_delay_the_end(
    browser: Chromium, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with running(valkey) as site:
        tab = browser.open(f"{site.url}/work")
        until(lambda: site.dashboard.pages.live.streams == 1)
    assert "timeout graceful shutdown exceeded" not in caplog.text
    tab.page.close()
    tab.console.clear()  # the browser reports the stream that ended
    tab.failed.clear()
