"""LUKS: the finding of each check, for bad volumes and similar good volumes, also by cryptsetup."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import Image, luks, luks2
from keyhole.builders.luks import PAYLOAD_OFFSET, PAYLOAD_SECTOR, luks2_header, luks2_metadata
from keyhole.inspectors import Wholeness
from keyhole.inspectors.formats.luks.inspector import LUKSInspector
from keyhole.inspectors.formats.luks.metadata import parse
from tests.inspectors.one_inspector import KIB, MIB, checks_of, image_of, inspected, run_tool

#: Keys that exist in the metadata, to derive others from.
KEYS = ["segments", "keyslots", "config", "0", "area", "offset", "size", "requirements", "mandatory"]
TOO_MANY = "the LUKS2 metadata have more values than any volume needs"
PAYLOAD_1 = PAYLOAD_SECTOR * 512


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def with_metadata(path: str, value: object) -> Image:
    """A LUKS2 with another value at a path of keys in its metadata, and with the right checksums."""
    metadata: Any = json.loads(json.dumps(luks2_metadata()))
    *parents, last = path.split(".")
    place = metadata
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return luks2(MIB, metadata=metadata)


def with_text(text: bytes, header_size: int = 16 * KIB) -> Image:
    """A LUKS2 with these bytes as metadata, and with the right checksums."""
    image = luks2(MIB, header_size=header_size)
    for at, magic in ((0, b"LUKS\xba\xbe"), (header_size, b"SKUL\xba\xbe")):
        image = image.patched(at, luks2_header(magic, at, header_size, text))
    return image


def with_header(at: int, change: bytes) -> Image:
    """A LUKS2 with a changed first header, and with the right checksum."""
    header = bytearray(luks2(MIB).read(0, 16 * KIB))
    header[at : at + len(change)] = change
    header[448:512] = bytes(64)
    header[448:480] = hashlib.sha256(header).digest()
    return luks2(MIB).patched(0, bytes(header))


def made_by_cryptsetup(path: Path, size: int, kind: str, *options: str | Path) -> Image:
    """A volume that cryptsetup made in a file of `size` bytes, with fast key derivation."""
    with path.open("wb") as file:
        file.truncate(size)
    fast = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
    command = ("cryptsetup", "luksFormat", "--batch-mode", "--type", kind, *fast, *options)
    run_tool("cryptsetup-bin", *command, path, "-", stdin=b"a passphrase")
    return image_of(path)


# Good volumes


def test_a_luks1_has_what_lies_behind_its_header() -> None:
    inspector = inspected(LUKSInspector, luks(7 * MIB))
    assert (str(inspector), inspector.subformat, inspector.virtual_size) == ("luks", "luks1", 7 * MIB)
    assert inspector.content == ("crypto_LUKS",)
    assert [finding.check for finding in inspector.checks()] == ["encrypted"]
    assert inspector.wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("header_size", [16 * KIB, 64 * KIB, 256 * KIB])
def test_a_luks2_has_what_its_segment_says(header_size: int) -> None:
    inspector = inspected(LUKSInspector, luks2(7 * MIB, header_size=header_size))
    assert (inspector.subformat, inspector.virtual_size) == ("luks2", 7 * MIB)
    assert inspector.content == ("crypto_LUKS",)
    assert [finding.check for finding in inspector.checks()] == ["encrypted"]
    assert inspector.wholeness is Wholeness.UNCHECKED


def test_a_luks2_that_states_its_size_is_proven() -> None:
    image = luks2(7 * MIB, fixed_size=True)
    assert inspected(LUKSInspector, image).wholeness is Wholeness.PROVEN
    longer = inspected(LUKSInspector, image.appended(bytes(4096)))
    assert (longer.virtual_size, longer.wholeness) == (7 * MIB, Wholeness.PROVEN)
    shorter = inspected(LUKSInspector, image.truncated(image.size - 1))
    assert shorter.wholeness is Wholeness.UNCHECKED
    assert "truncated" in [finding.check for finding in shorter.checks()]


@pytest.mark.parametrize(
    "image", [luks(MIB), luks2(MIB), luks2(MIB, fixed_size=True), luks2(MIB, header_size=MIB)]
)
def test_cryptsetup_reads_what_the_builder_wrote(image: Image, tmp_path: Path) -> None:
    dump = run_tool("cryptsetup-bin", "cryptsetup", "luksDump", image.write_to(tmp_path / "volume"))
    assert "aes" in dump


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("luks1", ()),
        ("luks1", ("--cipher", "aes-xts-plain64", "--key-size", "256")),
        ("luks1", ("--align-payload", "8192")),
        ("luks2", ()),
        ("luks2", ("--sector-size", "4096", "--label", "a label")),
        ("luks2", ("--luks2-metadata-size", "128k", "--luks2-keyslots-size", "2m")),
        ("luks2", ("--offset", "65536")),
    ],
)
def test_what_cryptsetup_makes_has_its_size_and_no_findings(
    kind: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    image = made_by_cryptsetup(tmp_path / "volume", 40 * MIB, kind, *options)
    inspector = inspected(LUKSInspector, image)
    dump = run_tool("cryptsetup-bin", "cryptsetup", "luksDump", tmp_path / "volume")
    assert inspector.details()["uuid"] in dump.split()
    offset = int(dump.split("Payload offset:")[1].split()[0]) * 512 if kind == "luks1" else None
    offset = offset or int(dump.split("offset:")[1].split()[0])
    assert inspector.subformat == kind
    assert inspector.virtual_size == 40 * MIB - offset
    assert [finding.check for finding in inspector.checks()] == ["encrypted"]
    assert inspector.details()["key_slots"] == 1


@pytest.mark.parametrize("kind", ["luks1", "luks2"])
def test_a_header_alone_leads_to_another_file(kind: str, tmp_path: Path) -> None:
    made_by_cryptsetup(tmp_path / "volume", 20 * MIB, kind, "--header", tmp_path / "header")
    inspector = inspected(LUKSInspector, image_of(tmp_path / "header"))
    assert [finding.check for finding in inspector.checks()] == ["encrypted", "data_file"]
    assert inspector.virtual_size == 0


# Cuts


def test_every_cut_before_the_payload_is_noticed() -> None:
    """No field states the length of the payload itself."""
    for size in [7, 8, 591, 592, 4096, *range(5000, PAYLOAD_1, 90_000), PAYLOAD_1]:
        inspector = inspected(LUKSInspector, luks(MIB).truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()] or size < 8, size
        assert inspector.virtual_size == 0
    assert checks_of(LUKSInspector, luks(MIB).truncated(PAYLOAD_1 + 1)) == ["encrypted"]


@pytest.mark.parametrize("header_size", [16 * KIB, 256 * KIB, MIB])
def test_every_cut_of_a_luks2_before_the_payload_is_noticed(header_size: int) -> None:
    image = luks2(MIB, header_size=header_size)
    read = header_size <= 256 * KIB
    sizes = [8, 511, 4095, 4096, header_size, header_size + 511, 2 * header_size - 1]
    for size in [*sizes, *([2 * header_size, 5 * MIB, PAYLOAD_OFFSET] if read else [])]:
        inspector = inspected(LUKSInspector, image.truncated(size))
        assert "truncated" in [finding.check for finding in inspector.checks()], size
        assert inspector.virtual_size == 0


# Version 1


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (6, b"\0\3", "unknown_features"),
        (104, u32(0), "data_file"),
        (104, u32(1), "metadata_overlap"),
        (104, u32(2**32 - 1), "truncated"),
        (108, u32(0), "structure"),
        (208, u32(1), "structure"),
        (208 + 48, bytes(4), "structure"),
    ],
)
def test_a_luks1_header_that_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert found in checks_of(LUKSInspector, luks(MIB).patched(at, change))


@pytest.mark.parametrize(
    ("sector", "stripes", "found"),
    [
        (8, 4000, []),
        (PAYLOAD_SECTOR - 250, 4000, []),
        (PAYLOAD_SECTOR - 249, 4000, ["structure"]),
        (1, 4000, ["structure"]),
        (8, 0, ["structure"]),
        (2**32 - 1, 2**32 - 1, ["structure"]),
    ],
)
def test_key_material_in_use_lies_between_header_and_payload(
    sector: int, stripes: int, found: list[str]
) -> None:
    slot = u32(0x00AC71F3) + u32(1000) + bytes(32) + u32(sector) + u32(stripes)
    assert checks_of(LUKSInspector, luks(MIB).patched(208, slot)) == ["encrypted", *found]


def test_an_unused_slot_may_say_anything() -> None:
    assert checks_of(LUKSInspector, luks(MIB).patched(212, b"\xff" * 44)) == ["encrypted"]


# Version 2


@pytest.mark.parametrize(
    ("at", "change", "found"),
    [
        (8, (12 * KIB).to_bytes(8, "big"), "structure"),
        (8, b"\xff" * 8, "structure"),
        (8, (32 * KIB).to_bytes(8, "big"), "structure"),
        (16, b"\xff" * 8, "dirty"),
        (72, b"sha512\0", "unsupported_subformat"),
        (168, b"another", "structure"),
        (256, b"\1", "structure"),
    ],
)
def test_a_luks2_header_that_cannot_be_is_found(at: int, change: bytes, found: str) -> None:
    assert found in checks_of(LUKSInspector, with_header(at, change))


@pytest.mark.parametrize("at", [24, 104, 208, 300, 450, 600, 4100, 16 * KIB - 1])
def test_a_changed_byte_of_header_or_metadata_does_not_have_its_checksum(at: int) -> None:
    image = luks2(MIB)
    changed = image.patched(at, bytes([image.read(at, 1)[0] ^ 1]))
    assert "checksum_mismatch" in checks_of(LUKSInspector, changed)
    fixed = luks2(MIB, fixed_size=True)
    assert inspected(LUKSInspector, fixed.patched(24, b"x")).wholeness is Wholeness.UNCHECKED


@pytest.mark.parametrize("at", [0, 7, 256 + 7])
def test_a_second_header_that_is_none_is_found(at: int) -> None:
    assert checks_of(LUKSInspector, luks2(MIB).patched(16 * KIB + at, b"x")) == ["encrypted", "structure"]


def test_the_second_headers_salt_and_checksum_are_its_own() -> None:
    image = luks2(MIB).patched(16 * KIB + 104, b"another salt").patched(16 * KIB + 448, b"another sum")
    assert checks_of(LUKSInspector, image) == ["encrypted"]


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("segments", {}, ["structure"]),
        ("segments", [], ["structure"]),
        ("segments", None, ["structure"]),
        ("segments", {str(n): luks2_metadata()["segments"]["0"] for n in range(33)}, ["structure"]),  # type: ignore[index]
        ("segments.0", 5, ["structure"]),
        ("segments.0.offset", 16777216, ["structure"]),
        ("segments.0.offset", "-1", ["structure"]),
        ("segments.0.offset", "9" * 5000, ["structure"]),
        ("segments.0.offset", "٣", ["structure"]),
        ("segments.0.offset", "32768", ["metadata_overlap"]),
        ("segments.0.offset", "0", ["data_file"]),
        ("segments.0.size", "1e3", ["structure"]),
        ("segments.0.size", str(2**64), ["truncated"]),
        ("segments.0.integrity", {"type": "hmac(sha256)"}, ["unsupported_subformat"]),
        ("segments.0.flags", ["backup-final"], ["structure"]),
        ("keyslots", None, ["structure"]),
        ("keyslots.0.area", None, ["structure"]),
        ("keyslots.0.area.offset", "4096", ["structure"]),
        ("keyslots.0.area.size", str(PAYLOAD_OFFSET), ["structure"]),
        ("config", None, ["structure"]),
        ("config.json_size", "12289", ["size_mismatch"]),
        ("config.keyslots_size", str(2**60), ["metadata_overlap"]),
        ("config.requirements", {"mandatory": ["online-reencrypt-v2"]}, ["unknown_features"]),
        ("config.requirements", {"mandatory": ["x" * 9999, 5, None, *"abcdefgh"]}, ["unknown_features"] * 8),
    ],
)
def test_metadata_that_cannot_be_are_found(path: str, value: object, found: list[str]) -> None:
    codes = checks_of(LUKSInspector, with_metadata(path, value))
    assert codes[0] == "encrypted"
    assert set(codes[1:]) == set(found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("segments.0.sector_size", "big"),
        ("segments.0.encryption", 5),
        ("segments.0.flags", [5]),
        ("config.requirements", {}),
        ("config.requirements", "none"),
        ("tokens", None),
        ("keyslots", {}),
    ],
)
def test_metadata_that_may_be_odd_are_not_found(path: str, value: object) -> None:
    assert checks_of(LUKSInspector, with_metadata(path, value)) == ["encrypted"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"5",
        b"9" * 12_000,
        b"[" * 12_000,
        b'{"a":' * 2_000,
        b'"\\ud800"',
        b"\xff\xfe",
        b'{"segments": {"0": {"offset": 1e999}}}',
        b"NaN",
        b"[" + b"0," * 5_000 + b"0]",
    ],
)
def test_no_metadata_break_it(text: bytes) -> None:
    assert "structure" in checks_of(LUKSInspector, with_text(text))
    assert inspected(LUKSInspector, with_text(text)).virtual_size == 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
    )
)
def test_any_json_can_be_read(value: object) -> None:
    assert parse(json.dumps(value).encode()).problems


def test_metadata_of_more_values_than_any_volume_has_are_not_parsed() -> None:
    slots = {str(number): luks2_metadata()["keyslots"] for number in range(32)}
    assert parse(json.dumps({"tokens": [slots] * 3}).encode()).problems[0] != TOO_MANY
    assert parse(b"[" + b"[]," * 60_000 + b"[]]").problems == (TOO_MANY,)


def test_a_line_break_in_a_name_is_escaped() -> None:
    image = with_metadata("segments.0.encryption", "aes\n\x1b[31m\ud800")
    shown = inspected(LUKSInspector, image).details()["encryption"]
    assert isinstance(shown, str)
    assert shown.isprintable()
    assert shown.isascii()


def test_metadata_too_large_to_read_leave_the_size_unknown() -> None:
    inspector = inspected(LUKSInspector, luks2(MIB, header_size=MIB))
    assert [finding.check for finding in inspector.checks()] == ["encrypted", "unsupported_subformat"]
    assert inspector.virtual_size == 0
    assert inspector.context_info == {"header": 4096, "second": 512}


def test_segments_add_up() -> None:
    """During reencryption, the disk is in two parts, and a third segment is a backup."""
    first, cipher = PAYLOAD_OFFSET, {"type": "crypt", "encryption": "aes-xts-plain64"}
    segments = {
        "0": cipher | {"offset": str(first), "size": "4096"},
        "1": cipher | {"offset": str(first + 4096), "size": "dynamic"},
        "2": cipher | {"offset": str(first), "size": "dynamic", "flags": ["backup-previous"]},
    }
    assert inspected(LUKSInspector, with_metadata("segments", segments)).virtual_size == MIB


@pytest.mark.parametrize("front", [b"SKUL\xba\xbe\0\1", b"LUKS\xbe\xba\0\1", b"\0LUKS\xba\xbe"])
def test_another_signature_makes_no_luks(front: bytes) -> None:
    assert not LUKSInspector.matches_prefix(front)
