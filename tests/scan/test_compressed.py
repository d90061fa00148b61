"""Compressed images in a scan: costs, which profile decompresses them in full, and verdicts."""

import io
import lzma
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from keyhole.api import inspect_stream, scan_s3
from keyhole.builders import Image, gpt_disk, qcow2, tar, vhd_fixed
from keyhole.inspectors.archives.zip.end import TAIL_BYTES
from keyhole.reasons import Status
from keyhole.scan.profile_names import PROFILES
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import load_policy
from keyhole.scan.scanner import scan
from keyhole.scan.settings import FULL_SECONDS, ScanSettings
from keyhole.settings import Settings
from keyhole.sources.local import FileSource
from keyhole.sources.meter import Budget
from keyhole.sources.s3_access import S3Access
from keyhole.toml_files import FileError
from tests.inspectors.compression.memory import memory_taken
from tests.inspectors.compression.packed import GIB, MIB, PACKED, noise, zeros
from tests.servers.scripted_s3 import BUCKET, ScriptedS3
from tests.slow import slow
from tests.tools import need

LIMIT = (Status.INCONCLUSIVE, ("decompression_limit",))
HEAD_BYTES = ScanSettings().head_bytes


def by_gzip(image: Image) -> bytes:
    """An image, compressed by gzip piece by piece."""
    compressor = zlib.compressobj(1, wbits=31)
    pieces = [compressor.compress(image.read(at, MIB)) for at in range(0, image.size, MIB)]
    return b"".join(pieces) + compressor.flush()


@cache
def for_gcp(name: str = "disk.raw", size: int = GIB) -> bytes:
    """A disk in the form that Compute Engine imports."""
    return by_gzip(tar([(name, gpt_disk(size).patched(MIB, noise(1, 300_000)))]))


SMALL = gpt_disk(8 * MIB)


def scanned(data: bytes, policy: str = "default", settings: ScanSettings | None = None) -> Report:
    settings = replace(settings or ScanSettings(), policy=load_policy(policy))
    return scan(Target("object"), lambda meter: FileSource(io.BytesIO(data), meter), settings)


def verdict(report: Report) -> tuple[Status, tuple[str, ...]]:
    return report.status, report.reasons


# Verdicts


@pytest.mark.parametrize("name", PACKED)
def test_what_is_safe_plain_is_safe_packed_if_it_is_short(name: str) -> None:
    report = scanned(PACKED[name](qcow2(GIB, allocated=3).to_bytes()))
    assert verdict(report) == (Status.SAFE, ())
    (member,) = report.members
    assert (report.format, member.format, member.target) == (name, "qcow2", "object!/content")
    assert (report.virtual_size, member.virtual_size, member.size) == (GIB, GIB, member.actual_size)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_what_is_long_is_undecided_until_a_policy_allows_it(name: str, tmp_path: Path) -> None:
    data = PACKED[name](gpt_disk(80 * MIB).to_bytes())
    assert verdict(scanned(data)) == LIMIT
    allowed = tmp_path / "allowed.toml"
    allowed.write_text('[[rules]]\ndecompress = "80 MiB"\n')
    report = scanned(data, str(allowed))
    assert verdict(report) == (Status.SAFE, ())
    assert report.virtual_size == 80 * MIB
    allowed.with_name("less.toml").write_text('[[rules]]\ndecompress = "79 MiB"\n')
    assert verdict(scanned(data, str(tmp_path / "less.toml"))) == LIMIT


def test_what_leads_outside_is_unsafe_though_the_rest_was_not_seen() -> None:
    image = qcow2(GIB, backing_file="/etc/shadow").appended(noise(1, 40 * MIB))
    report = scanned(PACKED["zstd"](image.to_bytes()))
    assert verdict(report) == (Status.UNSAFE, ("backing_file", "decompression_limit"))
    assert report.bytes_read == HEAD_BYTES + TAIL_BYTES


