"""Every relative link, anchor and path in the pages for readers exists."""

import re
from pathlib import Path

import pytest

from tests.pages import FOLDER, ROOT

PAGES = [
    ROOT / "README.md",
    *sorted(FOLDER.glob("*.md")),
    *sorted((ROOT / ".github").glob("*.md")),
    ROOT / "tests" / "faults" / "README.md",
]
#: Files that the reader creates: the example in the page about adding a format.
NOT_THERE = {"worker/keyhole/inspectors/formats/toy.py", "tests/inspectors/formats/test_toy.py"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without its fenced code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings. It numbers the anchors of equal headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE):
        words = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        repeated = found.count(anchor)
        found.append(f"{anchor}-{repeated}" if repeated else anchor)
    return set(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=name)
def test_a_page_of_the_reference_links_only_to_the_reference(page: Path) -> None:
    """Users who read the page with `keyhole docs` do not have the other files."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        assert re.match(r"https?:|#", link) or (page.parent / link.partition("#")[0]).parent == FOLDER


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    paths = re.findall(r"`((?:worker|tests|deploy|\.ci|\.github)/[\w./-]*)`", prose(page))
    assert [path for path in paths if path not in NOT_THERE and not (ROOT / path).exists()] == []


def test_the_readme_links_to_every_page_of_the_reference() -> None:
    linked = {
        (ROOT / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose(ROOT / "README.md"))
    }
    assert set(FOLDER.glob("*.md")) <= linked
