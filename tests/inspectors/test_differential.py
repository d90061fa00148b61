"""Keyhole and `qemu-img info` agree about all images that qemu-img creates: format, sizes, and references."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyhole.builders import (
    Image,
    asif,
    dmg,
    ewf,
    guest_disk,
    iso,
    mbr_disk,
    sparseimage,
    vhd_dynamic,
    vhd_fixed,
    vhd_geometry,
)
from keyhole.builders.image import round_up
from keyhole.inspectors import Facts, FileInspector
from keyhole.inspectors.formats.bochs import BochsInspector
from keyhole.inspectors.formats.cloop import CloopInspector
from keyhole.inspectors.formats.parallels import ParallelsInspector
from keyhole.inspectors.formats.qcow1 import QcowV1Inspector
from keyhole.inspectors.formats.qcow2.inspector import QcowInspector
from keyhole.inspectors.formats.qed import QEDInspector
from keyhole.inspectors.formats.vdi import VDIInspector
from keyhole.inspectors.formats.vhdx.inspector import VHDXInspector
from keyhole.reasons import Status
from keyhole.scan.policy import judge
from tests.conftest import QemuImg
from tests.examples import EXAMPLES
from tests.inspectors import one_inspector
from tests.inspectors.inspecting import facts_of
from tests.inspectors.one_inspector import image_of
from tests.inspectors.oracles import ORACLE_EXCEPTIONS

KIB, MIB = 1024, 1024**2
#: Formats of which qemu opens the examples, with qemu's names.
QEMU_NAMES: dict[type[FileInspector], str] = {
    QcowV1Inspector: "qcow",
    QEDInspector: "qed",
    ParallelsInspector: "parallels",
    BochsInspector: "bochs",
    CloopInspector: "cloop",
    QcowInspector: "qcow2",
    VDIInspector: "vdi",
    VHDXInspector: "vhdx",
}
#: Examples that qemu does not open, because they are parts of a disk and need another file.
QEMU_REFUSES = {"bochs undoable", "bochs volatile", "vdi differencing", "vhdx, parent"}
#: Keyhole's names for formats with another name in qemu.
KEYHOLE_NAMES = {"vpc": "vhd"}
SECRET = ("--object", "secret,id=k,data=secret")
IMAGE = "image"
GUEST_SIZE = 6 * MIB


@dataclass(frozen=True)
class Case:
    """An image that qemu-img makes: its format and options, the command, and the expected findings.

    `how` is `create`, or `convert` for a disk with some data. `then` are further commands on the image.
    """

    kind: str
    options: str = ""
    how: str = "create"
    size: str = "7M"
    found: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """The name of the case in pytest's list."""
        more = [" ".join(command[:2]) for command in self.then]
        return ",".join(
            part for part in (self.kind, self.how, self.size, self.options, *self.flags, *more) if part
        )

    def make(self, qemu_img: QemuImg) -> Path:
        """Run the commands, and return the image's path."""
        options = ("-o", self.options) if self.options else ()
        secret = SECRET if "key-secret" in self.options else ()
        path = qemu_img.folder / IMAGE
        if self.how == "create":
            given = ("create", "-q", *secret, "-f", self.kind, *options, *self.flags, path, self.size)
        else:
            given = (
                "convert",
                *secret,
                "-f",
                "raw",
                "-O",
                self.kind,
                *options,
                *self.flags,
                "guest.raw",
                path,
            )
        qemu_img.run(*given)
        for command in self.then:
            qemu_img.run(*command)
        return path


def each(kind: str, options: list[str], **more: Any) -> list[Case]:
    return [Case(kind, option, **more) for option in options]