VERDICTS: dict[str, tuple[Callable[[], bytes], Status, tuple[str, ...]]] = {
    "a text": (lambda: PACKED["gzip"](b"a text\n" * 1000), Status.UNRECOGNIZED, ("not_an_image",)),
    "nothing": (lambda: PACKED["gzip"](b""), Status.UNRECOGNIZED, ("empty",)),
    "cut off": (lambda: PACKED["xz"](gpt_disk(2 * MIB).to_bytes())[:-9], Status.DAMAGED, ("truncated",)),
    "something behind": (
        lambda: PACKED["xz"](gpt_disk(2 * MIB).to_bytes()) + b"behind",
        Status.REJECTED,
        ("trailing_data",),
    ),
    "zeros": (
        lambda: zeros("gzip", 256 * MIB),
        Status.UNSAFE,
        ("decompression_bomb", "decompression_limit"),
    ),
    "zeros by bzip2": (
        lambda: zeros("bzip2", 256 * MIB),
        Status.UNSAFE,
        ("decompression_bomb", "decompression_limit"),
    ),
    "twice": (
        lambda: PACKED["gzip"](PACKED["gzip"](gpt_disk(2 * MIB).to_bytes())),
        Status.REJECTED,
        ("nested_compression",),
    ),
    "a disk that is cut off": (
        lambda: PACKED["zstd"](gpt_disk(4 * MIB).truncated(3 * MIB).to_bytes()),
        Status.DAMAGED,
        ("truncated",),
    ),
}


@pytest.mark.parametrize("name", [slow(name) if "bzip2" in name else name for name in VERDICTS])
def test_the_verdict_is_the_worst_of_both(name: str) -> None:
    data, status, reasons = VERDICTS[name]
    report = scanned(data())
    assert report.status is status
    assert report.reasons[: len(reasons)] == reasons


def test_a_size_that_is_not_known_yet_is_held_against_nobody(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rules]]\nmax_virtual_size = "1 GiB"\n')
    assert verdict(scanned(by_gzip(gpt_disk(80 * MIB)), str(policy))) == LIMIT
    report = scanned(by_gzip(gpt_disk(8 * MIB)), str(policy))
    assert verdict(report) == (Status.SAFE, ())


# Profiles


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_take_packed_what_their_importers_do(profile: str) -> None:
    disk = gpt_disk(8 * MIB).to_bytes()
    taken = {name for name in PACKED if scanned(PACKED[name](disk), profile).status is Status.SAFE}
    assert taken == {"default": set(PACKED), "kubevirt": {"gzip", "xz"}}.get(profile, set())


@pytest.mark.slow
def test_compute_engine_takes_a_disk_in_an_archive_in_gzip() -> None:
    report = scanned(for_gcp(), "gcp")
    assert verdict(report) == (Status.SAFE, ())
    assert [report.format, report.members[0].format, report.members[0].members[0].format] == [
        "gzip",
        "tar",
        "raw",
    ]
    assert report.members[0].members[0].target == "object!/content!/disk.raw"
    assert report.virtual_size == GIB


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (lambda: for_gcp("other.raw", 8 * MIB), ("banned_format", "virtual_size_multiple")),
        (lambda: for_gcp(size=GIB // 4), ("virtual_size_multiple",)),
        (lambda: by_gzip(SMALL), ("banned_format", "virtual_size_multiple")),
        (lambda: tar([("disk.raw", SMALL)]).to_bytes(), ("banned_format", "virtual_size_multiple")),
        (
            lambda: PACKED["xz"](tar([("disk.raw", SMALL)]).to_bytes()),
            ("banned_format", "virtual_size_multiple"),
        ),
        (lambda: by_gzip(tar([("disk.raw", qcow2(GIB, allocated=3))])), ("banned_format",)),
        (
            lambda: by_gzip(tar([("disk.raw", vhd_fixed(8 * MIB))])),
            ("banned_format", "virtual_size_multiple"),
        ),
    ],
    ids=["another name", "a quarter of a GB", "no archive", "not packed", "xz", "no raw disk", "a VHD"],
)
def test_compute_engine_takes_nothing_else(data: object, reasons: tuple[str, ...]) -> None:
    report = scanned(data(), "gcp")  # type: ignore[operator]
    assert report.status is Status.REJECTED
    assert report.reasons == reasons


