"""A VMDK descriptor in free bytes of another format. `qemu -f vmdk` opens the files that it names.

Each carrier is a good image, with a text written into its front. If QEMU is installed, the tests run it:
whenever it opens another file, Keyhole must report the text.
"""

import gzip
import io
import json
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, cloop, dmg, gpt_disk, iso, mbr_disk, qcow2, vdi, vhd_fixed
from keyhole.inspectors import Inspection
from keyhole.inspectors.formats.vmdk.text import STEPS, VMDKTextInspector
from keyhole.inspectors.readers import VMDK_TEXT_BYTES
from tests.inspectors.compression.packed import skippable
from tests.inspectors.feeding import fetch
from tests.inspectors.inspecting import checks_of, facts_of
from tests.inspectors.laws import keeps_the_law
from tests.tools import environment, need

KIB, MIB = 1024, 1024**2
SECRET = "/etc/hostname"


def text(*, extent: str = f'RW 1 FLAT "{SECRET}" 0', end: str = "\n") -> bytes:
    """The shortest possible descriptor."""
    return f'parentCID=ffffffff\ncreateType="vmfs"\n{extent}{end}'.encode()


def in_gzip_name(written: bytes) -> Image:
    packed = gzip.compress(mbr_disk(4 * MIB).to_bytes(), mtime=0x01010101)
    data = packed[:3] + b"\x08" + packed[4:10].replace(b"\0", b"\1") + b"\n" + written + b"\0" + packed[10:]
    return Image.of(len(data), [(0, data)])


def in_tar_name(written: bytes) -> Image:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(written[:99].decode(errors="surrogateescape"))
        member.size = 4
        archive.addfile(member, io.BytesIO(b"test"))
        disk = tarfile.TarInfo("disk.qcow2")
        data = qcow2(MIB, allocated=1).to_bytes()
        disk.size = len(data)
        archive.addfile(disk, io.BytesIO(data))
    return Image.of(len(out.getvalue()), [(0, out.getvalue())])


def ext4(written: bytes) -> Image:
    """The shortest data that libblkid accepts as an ext4 volume, with a text in its first kilobyte."""
    superblock = bytearray(1024)
    struct.pack_into("<II", superblock, 0, 512, 2048)
    struct.pack_into("<I", superblock, 24, 0)
    struct.pack_into("<I", superblock, 32, 8192)
    struct.pack_into("<H", superblock, 56, 0xEF53)
    struct.pack_into("<III", superblock, 92, 0x4, 0x42, 0)
    return Image.of(2 * MIB, [(0, written), (1024, bytes(superblock))])


CARRIERS = {
    "mbr": lambda written: mbr_disk(4 * MIB).patched(0, written),
    "gpt": lambda written: gpt_disk(4 * MIB).patched(0, written),
    "ext4": ext4,
    "iso": lambda written: iso().patched(0, written),
    "fixed vhd": lambda written: vhd_fixed(4 * MIB, content=mbr_disk(4 * MIB)).patched(0, written),
    "dmg": lambda written: dmg(4 * MIB, allocated=1).patched(0, written),
    "gzip": in_gzip_name,
    "tar": in_tar_name,
    "cloop": lambda written: cloop(MIB, allocated=3).patched(23, written),
}
SHORT = b'createType="vmfs"\nRW 1 VMFS "/a"\nCID=1\n'
SPELLINGS = {
    "as it is": text(),
    "behind boot code": b"\xeb\x63\x90\x33\xc0\n" + text(),
    "the type behind the extent": f'RW 1 FLAT "{SECRET}" 0\nparentCID=ffffffff\ncreateType  vmfs"'.encode(),
    "an extent on five lines": text(extent=f'RW\n1\nFLAT\n"{SECRET}"\n0'),
    "white space of all kinds": text(extent=f'\v\fRW\v1\fFLAT\t"{SECRET}"\v0'),
    "indented": text(extent=f'   \t RW 1 FLAT "{SECRET}" 0'),
    "a parent": text(extent=f'parentFileNameHint="{SECRET}"\nRW 1 FLAT "{SECRET}" 0'),
    "a parent alone": text(extent=f'parentFileNameHint="{SECRET}"'),
    "read only": text(extent='RDONLY 1 FLAT "a" 0'),
    "carriage returns": text().replace(b"\n", b"\r\n"),
    "carriage returns alone": text().replace(b"\n", b"\r"),
    "in any case": text().lower(),
}
TITLES = [
    b"# Disk DescriptorFile\n",
    b"#Disk DescriptorFile\n",
    b"# Disk Descriptor File\n",
    b"#disk descriptorfile\n",
]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if len(SPELLINGS[name]) < 100])
def test_a_descriptor_in_front_is_another_format(carrier: str, spelling: str) -> None:
    assert "ambiguous_format" in checks_of(CARRIERS[carrier](SPELLINGS[spelling]))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_carrier_without_a_text_is_in_order(carrier: str) -> None:
    checks = set(checks_of(CARRIERS[carrier](b"" if carrier != "tar" else b"readme")))
    assert checks <= {"size_mismatch"} if carrier == "dmg" else not checks


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_vdi_has_room_for_a_short_one(spelling: str) -> None:
    """The text at the front has seventy bytes before its first NUL. Signature and version follow it."""
    written = SHORT if len(SPELLINGS[spelling]) > 64 else SPELLINGS[spelling]
    assert "ambiguous_format" in checks_of(vdi(4 * MIB, allocated=1).patched(0, written.ljust(64)))


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n", b" \r\n"])
def test_the_customary_first_line_is_a_mark_in_all_its_spellings(title: bytes, mark: bytes) -> None:
    """VirtualBox accepts four spellings, libvmdk all cases. Readers that search bytes ignore NULs."""
    assert "ambiguous_format" in checks_of(mbr_disk(4 * MIB).patched(0, mark + title))


