"""Links that lead outside through other links of the archive, and links that only seem to."""

import subprocess
import tarfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from keyhole.builders import tar_header, vdi
from keyhole.inspectors import Facts
from keyhole.inspectors.archives.links import MAX_BYTES, MAX_PLACES
from tests.inspectors.archives import readers
from tests.inspectors.archives.blocks import archive, file
from tests.inspectors.archives.walking import walk

MIB = 1024**2
DISK = file(b"disk.vdi", vdi(MIB))


def link(name: bytes, target: bytes, kind: bytes = b"2") -> bytes:
    return tar_header(name, kind=kind, link=target)


def folder(name: bytes) -> bytes:
    return tar_header(name + b"/", kind=b"5")


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


def found(*parts: bytes) -> list[str]:
    return checks(walk(archive(*DISK, *parts)))


UP = link(b"d/e/up", b"../..")
LEADING_OUTSIDE = {
    "through a link that comes before": [UP, link(b"x", b"d/e/up/../secret")],
    "through a link that comes after": [link(b"x", b"d/e/up/../secret"), UP],
    "through two links": [UP, link(b"d/e/on", b"up/d/e/up/."), link(b"x", b"d/e/on/../secret")],
    "through its own text": [UP, link(b"d/x", b"e/up/../secret")],
    "by a hard link": [UP, link(b"d/e/out", b"up/.."), link(b"x", b"d/e/out/secret", b"1")],
    "by a hard link through a name with a dot": [
        UP,
        link(b"d/e/out", b"up/.."),
        link(b"x", b"./d/./e//out/secret", b"1"),
    ],
    "by a link that a hard link moves up": [link(b"d/s", b"../secret"), link(b"x", b"d/s", b"1")],
    "by a link that a hard link moves through a link": [
        link(b"a", b"d"),
        link(b"d/s", b"../secret"),
        link(b"x", b"a/s", b"1"),
    ],
    "through a link that replaces another": [
        link(b"d/e/up", b"."),
        UP,
        link(b"x", b"d/e/up/../../../secret"),
    ],
    "through a link that another replaces, where the first stays": [
        UP,
        link(b"d/e/up", b"."),
        link(b"x", b"d/e/up/../secret"),
    ],
    "where case is ignored": [UP, link(b"x", b"D/E/UP/../secret")],
    "where accents are one": [
        link("é/e/up".encode(), b"../.."),
        link(b"x", "e\u0301/e/up/../secret".encode()),
    ],
    "where a backslash separates": [UP, link(b"x", b"d\\e\\up\\..\\secret")],
}
STAYING_INSIDE = {
    "to the root": [UP],
    "through a link to the root": [UP, link(b"x", b"d/e/up/disk.vdi")],
    "down and up": [UP, link(b"d/y", b"e/up/d/../disk.vdi")],
    "a Debian system's": [
        link(b"bin", b"usr/bin"),
        link(b"./usr/lib64", b"lib"),
        link(b"./var/run", b"../run"),
        link(b"./usr/bin/x", b"../../bin/y"),
        link(b"./usr/share/doc/a/changelog", b"../b/changelog"),
    ],
    "a hard link through a link": [link(b"a", b"b"), folder(b"b"), link(b"h", b"a/x", b"1")],
    "a hard link to a link beside it": [link(b"d/s", b"../x"), link(b"d/t", b"d/s", b"1")],
    "a loop": [link(b"a", b"b"), link(b"b", b"a"), link(b"x", b"a/y")],
    "one that leads to itself": [link(b"a", b"a"), link(b"d/b", b"b/../c")],
    "nowhere": [link(b"x", b"not/there/../at/all")],
    "two of a name": [link(b"a", b"b"), link(b"a", b"c")],
}


@pytest.mark.parametrize("name", LEADING_OUTSIDE)
def test_a_link_that_leads_outside_through_others_is_found(name: str) -> None:
    assert "member_path" in found(*LEADING_OUTSIDE[name])


@pytest.mark.parametrize("name", STAYING_INSIDE)
def test_a_link_that_stays_inside_is_not(name: str) -> None:
    assert found(*STAYING_INSIDE[name]) == []


@pytest.mark.parametrize("links", [10, 30, 60])
def test_a_chain_of_links_is_followed(links: int) -> None:
    chain = [link(b"%d" % number, b"%d" % (number + 1)) for number in range(links)]
    assert found(*chain, link(b"%d" % links, b"d/e/up"), UP, link(b"x", b"0/../secret")) == ["member_path"]


def test_a_chain_that_no_system_follows_leads_nowhere() -> None:
    chain = [link(b"%d" % number, b"%d" % (number + 1)) for number in range(100)]
    assert found(*chain, link(b"100", b"d/e/up"), UP, link(b"x", b"0/../secret")) == []


@pytest.mark.parametrize("kind", [b"1", b"2"])
def test_a_file_with_the_name_of_an_earlier_link_is_found(kind: bytes) -> None:
    """Python writes this file through the link, and so overwrites the disk."""
    assert "member_path" in found(link(b"x", b"disk.vdi", kind), *file(b"x", b"text"))
    assert found(*file(b"x", b"text"), link(b"x", b"disk.vdi", kind)) == []