CLUSTERS = [f"cluster_size={size}" for size in (512, "1k", "4k", "32k", "64k", "256k", "1M", "2M")]
ENCRYPTED = ("encrypted",)
QCOW2 = [
    *each("qcow2", ["compat=0.10", "compat=1.1", *CLUSTERS]),
    *each("qcow2", ["compat=0.10", *CLUSTERS], how="convert"),
    *each("qcow2", CLUSTERS[1:], size="2057M"),
    *each("qcow2", [f"refcount_bits={1 << order}" for order in range(7)], how="convert"),
    *each("qcow2", ["extended_l2=on", "extended_l2=on,cluster_size=16k", "lazy_refcounts=on"], how="convert"),
    *each("qcow2", ["compression_type=zstd", "compression_type=zlib"], how="convert"),
    *each("qcow2", ["compression_type=zstd", "compat=0.10", *CLUSTERS], how="convert", flags=("-c",)),
    *each("qcow2", [f"preallocation={mode}" for mode in ("off", "metadata", "falloc", "full")]),
    *each("qcow2", ["data_file=d.raw", "data_file=d.raw,data_file_raw=on"], found=("data_file",)),
    *each("qcow2", ["data_file=d.raw"], how="convert", found=("data_file",)),
    *each(
        "qcow2",
        ["backing_file=guest.raw,backing_fmt=raw", "backing_file=guest.raw,backing_fmt=raw,compat=0.10"],
        found=("backing_file",),
    ),
    *each(
        "qcow2",
        [
            "encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=k,cluster_size=4k",
            "encrypt.format=aes,encrypt.key-secret=k",
        ],
        found=ENCRYPTED,
    ),
    Case("qcow2", "extent_size_hint=1M,nocow=off"),
    Case("qcow2", size="0"),
    Case("qcow2", size="512"),
    Case("qcow2", size="64T"),
    Case("qcow2", "extended_l2=on", size="1T"),
    Case("qcow2", how="convert", found=("snapshots",), then=(("snapshot", "-c", "one", IMAGE),)),
    Case("qcow2", then=(("bitmap", "--add", IMAGE, "one"),)),
    Case("qcow2", how="convert", then=(("resize", "-q", IMAGE, "+1G"),)),
    Case("qcow2", how="convert", then=(("resize", "-q", "--shrink", IMAGE, "1M"),)),
    Case("qcow2", how="convert", then=(("amend", "-f", "qcow2", "-o", "compat=0.10", IMAGE),)),
    Case(
        "qcow2",
        "backing_file=guest.raw,backing_fmt=raw",
        then=(("rebase", "-f", "qcow2", "-u", "-b", "", IMAGE),),
    ),
]
VHD_OPTIONS = ["subformat=dynamic", "subformat=dynamic,force_size=on"]
FIXED_VHD_OPTIONS = ["subformat=fixed", "subformat=fixed,force_size=on"]
VHD = [
    *each("vpc", [*VHD_OPTIONS, *FIXED_VHD_OPTIONS]),
    *each("vpc", VHD_OPTIONS, size="2057M"),
    *each("vpc", VHD_OPTIONS, size="2040G"),
    *each("vpc", [VHD_OPTIONS[1], FIXED_VHD_OPTIONS[1]], how="convert"),
]
VHDX = [
    *each("vhdx", ["subformat=dynamic", "subformat=fixed", "block_state_zero=off", "log_size=4M"]),
    *each("vhdx", [f"block_size={size}M" for size in (1, 8, 32, 256)], size="2057M"),
    *each("vhdx", ["subformat=dynamic,block_size=1M", "subformat=fixed", "log_size=2M"], how="convert"),
    Case("vhdx", size="64T"),
]
VMDK = [
    *each("vmdk", ["subformat=monolithicSparse", "subformat=streamOptimized", "zeroed_grain=on"]),
    *each("vmdk", [f"adapter_type={kind}" for kind in ("ide", "lsilogic", "buslogic", "legacyESX")]),
    *each("vmdk", ["hwversion=11", "compat6=on", "toolsversion=2147483647"]),
    *each("vmdk", ["subformat=monolithicSparse", "subformat=streamOptimized"], size="2057M"),
    *each(
        "vmdk", ["subformat=monolithicSparse", "subformat=streamOptimized", "zeroed_grain=on"], how="convert"
    ),
    *each("vmdk", ["subformat=monolithicSparse", "subformat=streamOptimized"], size="128G"),
    Case("vmdk", found=("parent_image",), flags=("-b", "base.vmdk", "-F", "vmdk")),
]
# The content of these images is in other files. Keyhole inspects only the text.
VMDK_TEXTS = [
    Case("vmdk", "subformat=monolithicFlat", found=("extent_path",)),
    Case("vmdk", "subformat=twoGbMaxExtentFlat", size="2057M", found=("extent_path",) * 2),
    Case("vmdk", "subformat=twoGbMaxExtentSparse", size="2057M", found=("extent_path",) * 2),
    Case("vmdk", "subformat=twoGbMaxExtentSparse", how="convert", found=("extent_path",)),
]
OTHERS = [
    *each("vdi", ["static=off", "static=on"]),
    *each("vdi", ["static=off", "static=on"], how="convert"),
    Case("vdi", size="2057M"),
    Case("vdi", size="1T"),
    *each("qed", ["", "cluster_size=4k", "cluster_size=1M", "table_size=2", "cluster_size=4k,table_size=16"]),
    *each("qed", ["", "cluster_size=4k,table_size=2"], how="convert"),
    Case("qed", "backing_file=guest.raw,backing_fmt=raw", found=("backing_file",)),
    Case("qed", size="1T"),
    *each("qcow", [""], size="7M"),
    *each("qcow", [""], how="convert"),
    Case("qcow", "backing_file=guest.raw", found=("backing_file",), flags=("-F", "raw")),
    Case("qcow", "encrypt.format=aes,encrypt.key-secret=k", found=ENCRYPTED),
    *each("parallels", ["", "cluster_size=64k", "cluster_size=4k"]),
    *each("parallels", ["", "cluster_size=64k"], how="convert"),
    Case("parallels", size="1T"),
    Case("luks", "key-secret=k,iter-time=10", found=ENCRYPTED),
    Case(
        "luks",
        "key-secret=k,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=plain64",
        how="convert",
        found=ENCRYPTED,
    ),
]
CASES = [*QCOW2, *VHD, *VHDX, *VMDK, *VMDK_TEXTS, *OTHERS]