@pytest.mark.slow
def test_by_default_the_same_is_undecided_and_read_no_further_than_it_tells_something() -> None:
    image = tar([("disk.raw", gpt_disk(128 * MIB).patched(MIB, noise(1, 40 * MIB)))])
    report = scanned(by_gzip(image))
    assert verdict(report) == LIMIT
    assert report.members[0].members[0].reasons == ("decompression_limit",)
    assert (report.requests, report.bytes_read) == (3, 2 * HEAD_BYTES + TAIL_BYTES)


def test_tar_packs_it_sparsely_as_compute_engine_says(tmp_path: Path) -> None:
    """The command is the one in the documentation."""
    need("tar")
    gpt_disk(GIB).patched(5 * MIB, noise(1, 300_000)).write_to(tmp_path / "disk.raw")
    command = ["tar", "--format=oldgnu", "-Sczf", "image.tar.gz", "disk.raw"]
    subprocess.run(command, cwd=tmp_path, check=True)
    report = scanned((tmp_path / "image.tar.gz").read_bytes(), "gcp")
    assert verdict(report) == (Status.SAFE, ())
    assert report.virtual_size == GIB


def test_a_policy_says_what_is_around_a_disk(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rules]]\ncontainers = ["bare", "xz"]\n')
    disk = gpt_disk(8 * MIB)
    assert scanned(disk.to_bytes(), str(policy)).status is Status.SAFE
    assert scanned(PACKED["xz"](disk.to_bytes()), str(policy)).status is Status.SAFE
    assert verdict(scanned(PACKED["gzip"](disk.to_bytes()), str(policy))) == (
        Status.REJECTED,
        ("banned_format",),
    )