@pytest.mark.parametrize(
    ("one", "other"), [(b"X", b"x"), ("É".encode(), "e\u0301".encode()), (b"x", b"x."), (b"a/x", b"a\\x")]
)
def test_where_case_is_ignored_a_link_may_have_the_name_of_a_file_or_its_folder(
    one: bytes, other: bytes
) -> None:
    assert "member_path" in found(link(one, b"disk.vdi"), *file(other, b"text"))
    assert "member_path" in found(link(one, b"d"), *file(other + b"/disk", b"text"))
    assert found(link(one + b"y", b"d"), *file(other + b"/disk", b"text")) == []


def test_a_folder_may_have_the_name_of_an_earlier_link() -> None:
    assert found(link(b"x", b"disk.vdi"), folder(b"x")) == []


# Bounds


@pytest.mark.slow
def test_more_links_than_are_kept_are_a_finding() -> None:
    name, target = b"n" * 90, b"t" * 100
    most = MAX_BYTES // (len(name) + 5 + len(target))
    links = [link(b"%b%05d" % (name, number), target) for number in range(most + 1)]
    assert found(*links[:-1]) == []
    assert found(*links) == ["member_limit"]


@pytest.mark.slow
def test_more_places_than_are_kept_are_a_finding() -> None:
    depth = 40
    enough = MAX_PLACES // depth
    names = [b"%d/" % number + b"d/" * (depth - 2) + b"l" for number in range(enough + 1)]
    assert found(*(link(name, b"x") for name in names[: enough - 1])) == []
    assert found(*(link(name, b"x") for name in names)) == ["member_limit"]


@pytest.mark.slow
def test_links_that_lead_through_thousands_of_folders_are_a_finding() -> None:
    """Each link doubles the number of folders to follow, so Keyhole stops at a limit."""
    links = [link(b"0", b"a/" * 20)]
    links += [link(b"%d" % number, b"%d/%d" % (number - 1, number - 1)) for number in range(1, 60)]
    assert found(*links, *(link(b"l%d" % number, b"59/59") for number in range(16_000))) == ["member_limit"]


# Extractors


def by_command(*command: str) -> Callable[[Path, Path], None]:
    """An extractor that is a command, run in the folder."""

    def extract(path: Path, folder: Path) -> None:
        subprocess.run([*command, path], cwd=folder, check=False, capture_output=True)

    return extract


def by_python(path: Path, folder: Path) -> None:
    """Extract as Python does by default. It refuses some archives, and may have extracted a part of them."""
    # A process of its own for each archive would take most of this test's time.
    with warnings.catch_warnings(action="ignore"), suppress(*PYTHONS_ERRORS), tarfile.open(path) as opened:
        opened.extractall(folder)  # noqa: S202 - the test is about what this does


PYTHONS_ERRORS = (tarfile.TarError, KeyError, ValueError, RecursionError, OSError)
EXTRACTORS = {
    "tar": by_command("tar", "-xf"),
    "bsdtar": by_command("bsdtar", "-xf"),
    "busybox": by_command("busybox", "tar", "-xf"),
    "python": by_python,
}
NAMES = [b"a", b"b", b"d/a", b"d/b", b"d/e/a", b"d/e/b"]
STEPS = [b"..", b"..", b"a", b"b", b"d", b"e", b"."]


def leads_outside(inside: Path, secret: int) -> bool:
    """Whether a link in a folder leads outside the folder, or a file exists outside it."""
    root = inside.resolve()
    return any(
        (path.is_symlink() and path.exists() and not path.resolve().is_relative_to(root))
        or (path.is_file() and path.stat().st_ino == secret)
        for path in inside.rglob("*")
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_no_archive_is_in_order_whose_links_an_extractor_follows_outside(tmp_path: Path, seed: int) -> None:
    readers.need("tar", "bsdtar", "busybox")
    choose = Random(seed)  # noqa: S311 - to choose links, the same in every run
    path = tmp_path / "archive.tar"
    in_order = outside = 0
    for number in range(150):
        links = [
            link(
                choose.choice(NAMES),
                b"/".join(choose.choices(STEPS, k=choose.randrange(1, 6))),
                choose.choice([b"2", b"2", b"1"]),
            )
            for _ in range(choose.randrange(2, 7))
        ]
        image = archive(folder(b"d"), folder(b"d/e"), *file(b"d/e/f", b"text"), *links)
        is_in_order = not walk(image).findings
        in_order += is_in_order
        image.write_to(path)
        for name, extract in EXTRACTORS.items():
            around = tmp_path / f"{number}-{name}"
            inside = around / "inside"
            inside.mkdir(parents=True)
            for secret in ("a", "b", "f"):
                (around / secret).write_text("secret")
            extract(path, inside)
            leads = any(leads_outside(inside, (around / secret).stat().st_ino) for secret in ("a", "b", "f"))
            outside += leads
            assert not (is_in_order and leads), (name, image)
    assert in_order
    assert outside