@pytest.fixture(scope="module")
def guest() -> Image:
    """A disk with a partition table, data, and a little incompressible noise."""
    disk = guest_disk(GUEST_SIZE, block_size=64 * KIB, allocated=(1, 5, 70, 95))
    noise = random.Random(7).randbytes(8 * KIB)  # noqa: S311 - the same bytes in every run, not a secret
    return disk.patched(3 * MIB, noise).patched(0, mbr_disk(GUEST_SIZE, [(0x83, 128, 1000)]).read(0, 512))


def inspected(path: Path) -> Facts:
    return facts_of(image_of(path))


def by_qemu(info: dict[str, Any]) -> dict[str, Any]:
    """qemu's result, with Keyhole's names."""
    named = {
        "backing_file": info.get("backing-filename"),
        "data_file": info.get("format-specific", {}).get("data", {}).get("data-file"),
    }
    return {
        "format": KEYHOLE_NAMES.get(info["format"], info["format"]),
        "virtual_size": info["virtual-size"] or None,
        **{name: value for name, value in named.items() if value},
    }


def by_keyhole(facts: Facts) -> dict[str, Any]:
    details = facts.details
    named = {
        "backing_file": details.get("backing_file", details.get("parent_file_name_hint")),
        "data_file": details.get("data_file"),
    }
    return {
        "format": facts.format,
        "virtual_size": facts.virtual_size,
        **{name: value for name, value in named.items() if value},
    }


@pytest.mark.qemu
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if "iter-time" in case.name else [])
        for case in CASES
    ],
)
def test_keyhole_and_qemu_say_the_same(qemu_img: QemuImg, guest: Image, case: Case) -> None:
    guest.write_to(qemu_img.folder / "guest.raw")
    if "base.vmdk" in case.flags:
        qemu_img.run("create", "-q", "-f", "vmdk", "base.vmdk", case.size)
    path = case.make(qemu_img)
    expected = by_qemu(qemu_img(path))
    if case.kind == "vpc" and "fixed" in case.options:
        assert expected["format"] == "raw", ORACLE_EXCEPTIONS["fixed VHD"]
        expected = {"format": "vhd", "virtual_size": expected["virtual_size"] - 512}

    facts = inspected(path)

    assert by_keyhole(facts) == expected
    assert tuple(finding.check for finding in facts.findings) == case.found
    status, _ = judge(facts)
    assert (status is Status.SAFE) == (set(case.found) <= {"snapshots"} and case.size != "0")
    assert (status is Status.INCONCLUSIVE) == (case.size == "0")


