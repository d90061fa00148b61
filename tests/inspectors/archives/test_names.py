"""Names and links in an archive that lead outside the folder to which it is extracted."""

import pytest

from keyhole.builders import Image, tar_header, vdi
from keyhole.inspectors import Facts, Severity
from tests.inspectors.archives.blocks import archive, extended, file, long_name
from tests.inspectors.archives.walking import walk

MIB = 1024**2
DISK = file(b"disk.vdi", vdi(MIB))
ELSEWHERE = file(b"notes", b"text")


def link(name: bytes, target: bytes, kind: bytes = b"2") -> bytes:
    return tar_header(name, kind=kind, link=target)


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


def found(*parts: bytes | Image) -> list[str]:
    return checks(walk(archive(*DISK, *parts)))


@pytest.mark.parametrize(
    "name",
    [
        b"/etc/passwd",
        b"//a",
        b"..",
        b"../a",
        b"a/../../b",
        b"a/..",
        b"./../a",
        b"\\a",
        b"..\\a",
        b"a\\..\\..\\b",
        b"C:\\a",
        b"c:a",
    ],
)
def test_a_name_that_leads_outside_is_found(name: bytes) -> None:
    assert found(*file(name, b"text")) == ["member_path"]


@pytest.mark.parametrize(
    "name", [b"a", b"./a", b"a/./b", b"a//b", b"...", b"a..b/..c", b"dev-x\\x2da", b"ab:c", b" "]
)
def test_a_name_that_stays_inside_is_not(name: bytes) -> None:
    assert found(*file(name, b"text")) == []


@pytest.mark.parametrize("name", [b"a\0b", b"n" * 4097, b"d/" * 257 + b"a"])
def test_a_name_that_not_all_readers_take_whole_is_found(name: bytes) -> None:
    assert found(*extended((b"path", name)), *ELSEWHERE) == ["member_path"]


def test_the_finding_on_a_deep_name_states_the_limit() -> None:
    assert found(*extended((b"path", b"d/" * 255 + b"a")), *ELSEWHERE) == []
    (deep,) = walk(archive(*DISK, *extended((b"path", b"d/" * 256 + b"a")), *ELSEWHERE)).findings
    assert deep.message.endswith("is more than 255 folders deep")


@pytest.mark.parametrize(
    ("name", "target"),
    [
        (b"a", b"/etc/shadow"),
        (b"a", b"../x"),
        (b"a", b".."),
        (b"a/b", b"../../x"),
        (b"a/b/c", b"../x/../../../y"),
        (b"a", b"x/../../y"),
        (b"a", b"..\\x"),
        (b"a", b"C:/x"),
    ],
)
def test_a_link_that_leads_outside_is_found(name: bytes, target: bytes) -> None:
    assert found(link(name, target)) == ["member_path"]
    assert found(link(name, target, b"1")) == ["member_path"]


@pytest.mark.parametrize(
    ("name", "target"), [(b"a/b", b"../x"), (b"a/b/c", b"../../x"), (b"a", b"b/../c"), (b"a", b"b")]
)
def test_a_symbolic_link_may_climb_as_far_as_it_is_deep(name: bytes, target: bytes) -> None:
    assert found(link(name, target)) == []


def test_a_hard_link_begins_at_the_root() -> None:
    assert found(link(b"a/b", b"../x", b"1")) == ["member_path"]
    assert found(link(b"a/b", b"disk.vdi", b"1")) == []


def test_a_long_target_is_looked_at_too() -> None:
    assert found(*long_name(b"/etc/" + b"x" * 200, kind=b"K"), link(b"a", b"inside")) == ["member_path"]
    assert found(*extended((b"linkpath", b"/etc/x")), link(b"a", b"inside")) == ["member_path"]


@pytest.mark.parametrize("name", [b"a/x", b"./a//x", b"a/b/x"])
def test_a_member_that_leads_through_a_link_is_found(name: bytes) -> None:
    """`d -> .` and `d/e -> ..` each seem to stay inside; `d/e/x` does not."""
    assert found(link(b"a", b"b"), *file(name, b"text")) == ["member_path"]


def test_a_link_through_a_link_is_found() -> None:
    assert found(link(b"d", b"."), link(b"d/e", b"..")) == ["member_path"]


def test_what_lies_beside_a_link_does_not_lead_through_it() -> None:
    assert found(link(b"a", b"b"), *file(b"ab/x", b"text"), *file(b"b/a", b"text")) == []


@pytest.mark.parametrize("kind", [b"3", b"4"])
def test_a_device_is_found(kind: bytes) -> None:
    assert found(tar_header(b"sda", kind=kind)) == ["member_path"]


def test_a_fifo_leads_nowhere() -> None:
    assert found(tar_header(b"pipe", kind=b"6")) == []


@pytest.mark.parametrize(
    "second",
    [
        file(b"disk.vdi", vdi(2 * MIB)),
        file(b"./disk.vdi", b"text"),
        (link(b"disk.vdi", b"other"),),
        (link(b"disk.vdi", b"notes", b"1"),),
    ],
    ids=["disk", "text", "symbolic link", "hard link"],
)
@pytest.mark.parametrize("before", [False, True])
def test_a_second_thing_of_a_disks_name_is_found(second: tuple[bytes | Image, ...], *, before: bool) -> None:
    parts = (*second, *DISK) if before else (*DISK, *second)
    assert "ambiguous_format" in checks(walk(archive(*ELSEWHERE, *parts)))


def test_small_files_may_share_a_name() -> None:
    assert found(*ELSEWHERE, *ELSEWHERE) == []


def test_of_thousands_some_are_told() -> None:
    facts = walk(archive(*(link(b"l%d" % number, b"/etc") for number in range(3000))))
    assert len(facts.findings) == 9
    assert facts.findings[-1].message == "and 2992 more like these"
    assert {finding.severity for finding in facts.findings} == {Severity.CRITICAL}


def test_what_a_name_would_do_on_a_terminal_is_not_done() -> None:
    facts = walk(archive(*file(b"/\x1b[2J\n", vdi(MIB))))
    assert facts.findings[0].message.isprintable()
    assert facts.members[0].name.isprintable()
