"""A page in a headless Chromium, and what tests ask about it.

Playwright controls Debian's Chromium. axe-core finds mistakes of accessibility. If one of the three is not
installed, the tests are skipped; in CI, they fail.
"""

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.e2e.commands import until
from tests.tools import give_up, need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

#: The variable with the folder in which npm's package `axe-core` is installed.
NODE_MODULES: Final = "KEYHOLE_TEST_NODE_MODULES"
#: The widths of a phone and of a laptop, with their heights, in CSS pixels.
HEIGHTS: Final = {390: 844, 1280: 800}
#: How long Playwright waits for a page, in milliseconds. The machine can be busy.
PATIENCE_MS: Final = 120_000

#: A description of the element that has the focus: its tag, its id, and its name or text.
_FOCUSED: Final = """() => {
  const element = document.activeElement;
  const name = element.getAttribute("aria-label") || element.textContent || element.placeholder || "";
  const id = element.id ? "#" + element.id : "";
  return `${element.tagName.toLowerCase()}${id} ${name.trim().replace(/\\s+/g, " ")}`.trim();
}"""
#: The elements that reach beyond the right edge of the screen and that no parent lets scroll.
_TOO_WIDE: Final = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = element => /auto|scroll|hidden|clip/.test(getComputedStyle(element).overflowX);
  const inside = element => {
    for (let up = element.parentElement; up && up !== document.body; up = up.parentElement)
      if (scrolls(up)) return true;
    return false;
  };
  return Array.from(document.body.querySelectorAll("*"))
    .filter(element => element.getBoundingClientRect().right > width + 1 && !inside(element))
    .map(element => element.outerHTML.slice(0, 120));
}"""
_AXE: Final = """async () => {
  const found = await axe.run();
  return found.violations.flatMap(rule => rule.nodes.map(node =>
    `${rule.id} (${rule.impact}): ${node.target.join(" ")}: ${node.failureSummary}`));
}"""


class Look(NamedTuple):
    """How a page is looked at: the width of the screen in CSS pixels, and whether colours are dark."""

    width: int
    dark: bool

    def __str__(self) -> str:
        return f"{self.width}-{'dark' if self.dark else 'light'}"


#: Every look that a page must support.
LOOKS: Final = tuple(Look(width, dark) for width in HEIGHTS for dark in (False, True))


@dataclass
class Tab:
    """An open page. `page` is Playwright's.

    Args:
        console: The messages in the console, and the errors that no script caught.
        failed: The requests without an answer, or with an answer of 400 and above.
        requested: The URLs of all requests.
    """

    page: "Page"
    console: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("requestfailed", lambda request: self._fail(request.url, request.failure or ""))
        self.page.on(
            "response",
            lambda answer: self._fail(answer.url, str(answer.status)) if answer.status >= 400 else None,
        )

    def _fail(self, url: str, why: str) -> None:
        # The browser aborts requests that are still open when it leaves a page, such as a stream of events.
        if why != "net::ERR_ABORTED":
            self.failed.append(f"{url}: {why}")

    def press(self, *keys: str) -> str:
        """Press keys in turn (`Tab`, `Enter`, `Shift+Tab`), and return what then has the focus."""
        for key in keys:
            self.page.keyboard.press(key)
        return self.focused()

    def focused(self) -> str:
        """The element with the focus: `button#next Next`."""
        return str(self.page.evaluate(_FOCUSED))

    def wait_for_focus(self, beginning: str) -> None:
        """Wait until an element has the focus whose description begins like this.

        A page moves the focus some time after a navigation: also after one to another part of the page.
        """
        until(lambda: self.focused().startswith(beginning), PATIENCE_MS / 1000)

    def axe(self) -> list[str]:
        """What axe-core finds wrong, such as a contrast below AA, one line an element."""
        self.page.evaluate(_axe_core())  # unlike a script element, this does not need the page's permission
        return [str(line) for line in self.page.evaluate(_AXE)]

    def too_wide(self) -> list[str]:
        """The elements that a person must scroll the whole page sideways to see."""
        return [str(html) for html in self.page.evaluate(_TOO_WIDE)]

    def pdf(self) -> bytes:
        """The page as it is printed on A4."""
        return self.page.pdf(format="A4", print_background=True)

    def picture(self, path: Path, *, whole: bool = False) -> Path:
        """Write what the screen shows, or the `whole` page, as PNG."""
        self.page.screenshot(path=path, full_page=whole, animations="disabled")
        return path


class Chromium:
    """A running Chromium, in which each tab has cookies and storage of its own."""

    def __init__(self, browser: "Browser") -> None:
        self._browser = browser
        self._open: list[tuple[BrowserContext, Tab]] = []

    def open(
        self,
        where: str | Path,
        look: Look = LOOKS[-2],
        *,
        javascript: bool = True,
        headers: dict[str, str] | None = None,
    ) -> Tab:
        """Open a URL or a file, and wait until the page and its scripts are loaded."""
        context = self._browser.new_context(
            viewport={"width": look.width, "height": HEIGHTS[look.width]},
            color_scheme="dark" if look.dark else "light",
            reduced_motion="reduce",
            java_script_enabled=javascript,
            extra_http_headers=headers,
            locale="en-US",
            timezone_id="UTC",
        )
        context.set_default_timeout(PATIENCE_MS)
        tab = Tab(context.new_page())
        self._open.append((context, tab))
        tab.page.goto(where.resolve().as_uri() if isinstance(where, Path) else where)
        return tab

    def close_tabs(self) -> list[str]:
        """Close all tabs, and return their console messages and failed requests."""
        complaints = [line for _, tab in self._open for line in (*tab.console, *tab.failed)]
        for context, _ in self._open:
            context.close()
        self._open.clear()
        return complaints


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Start Chromium. Skip the test if something is missing; in CI, fail."""
    need("chromium")
    if importlib.util.find_spec("playwright") is None:
        give_up("playwright is not there: pip install '.[dev]'")
    _axe_core()

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Text without coloured edges makes pictures smaller. Chromium's sandbox refuses root; the tests open
        # only their own pages.
        options = ["--disable-lcd-text", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
        try:
            yield Chromium(browser)
        finally:
            browser.close()


@cache
def _axe_core() -> str:
    folder = os.environ.get(NODE_MODULES)
    script = Path(folder or "") / "axe-core" / "axe.min.js"
    if not folder or not script.is_file():
        give_up(f"{NODE_MODULES} does not say where npm's axe-core is installed")
    return script.read_text(encoding="utf-8")


def pages_of(pdf: bytes) -> int:
    """The number of pages of a PDF that Chromium printed."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))
