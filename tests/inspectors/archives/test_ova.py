"""OVAs: the files and disks in the descriptor must match the archive's content."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, OVADisk, ova, ovf, qcow2, tar, vhd_dynamic, vmdk_stream_optimized
from keyhole.inspectors import Facts, Severity, Wholeness
from keyhole.inspectors.archives.ova import OVAInspector
from keyhole.inspectors.archives.ovf.appliance import MAX_OVF
from keyhole.inspectors.archives.ovf.descriptor import MAX_ENTRIES, OVFError, parse
from tests.inspectors.archives.walking import walk
from tests.inspectors.inspecting import facts_of
from tests.inspectors.laws import keeps_the_law, mutated

KIB, MIB, GIB = 1024, 1024**2, 1024**3
VMDK = vmdk_stream_optimized(2 * GIB, allocated=3)
DISKS = [OVADisk("disk1.vmdk", VMDK, 2 * GIB), OVADisk("disk2.vmdk", VMDK, 2 * GIB)]
ONE = DISKS[:1]
TEXT = ovf(ONE)


def text(data: str) -> Image:
    return Image.of(len(data.encode()), [(0, data.encode())])


def checks(facts: Facts) -> list[str]:
    return [finding.check for finding in facts.findings]


def severities(facts: Facts) -> list[tuple[str, Severity]]:
    return [(finding.check, finding.severity) for finding in facts.findings]


def changed(before: str, after: str) -> Facts:
    """The facts about an OVA of one disk with a changed descriptor."""
    assert before in TEXT
    return walk(ova(ONE, descriptor=TEXT.replace(before, after)))


# Good appliances


def test_the_disks_of_an_ova_are_its_members() -> None:
    facts = walk(ova(DISKS))
    assert (facts.format, facts.findings, facts.wholeness) == ("ova", (), Wholeness.PROVEN)
    assert facts.details == {"disks": 2, "other_files": 1}
    assert facts.virtual_size == 4 * GIB
    assert [(member.name, member.facts) for member in facts.members] == [
        ("disk1.vmdk", facts_of(VMDK)),
        ("disk2.vmdk", facts_of(VMDK)),
    ]


@pytest.mark.parametrize(
    "namespace",
    [
        'xmlns="http://schemas.dmtf.org/ovf/envelope/2" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2"',
        'xmlns:ovf="http://www.vmware.com/schema/ovf/1/envelope"',
    ],
)
def test_the_versions_of_ovf_are_read_alike(namespace: str) -> None:
    envelope = TEXT.index("<Envelope") + len("<Envelope ")
    other = TEXT[:envelope] + namespace + TEXT[TEXT.index(">", envelope) :]
    facts = walk(ova(ONE, descriptor=other))
    assert (facts.findings, facts.details["disks"]) == ((), 1)


def test_a_descriptor_without_any_namespace_is_read() -> None:
    start = TEXT.index(" xmlns=")
    bare = (TEXT[:start] + TEXT[TEXT.index(">", start) :]).replace("ovf:", "")
    facts = walk(ova(ONE, descriptor=bare))
    assert (facts.findings, facts.details["disks"]) == ((), 1)


@pytest.mark.parametrize(
    ("capacity", "units"),
    [
        (2, "byte * 2^30"),
        (2048, "byte * 2^20"),
        (2, "byte*1024*1024*1024"),
        (2 * 2**20, "KiloBytes"),
        (2048, "MegaBytes"),
        (2 * GIB, "byte"),
    ],
)
def test_a_capacity_is_a_number_of_units(capacity: int, units: str) -> None:
    stated = f'ovf:capacity="{2 * GIB}" ovf:capacityAllocationUnits="byte"'
    assert checks(changed(stated, f'ovf:capacity="{capacity}" ovf:capacityAllocationUnits="{units}"')) == []
    wrong = f'ovf:capacity="{capacity * 2}" ovf:capacityAllocationUnits="{units}"'
    assert checks(changed(stated, wrong)) == ["size_mismatch"]


@pytest.mark.parametrize("units", ["furlongs", "byte * 2^99999", "byte ^ 2", "byte * 0", ""])
def test_a_capacity_in_unknown_units_is_unknown(units: str) -> None:
    assert checks(changed('Units="byte"', f'Units="{units}"')) == []


def test_a_capacity_may_be_rounded_to_its_unit() -> None:
    disk = OVADisk("disk.vmdk", vmdk_stream_optimized(2 * GIB - MIB), 0)
    stated = ovf([disk]).replace('capacity="0"', 'capacity="2"').replace('"byte"', '"byte * 2^30"')
    assert checks(walk(ova([disk], descriptor=stated))) == []


def test_a_capacity_may_be_a_property() -> None:
    section = '<ProductSection><Property ovf:key="size" ovf:value="{}"/></ProductSection></Envelope>'
    stated = TEXT.replace(f'capacity="{2 * GIB}"', 'capacity="${size}"')
    for value, found in ((2 * GIB, []), (3 * GIB, ["size_mismatch"]), ("", [])):
        other = stated.replace("</Envelope>", section.format(value))
        assert checks(walk(ova(ONE, descriptor=other))) == found


def test_a_disk_without_a_file_is_made_with_the_machine() -> None:
    facts = changed("</DiskSection>", '<Disk ovf:diskId="new" ovf:capacity="9"/></DiskSection>')
    assert (facts.findings, facts.details["disks"]) == ((), 1)


def test_a_disk_that_the_descriptor_does_not_call_vmdk_may_be_another() -> None:
    disk = OVADisk("disk.vhd", vhd_dynamic(GIB, allocated=3), GIB)
    other = ovf([disk]).replace("vmdk.html#streamOptimized", "other")
    assert checks(walk(ova([disk], descriptor=other))) == []


def test_a_reference_is_a_uri() -> None:
    disk = OVADisk("my disk.vmdk", VMDK, 2 * GIB)
    assert checks(walk(ova([disk]))) == []
    assert checks(walk(ova([disk], descriptor=ovf([disk]).replace("my disk", "my%20disk")))) == []


def test_a_descriptor_need_not_come_first_but_that_is_noted() -> None:
    facts = walk(tar([("disk1.vmdk", VMDK), ("sample.OVF", text(TEXT))]))
    assert facts.format == "ova"
    assert severities(facts) == [("ovf_reference", Severity.INFO)]
    assert facts.wholeness is Wholeness.PROVEN


def test_an_ova_without_its_end_is_whole_if_all_is_there_that_is_named() -> None:
    image = ova(DISKS)
    end = max(at + len(data) for at, data in image.pieces)
    facts = walk(image.truncated(-(-end // 512) * 512))
    assert (facts.findings, facts.wholeness) == ((), Wholeness.PROVEN)


def test_a_file_that_the_descriptor_takes_for_a_disk_is_a_member_however_small() -> None:
    disks = [*DISKS, OVADisk("disk3.vmdk", text("no disk at all"), GIB)]
    facts = walk(ova(disks))
    assert [(member.name, member.facts.format) for member in facts.members][2:] == [("disk3.vmdk", None)]
    assert facts.members[2].size == len("no disk at all")
    assert facts.details["other_files"] == 1


# Contradictions


def test_a_file_that_is_not_there_is_found() -> None:
    assert severities(changed('href="disk1.vmdk"', 'href="disk9.vmdk"')) == [
        ("ovf_reference", Severity.ERROR)
    ]


def test_a_link_is_no_file() -> None:
    facts = walk(ova([*DISKS, OVADisk("disk3.vmdk", "disk1.vmdk", GIB)]))
    assert severities(facts) == [("ovf_reference", Severity.ERROR)]


@pytest.mark.parametrize(
    "href",
    [
        "/etc/shadow",
        "../disk1.vmdk",
        "a/../../disk1.vmdk",
        "%2e%2e/disk1.vmdk",
        "%2Fetc/shadow",
        "file:///etc/shadow",
        "http://10.0.0.1/disk.vmdk",
        "C:\\disk.vmdk",
        "..\\disk.vmdk",
        "a%00b",
        "json:{}",
    ],
)
def test_a_reference_that_leads_outside_is_critical(href: str) -> None:
    facts = changed('href="disk1.vmdk"', f'href="{href}"')
    assert severities(facts) == [("ovf_reference", Severity.CRITICAL)]


def test_a_disk_of_a_file_that_is_not_referred_to_is_found() -> None:
    assert checks(changed('fileRef="file1"', 'fileRef="file7"')) == ["ovf_reference"]


def test_another_size_of_a_file_is_found() -> None:
    assert checks(changed(f'size="{VMDK.size}"', 'size="4096"')) == ["size_mismatch"]


def test_a_disk_of_another_format_is_found() -> None:
    assert checks(walk(ova([OVADisk("disk1.vmdk", qcow2(GIB), GIB)]))) == ["format_mismatch"]


def test_a_difference_to_another_disk_is_found() -> None:
    assert checks(changed("ovf:fileRef=", 'ovf:parentRef="base" ovf:fileRef=')) == ["parent_image"]


@pytest.mark.parametrize("compression", ["bzip2", "GZIP", "xz"])
def test_another_compression_than_gzip_is_not_decided(compression: str) -> None:
    """virt-v2v accepts only "gzip" and "identity", in lower case."""
    attribute = f'ovf:compression="{compression}" '
    assert checks(changed("<File ", f"<File {attribute}")) == ["unsupported_subformat"]


def test_two_descriptors_are_two_machines() -> None:
    other = OVADisk("other.ovf", text(TEXT), 0)
    assert checks(walk(ova([*ONE, other], descriptor=TEXT))) == ["ambiguous_format"]
    nested = OVADisk("a/other.ovf", text(TEXT), 0)
    assert checks(walk(ova([*ONE, nested], descriptor=TEXT))) == ["ambiguous_format"]


def test_two_files_of_one_id_are_two_machines() -> None:
    double = '<File ovf:id="file1" ovf:href="disk1.vmdk"/></References>'
    assert checks(changed("</References>", double)) == ["ambiguous_format"]


def test_two_readings_of_one_reference_are_two_machines() -> None:
    disks = [OVADisk("a%20b.vmdk", VMDK, 2 * GIB), OVADisk("a b.vmdk", VMDK, 2 * GIB)]
    assert checks(walk(ova(disks))) == ["ambiguous_format"]


def test_of_a_cut_ova_no_file_is_called_missing() -> None:
    assert checks(walk(ova(DISKS).truncated(100 * KIB))) == ["truncated"]


# Descriptors


@pytest.mark.parametrize(
    "descriptor",
    [
        "",
        "no XML",
        "<Envelope>",
        "<Envelope/><Envelope/>",
        "<html/>",
        "<Envelope><a b='1' b='2'/></Envelope>",
        "<Envelope>\0</Envelope>",
        "<Envelope>&nothing;</Envelope>",
        "\ufeff\ufeff<Envelope/>",
    ],
)
def test_a_descriptor_that_is_none_is_a_contradiction(descriptor: str) -> None:
    facts = walk(ova(ONE, descriptor=descriptor))
    assert (facts.format, checks(facts)) == ("ova", ["structure"])


@pytest.mark.parametrize(
    "prologue",
    [
        "<!DOCTYPE Envelope>",
        '<!DOCTYPE Envelope SYSTEM "file:///etc/shadow">',
        '<!DOCTYPE Envelope [<!ENTITY x SYSTEM "file:///etc/shadow">]>',
        '<!DOCTYPE Envelope [<!ENTITY % x SYSTEM "http://10.0.0.1/x.dtd"> %x;]>',
        '<!DOCTYPE Envelope [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
    ],
)
def test_a_descriptor_that_declares_something_is_critical(prologue: str) -> None:
    facts = walk(ova(ONE, descriptor=f"{prologue}<Envelope>&x;</Envelope>"))
    assert severities(facts) == [("ovf_reference", Severity.CRITICAL)]


def test_an_attribute_that_is_there_twice_by_two_namespaces_is_critical() -> None:
    facts = changed("<File ", '<File xmlns:o="urn:other" o:href="disk9.vmdk" ')
    assert severities(facts) == [("ovf_reference", Severity.CRITICAL)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "ascii"])
def test_a_descriptor_may_be_encoded_as_xml_may(encoding: str) -> None:
    stated = TEXT.replace("UTF-8", "UTF-16" if encoding == "utf-16" else "UTF-8")
    assert [file.href for file in parse(stated.encode(encoding)).files] == ["disk1.vmdk"]


def test_a_long_descriptor_is_not_read() -> None:
    padded = TEXT + "<!--" + "x" * MAX_OVF + "-->"
    assert checks(walk(ova(ONE, descriptor=padded))) == ["unsupported_subformat"]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["<a>", "<a/>", '<a b="c"/>', "<!-- -->", "text ", "<a xmlns:b='c'/>"])
def test_a_mebibyte_of_anything_is_read_in_linear_time(piece: str) -> None:
    """A reader that takes quadratic time, or builds a tree as deep as the text, would not finish."""
    body = piece * (MAX_OVF // len(piece) - 100)
    closing = "</a>" * (body.count("<a>")) if piece == "<a>" else ""
    assert parse(f"<Envelope>{body}{closing}</Envelope>".encode()).files == ()


@pytest.mark.parametrize("piece", ["<File/>", "<Disk/>"])
def test_more_files_than_are_read_are_refused(piece: str) -> None:
    section = "References" if piece == "<File/>" else "DiskSection"
    with pytest.raises(OVFError, match=str(MAX_ENTRIES)):
        parse(f"<Envelope><{section}>{piece * (MAX_ENTRIES + 1)}</{section}></Envelope>".encode())


def test_of_a_thousand_contradictions_some_are_told() -> None:
    files = "".join(f'<File ovf:id="{number}" ovf:href="{number}"/>' for number in range(900))
    facts = changed("</References>", f"{files}</References>")
    assert len(facts.findings) == 9
    assert facts.findings[-1].message == "and 892 more like these"


@given(st.binary(max_size=300), st.integers(0, len(TEXT)))
def test_any_descriptor_is_read_or_refused(noise: bytes, at: int) -> None:
    for data in (noise, TEXT.encode()[:at] + noise + TEXT.encode()[at + len(noise) :]):
        try:
            parse(data)
        except OVFError as error:
            assert str(error)  # noqa: PT017 - a refusal is correct too


# Laws

SMALL = [OVADisk("disk1.vmdk", vmdk_stream_optimized(2 * MIB, allocated=3), 2 * MIB)]


@given(data=st.data())
def test_an_ova_is_known_the_same_however_the_bytes_came(data: st.DataObject) -> None:
    last = tar([("disk1.vmdk", SMALL[0].content), ("sample.ovf", text(ovf(SMALL)))])
    keeps_the_law(OVAInspector, [ova(SMALL), last], data)


@pytest.mark.slow
def test_a_mutated_ova_breaks_nothing() -> None:
    choose = Random("ova")  # noqa: S311 - to choose mutations, the same in every run
    for _ in range(400):
        facts = walk(mutated(ova(SMALL), choose))
        assert len(facts.findings) < 100
        assert all(len(one.message) < 2048 and one.message.isprintable() for one in facts.findings)