@pytest.mark.parametrize("before", [0, 500, 511, 512, 4000, 4096, 20 * KIB, 32_000])
def test_it_is_found_however_far_back_it_stands(before: int) -> None:
    """A disc has 32 KiB of free bytes at its front."""
    assert "ambiguous_format" in checks_of(iso().patched(0, b"x" * before + b"\n" + text()))


def test_behind_a_nul_nobody_reads_it() -> None:
    assert checks_of(iso().patched(0, b"x\0\n" + text())) == []


def test_it_is_found_within_a_frame_that_zstandard_skips() -> None:
    data = skippable(b"\n" + text() + b"x" * 0x01010101)
    assert facts_of(Image.of(len(data), [(0, data)])).format == "vmdk"


@pytest.mark.parametrize("length", [*STEPS, *(step - 1 for step in STEPS), STEPS[-1] + 1])
def test_alone_it_is_a_vmdk_up_to_the_last_byte_that_a_reader_takes(length: int) -> None:
    facts = facts_of(Image.of(length, [(0, (b"\n" + text()).rjust(length, b"#"))]))
    assert facts.format == "vmdk"
    assert facts.complete


def test_behind_the_last_byte_that_a_reader_takes_nothing_counts() -> None:
    data = b"#" * (VMDK_TEXT_BYTES - 20) + b"\n" + text()
    assert facts_of(Image.of(len(data), [(0, data)])).format is None


@pytest.mark.parametrize(
    "words",
    [
        b"The createType of a VMDK says what it is.\n",
        b"RW 1 FLAT is an extent\n",
        b'parentFileNameHint="a"\n',
        b'a line with createType="vmfs", and an extent within a line: RW 1 FLAT "a" 0\n',
    ],
)
def test_a_text_that_merely_mentions_its_words_is_no_descriptor(words: bytes) -> None:
    assert facts_of(Image.of(len(words), [(0, words)])).format is None
    assert checks_of(mbr_disk(4 * MIB).patched(0, words)) == []


def test_what_is_no_text_costs_no_more_than_its_front() -> None:
    for image in (qcow2(MIB), gpt_disk(4 * MIB), iso()):
        inspection = Inspection()
        inspection.finish(image.size)
        fetch(inspection, image)
        held = {name: held for name, held in inspection.context_info.items() if name.startswith("vmdk:")}
        assert held == {"vmdk:header": 512}


@pytest.mark.parametrize("fill", [b"\n", b" ", b"RW ", b"\nRW", b"\nRW\n", b'createType="x"\n', b"\n \n"])
def test_a_mebibyte_of_anything_is_read_in_linear_time(fill: bytes) -> None:
    image = Image.of(MIB, [(0, (fill * (MIB // len(fill) + 1))[:MIB])])
    assert facts_of(image).complete


@given(st.data())
def test_it_knows_the_same_however_the_bytes_came(data: st.DataObject) -> None:
    images = [CARRIERS[name](text()[:90]) for name in ("mbr", "iso", "gpt")]
    far = b"x" * 5000 + b"\n" + text()
    keeps_the_law(VMDKTextInspector, [*images, iso().patched(0, far), iso().patched(0, far[:5000])], data)


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_qemu_opens_is_never_without_the_finding(tmp_path: Path, carrier: str, spelling: str) -> None:
    need("qemu-img")
    if len(SPELLINGS[spelling]) >= 100 and carrier in {"tar", "cloop"}:
        return
    image = CARRIERS[carrier](SPELLINGS[spelling])
    path = image.write_to(tmp_path / "image")
    asked = subprocess.run(
        ["qemu-img", "info", "-U", "-f", "vmdk", "--output=json", path],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    opened = asked.returncode == 0 and SECRET in json.dumps(json.loads(asked.stdout))
    assert "ambiguous_format" in checks_of(image) or not opened