@pytest.mark.qemu
@pytest.mark.parametrize(
    "name",
    [one.name for one in EXAMPLES.values() if one.inspector in QEMU_NAMES and one.name not in QEMU_REFUSES],
)
def test_qemu_reads_the_same_size_in_every_example(qemu_img: QemuImg, name: str) -> None:
    example = EXAMPLES[name]
    for image in example.images:
        path = image.write_to(qemu_img.folder / IMAGE)
        info = qemu_img(path, QEMU_NAMES[example.inspector])
        assert info["virtual-size"] == one_inspector.inspected(example.inspector, image).virtual_size


@pytest.mark.qemu
def test_an_extent_of_a_split_disk_is_no_disk(qemu_img: QemuImg) -> None:
    """The extent has a sparse header and no descriptor. qemu does not open it either."""
    qemu_img.run("create", "-q", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", IMAGE, "7M")
    facts = inspected(qemu_img.folder / f"{IMAGE}-s001")
    assert facts.format == "vmdk"
    assert judge(facts) == (Status.REJECTED, ("unsupported_subformat",))


AZURE = vhd_dynamic(513 * MIB, creator=b"wa\0\0", allocated=3)
CYLINDERS, HEADS, PER_TRACK = vhd_geometry(513 * MIB // 512)
#: For each exception: an image, qemu's possible results, and Keyhole's result.
OTHERWISE: dict[str, tuple[Image, list[tuple[str, int]], tuple[str, int]]] = {
    "fixed VHD": (vhd_fixed(7 * MIB), [("raw", 7 * MIB + 512)], ("vhd", 7 * MIB)),
    "raw sizes": (mbr_disk(7 * MIB).appended(b"x"), [("raw", 7 * MIB + 512)], ("raw", 7 * MIB + 1)),
    "VHD of Azure": (
        AZURE,
        [("vpc", CYLINDERS * HEADS * PER_TRACK * 512), ("vpc", 513 * MIB)],
        ("vhd", 513 * MIB),
    ),
    "no such format": (ewf(MIB), [("raw", round_up(ewf(MIB).size, 512))], ("ewf", MIB)),
    "DMG": (
        dmg(4 * MIB, allocated=1),
        [("raw", round_up(dmg(4 * MIB, allocated=1).size, 512))],
        ("dmg", 4 * MIB),
    ),
}


@pytest.mark.qemu
@pytest.mark.parametrize("name", OTHERWISE)
def test_the_oracle_says_otherwise_where_it_is_said_to(qemu_img: QemuImg, name: str) -> None:
    image, said, meant = OTHERWISE[name]
    path = image.write_to(qemu_img.folder / IMAGE)
    info = qemu_img(path)
    assert (info["format"], info["virtual-size"]) in said, ORACLE_EXCEPTIONS[name]
    facts = inspected(path)
    assert (facts.format, facts.virtual_size) == meant


@pytest.mark.qemu
@pytest.mark.parametrize("image", [iso(), sparseimage(4 * MIB, allocated=1), asif(4 * MIB, allocated=1)])
def test_the_oracle_calls_what_it_does_not_know_raw(qemu_img: QemuImg, image: Image) -> None:
    path = image.write_to(qemu_img.folder / IMAGE)
    assert qemu_img(path)["format"] == "raw", ORACLE_EXCEPTIONS["no such format"]
    assert inspected(path).format in {"iso", "sparseimage", "asif"}


@pytest.mark.qemu
def test_a_qed_with_tables_of_one_cluster_is_whole_though_qemu_does_not_open_it(qemu_img: QemuImg) -> None:
    path = Case("qed", "table_size=1").make(qemu_img)
    with pytest.raises(AssertionError, match="QED table offset is invalid"):
        qemu_img(path, "qed")
    facts = inspected(path)
    reason = ORACLE_EXCEPTIONS["QED with tables of one cluster"]
    assert (facts.virtual_size, judge(facts)[0]) == (7 * MIB, Status.SAFE), reason


def test_every_exception_is_an_image() -> None:
    assert {*OTHERWISE, "QED with tables of one cluster"} == set(ORACLE_EXCEPTIONS)
