"""Fixtures for the tests of pages: one Chromium for each test file, and tabs in it.

Mark such a file with `pytestmark = pytest.mark.slow`. While the Chromium runs, the thread has a running event
loop, so a test in such a file cannot call `asyncio.run`.
"""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import LOOKS, Chromium, Look, chromium


@pytest.fixture(scope="module")
def _chromium() -> Iterator[Chromium]:
    with chromium() as running:
        yield running


@pytest.fixture
def browser(_chromium: Chromium) -> Iterator[Chromium]:
    """The Chromium of this test file: `browser.open(url, look)`.

    At the end of a test, no tab may have a console message or a failed request. A test that expects one
    clears `tab.console` or `tab.failed`.
    """
    yield _chromium
    assert _chromium.close_tabs() == []


@pytest.fixture(params=LOOKS, ids=str)
def look(request: pytest.FixtureRequest) -> Look:
    """Each look that a page must support: a phone's and a laptop's screen, each light and dark."""
    found: Look = request.param
    return found