@pytest.mark.parametrize(
    "rule", ['containers = ["gzip/raw"]', 'containers = ["gzip/"]', 'decompress = "0 B"', "decompress = true"]
)
def test_a_rule_that_makes_no_sense_is_named(rule: str, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(f"[[rules]]\n{rule}\n")
    with pytest.raises(FileError, match=r"rules\[0\]\.(containers|decompress)"):
        load_policy(str(tmp_path / "policy.toml"))


def test_a_rule_that_does_not_say_it_has_it_from_its_profile(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('profile = "gcp"\n[[rules]]\nvirtual_size_multiple = "1 MiB"\n')
    assert scanned(for_gcp(size=GIB // 4), str(policy)).status is Status.SAFE
    rule = load_policy(str(policy)).rules[0]
    assert (rule.decompress, rule.containers) == (64 * GIB, ("gzip/tar",))


# Costs


@pytest.mark.slow
def test_a_scan_reads_all_that_it_may_decompress_and_only_the_end_twice(
    scripted: ScriptedS3, scripted_access: S3Access
) -> None:
    data = by_gzip(tar([("disk.raw", gpt_disk(GIB).patched(MIB, noise(1, 12 * MIB)))]))
    scripted.put("image", data, version_id="v1")
    settings = ScanSettings(policy=load_policy("gcp"))
    report = scan_s3(scripted_access, BUCKET, "image", None, settings)
    assert verdict(report) == (Status.SAFE, ())
    assert report.bytes_read == scripted.bytes_sent == len(data) + TAIL_BYTES
    # The end, 256 KiB, twice that, and so on up to 4 MiB.
    assert report.requests == len(scripted.requests) == 6 + -(-(len(data) - 4 * MIB) // (4 * MIB))


@pytest.mark.parametrize("key", ["read by obstore", "/read by boto3"])
def test_what_is_stored_as_encoded_is_read_as_it_is_stored(
    scripted: ScriptedS3, scripted_access: S3Access, key: str
) -> None:
    """No client decodes the content, so ranges refer to the stored bytes."""
    data = by_gzip(SMALL)
    scripted.put(key, data, version_id="v1")
    scripted.script(
        then=lambda _, answer: replace(answer, headers={**answer.headers, "Content-Encoding": "gzip"})
    )
    report = scan_s3(scripted_access, BUCKET, key, None, ScanSettings())
    assert verdict(report) == (Status.SAFE, ())
    assert (report.format, report.bytes_read) == ("gzip", len(data))


def test_what_is_decompressed_in_full_is_so_within_a_budget_of_its_own() -> None:
    settings = ScanSettings(container_budget=Budget(requests=100, decompressed=0))
    rule = load_policy("gcp").rules[0]
    budget = settings.container_budget_by(rule)
    assert (budget.decompressed, budget.seconds) == (64 * GIB, FULL_SECONDS)
    assert budget.bytes >= 64 * GIB
    assert scanned(by_gzip(gpt_disk(128 * MIB)), "gcp", settings).reasons[0] == "banned_format"
    assert settings.container_budget_by(load_policy("azure").rules[0]) == settings.container_budget


def test_all_that_lies_in_an_object_is_decompressed_within_one_budget() -> None:
    members = [(f"{number}.gz", _plain(by_gzip(gpt_disk(8 * MIB)))) for number in range(20)]
    settings = ScanSettings(container_budget=Budget(requests=1000, decompressed=100 * MIB))
    report = scanned(tar(members).to_bytes(), settings=settings)
    assert verdict(report) == (Status.INCONCLUSIVE, ("budget",))
    assert 8 < [one.status for one in report.members].count(Status.SAFE) < 13


def test_time_is_looked_at_while_it_is_decompressed() -> None:
    settings = ScanSettings(budget=Budget(seconds=0.0001), container_budget=Budget(seconds=0.0001))
    report = scanned(by_gzip(gpt_disk(64 * MIB)), settings=settings)
    assert verdict(report) == (Status.INCONCLUSIVE, ("budget",))


@pytest.mark.slow
def test_a_bomb_costs_no_more_than_its_front() -> None:
    report = scanned(zeros("gzip", 512 * MIB))
    assert (report.requests, report.bytes_read) == (2, HEAD_BYTES + TAIL_BYTES)


IMPORTS = """
from pathlib import Path
from keyhole.api import import_all, scan_path
from keyhole.scan.settings import ScanSettings
import_all()  # as a worker does before it scans, so that only the scan is measured
settings = ScanSettings()
"""
SCANNED = "result = len(scan_path(Path(sys.argv[1]), settings).members)"


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, slow(40)], ids=["whole", "cut off"])
@pytest.mark.parametrize("size", [32 * MIB, slow(33 * MIB)], ids=["short", "long"])
def test_of_many_dictionaries_in_an_archive_one_is_held_at_a_time(
    size: int, cut: int, tmp_path: Path
) -> None:
    """Each dictionary has 64 MiB, of which 32 MiB are filled.

    Many short ones come at once, long ones in pieces.
    """
    disk = gpt_disk(GIB).patched(MIB, noise(1, size - 32 * MIB)).read(0, size)
    packed = lzma.compress(disk, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 * MIB}])
    member = _plain(packed[: len(packed) - cut])
    path = tar([(f"{number}.xz", member) for number in range(12)]).write_to(tmp_path / "archive")
    members, taken = memory_taken(IMPORTS, SCANNED, path)
    assert members == 12
    assert taken < 32 * MIB + 16 * MIB


# Streams


class Pipe:
    """A file object that supports only reading."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


@pytest.mark.parametrize("policy", ["default", "gcp"])
@pytest.mark.parametrize(
    "data",
    [slow(for_gcp), lambda: by_gzip(SMALL), slow(lambda: zeros("xz", 100 * MIB))],
    ids=["for gcp", "a disk", "a bomb"],
)
def test_a_pipe_has_the_verdict_of_a_file(data: object, policy: str) -> None:
    packed = data()  # type: ignore[operator]
    settings = Settings(policy=policy)
    streamed = inspect_stream(cast("BinaryIO", Pipe(packed)), settings=settings)
    by_range = inspect_stream(io.BytesIO(packed), settings=settings)
    assert verdict(streamed) == verdict(by_range)
    assert streamed.findings == by_range.findings
    assert streamed.details == by_range.details


def _plain(data: bytes) -> Image:
    return Image.of(len(data), [(0, data)])
