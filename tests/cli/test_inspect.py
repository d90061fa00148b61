"""`keyhole inspect`: verdicts without a queue, for scripts and for people."""

import io
import tarfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from keyhole.builders import qcow2
from keyhole.cli.output import FORMS
from keyhole.inspectors.text import escaped
from keyhole.reasons import Status
from keyhole.scan.report import Report
from tests.cli.conftest import Keyhole
from tests.e2e import commands
from tests.servers.origin import origin_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A file is closed when its source is garbage-collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GIB = 1024**3
SAFE = qcow2(GIB).to_bytes()
UNSAFE = qcow2(GIB, backing_file="/etc/shadow").to_bytes()

#: Keys that a terminal would execute, or that use more columns than they have characters.
HOSTILE_KEYS = (
    "\x1b[2J\x1b[31mred.qcow2",
    "\x1b]0;title\x07.qcow2",
    "a\rb.qcow2",
    "\u202egnp.qcow2",
    "[bold red]markup[/].qcow2",
    "日本語の長い名前のディスクイメージ/" * 5 + "イメージ.qcow2",
    "a" * 300,
    "e\u0301" * 100,
    "👩‍👩‍👧‍👦" * 20,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a safe image, and an unsafe image in a subfolder."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    (folder / "safe.qcow2").write_bytes(SAFE)
    (folder / "below" / "unsafe.qcow2").write_bytes(UNSAFE)
    return folder


@pytest.fixture
def images(s3: "S3Client", bucket: str) -> str:
    """A bucket with a safe image and an unsafe image."""
    s3.put_object(Bucket=bucket, Key="safe.qcow2", Body=SAFE)
    s3.put_object(Bucket=bucket, Key="below/unsafe.qcow2", Body=UNSAFE)
    return bucket


def reports(lines: list[str]) -> list[Report]:
    """The reports in an output that must have one report per line, and nothing else."""
    return [Report.model_validate_json(line) for line in lines]


class Pipe(io.BytesIO):
    """A stream that does not support seeking."""

    def seekable(self) -> bool:
        return False


class TestExitCode:
    def test_0_all_are_safe(self, keyhole: Keyhole, folder: Path) -> None:
        assert keyhole("inspect", folder / "safe.qcow2").code == 0

    def test_1_some_are_not(self, keyhole: Keyhole, folder: Path) -> None:
        assert keyhole("inspect", folder / "safe.qcow2", folder / "below" / "unsafe.qcow2").code == 1

    def test_2_usage(self, keyhole: Keyhole) -> None:
        assert keyhole("inspect").code == 2
        assert keyhole("inspect", "--surprise", "x").code == 2
        assert keyhole("surprise").code == 2

    def test_3_it_could_not_look(self, keyhole: Keyhole, folder: Path, images: str) -> None:
        missing = f"s3://{images}/missing"

        assert keyhole("inspect", missing).code == 3
        assert keyhole("inspect", folder / "safe.qcow2", missing).code == 3
        assert keyhole("inspect", folder / "missing").code == 3

    def test_3_with_a_hint_what_a_missing_name_could_mean(
        self, keyhole: Keyhole, folder: Path, images: str
    ) -> None:
        prefix, path = f"s3://{images}/below/", folder / "missing"

        below = f"There is no object {prefix}; to scan everything below it, add -r.\n"
        assert keyhole("inspect", prefix).err == below
        assert keyhole("inspect", folder / "safe.qcow2", prefix).err == below
        assert keyhole("inspect", "-q", prefix).err == ""
        assert keyhole("inspect", f"s3://{images}/missing").err == ""
        assert keyhole("inspect", path).err == (
            f"There is no file {path}; for an object in S3, write s3://bucket/key.\n"
        )

    def test_1_rather_than_3(self, keyhole: Keyhole, folder: Path, images: str) -> None:
        """A decided verdict is more important than an undecided one."""
        assert keyhole("inspect", folder / "below" / "unsafe.qcow2", f"s3://{images}/missing").code == 1

    def test_0_help(self, keyhole: Keyhole) -> None:
        printed = keyhole("inspect", "--help")

        assert printed.code == 0
        assert "keyhole inspect" in printed.out


class TestTargets:
    def test_an_object(self, keyhole: Keyhole, images: str) -> None:
        (report,) = reports(keyhole("inspect", "--json", f"s3://{images}/safe.qcow2").lines)

        assert (report.bucket, report.key, report.status) == (images, "safe.qcow2", Status.SAFE)

    def test_a_version(self, keyhole: Keyhole, s3: "S3Client", bucket: str) -> None:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        old = s3.put_object(Bucket=bucket, Key="a", Body=UNSAFE)["VersionId"]
        s3.put_object(Bucket=bucket, Key="a", Body=SAFE)

        printed = keyhole("inspect", "--json", "--version-id", old, f"s3://{bucket}/a")

        (report,) = reports(printed.lines)
        assert (report.version_id, report.status) == (old, Status.UNSAFE)

    def test_all_in_a_bucket(self, keyhole: Keyhole, images: str) -> None:
        found = reports(keyhole("inspect", "--json", "-r", f"s3://{images}").lines)

        assert [report.key for report in found] == ["below/unsafe.qcow2", "safe.qcow2"]

    def test_all_below_a_prefix(self, keyhole: Keyhole, images: str) -> None:
        (report,) = reports(keyhole("inspect", "--json", "-r", f"s3://{images}/below/").lines)

        assert report.key == "below/unsafe.qcow2"

    def test_all_in_a_folder(self, keyhole: Keyhole, folder: Path) -> None:
        found = reports(keyhole("inspect", "--json", "-r", folder).lines)

        assert [report.status for report in found] == [Status.UNSAFE, Status.SAFE]

    @pytest.mark.parametrize("seekable", [True, False])
    def test_standard_input(self, keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch, seekable: bool) -> None:
        source = io.BytesIO(SAFE) if seekable else Pipe(SAFE)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=source))

        (report,) = reports(keyhole("inspect", "--json", "-").lines)

        assert (report.target, report.status, report.format) == ("-", Status.SAFE, "qcow2")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("s3://{bucket}",),
            ("s3://{bucket}/",),
            ("s3://",),
            ("s3:///key",),
            ("-r", "s3://"),
            ("--version-id", "v", "file"),
            ("--version-id", "v", "s3://{bucket}/a", "s3://{bucket}/b"),
            ("--version-id", "v", "-r", "s3://{bucket}/a"),
        ],
    )
    def test_what_names_no_object_is_a_usage_error(
        self, keyhole: Keyhole, images: str, arguments: tuple[str, ...]
    ) -> None:
        printed = keyhole("inspect", *(argument.format(bucket=images) for argument in arguments))

        assert printed.code == 2
        assert printed.out == ""
        assert "Error: " in printed.err
        assert "Traceback" not in printed.err

    def test_a_bucket_is_told_what_to_add(self, keyhole: Keyhole, images: str) -> None:
        assert "-r" in keyhole("inspect", f"s3://{images}").error

    def test_a_folder_is_told_what_to_add(self, keyhole: Keyhole, folder: Path) -> None:
        printed = keyhole("inspect", folder)

        assert printed.code == 2
        assert "-r" in printed.error

    def test_a_prefix_below_which_nothing_lies(self, keyhole: Keyhole, images: str) -> None:
        printed = keyhole("inspect", "-r", f"s3://{images}/nothing/")

        assert printed.code == 3
        assert "check the prefix" in printed.error


class TestErrors:
    @pytest.mark.slow
    def test_no_credentials(self, env: dict[str, str], images: str) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            del env[name]

        listing = commands.keyhole("inspect", "-r", f"s3://{images}", env=env)
        one = commands.keyhole("inspect", "--json", f"s3://{images}/safe.qcow2", env=env)

        assert listing.returncode == one.returncode == 3
        (error,) = commands.lines(listing.stderr)
        assert "keyhole doctor" in error
        (report,) = reports(commands.lines(one.stdout))
        assert (report.status, report.reasons) == (Status.FAILED, ("credentials",))
        assert one.stderr == b""

    def test_a_bucket_that_is_not_there(self, keyhole: Keyhole) -> None:
        printed = keyhole("inspect", "-r", "s3://no-such-bucket-anywhere")

        assert printed.code == 3
        assert "bucket" in printed.error

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("KEYHOLE_HEAD_BYTES", "many"),
            ("KEYHOLE_SINKS", "nowhere"),
            ("KEYHOLE_SINKS", ","),
            ("KEYHOLE_LOG_LEVEL", "loud"),
            ("KEYHOLE_BUDGET_SECONDS", "-1"),
        ],
    )
    def test_a_wrong_setting_is_named(self, keyhole: Keyhole, folder: Path, name: str, value: str) -> None:
        printed = keyhole("inspect", folder / "safe.qcow2", **{name: value})

        assert printed.code == 2
        assert printed.error.startswith(f"{name} is set to {value!r}: ")


class TestWhatIsPrinted:
    def test_in_a_pipe_each_object_is_one_line_with_its_whole_name(
        self, keyhole: Keyhole, s3: "S3Client", bucket: str
    ) -> None:
        for key in HOSTILE_KEYS:
            s3.put_object(Bucket=bucket, Key=key, Body=UNSAFE)

        printed = keyhole("inspect", "-r", f"s3://{bucket}")

        head, *rows, summary = printed.lines
        assert head.split() == [
            *("status", "format", "size", "virtual", "GETs", "read", "share", "reasons", "object")
        ]
        names = {escaped(f"s3://{bucket}/{key}") for key in HOSTILE_KEYS}
        assert {row[row.index("s3://") :] for row in rows} == names
        count = len(HOSTILE_KEYS)
        assert summary.startswith(f"{count} objects: {count} unsafe; {count} requests, ")

    def test_in_a_pipe_each_fact_about_one_object_is_one_line(self, keyhole: Keyhole, tmp_path: Path) -> None:
        name = "/a" * 400
        (tmp_path / "long.qcow2").write_bytes(qcow2(GIB, backing_file=name).to_bytes())

        lines = keyhole("inspect", tmp_path / "long.qcow2").lines

        assert [line for line in lines if line != line.rstrip()] == []
        assert f"backing file   {name}" in lines
        place = lines[0].index(str(tmp_path))
        assert [line for line in lines if line[place - 1] != " " or line[place] == " "] == []

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    def test_no_key_is_obeyed_by_the_terminal(
        self, keyhole: Keyhole, s3: "S3Client", bucket: str, key: str
    ) -> None:
        s3.put_object(Bucket=bucket, Key=key, Body=UNSAFE)

        uri = f"s3://{bucket}/{key}"
        forms = [("-o", form, uri) for form in FORMS]
        for arguments in (("-r", f"s3://{bucket}"), (uri,), ("--json", uri), *forms):
            printed = keyhole("inspect", *arguments)

            assert printed.code == 1
            # CSV begins with a byte order mark, and its lines end with CRLF.
            text = printed.out.removeprefix("\ufeff").replace("\r\n", "\n")
            assert [character for character in text if obeyed(character)] == []

    def test_no_error_is_obeyed_by_the_terminal(self, keyhole: Keyhole) -> None:
        printed = keyhole("inspect", "s3://\x1b[31mred")

        assert [character for character in printed.err if obeyed(character)] == []

    def test_one_object_is_shown_in_full(self, keyhole: Keyhole, folder: Path) -> None:
        printed = keyhole("inspect", folder / "below" / "unsafe.qcow2")

        assert "unsafe (backing_file)" in printed.out
        assert "/etc/shadow" in printed.out
        assert [line.split() for line in printed.lines if line.startswith("features")] == [
            ["features", "none"]
        ]


def obeyed(character: str) -> bool:
    """Whether a terminal executes a character instead of showing it."""
    return character != "\n" and unicodedata.category(character) in {"Cc", "Cf"}


def test_what_lies_in_an_archive_is_shown_with_its_own_verdict(keyhole: Keyhole, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    (tmp_path / "disk.qcow2").write_bytes(qcow2(1024**3, backing_file="/x").to_bytes())
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "disk.qcow2", "disk.qcow2")

    printed = keyhole("inspect", archive, COLUMNS=200)

    (line,) = [line for line in printed.lines if line.startswith("member")]
    assert line.rstrip().endswith("a.tar!/disk.qcow2: qcow2 (v3), 1 GiB, unsafe backing_file")


def test_an_object_on_a_web_server_needs_a_public_address_or_an_option(keyhole: Keyhole) -> None:
    with origin_server() as origin:
        origin.reset(SAFE)
        url = origin.url("/a.qcow2?X-Amz-Signature=secret")

        refused = keyhole("inspect", "--json", url)
        allowed = keyhole("inspect", "--allow-private", url, env={"NO_PROXY": "*"})

    assert (refused.code, allowed.code) == (3, 0)
    assert '"address_not_allowed"' in refused.out
    assert len(origin.requests) == 1
    assert "/a.qcow2?***" in allowed.out
    assert "secret" not in refused.out + allowed.out


@pytest.mark.parametrize("arguments", [("",), ("-r", ""), ("safe.qcow2", ""), ("--status", "unsafe", "")])
def test_an_empty_target_is_wrong_usage_and_not_the_current_folder(
    keyhole: Keyhole, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """A script can contain the value of a variable that is not set."""
    monkeypatch.chdir(folder)

    done = keyhole("inspect", *arguments)

    assert (done.code, done.out) == (2, "")
    assert done.error == "a target is empty; is a variable of the shell not set?"


@pytest.mark.parametrize("targets", [("https://host/images/",), ("safe.qcow2", "HTTP://user:secret@host/a")])
def test_a_web_server_is_not_listed(keyhole: Keyhole, folder: Path, targets: tuple[str, ...]) -> None:
    done = keyhole("inspect", "-r", folder, *targets)

    assert (done.code, done.out) == (2, "")
    assert done.error.endswith("web servers list nothing; leave out -r, and name each URL")


@pytest.mark.parametrize("url", ["https://", "https://a b/", "https://u:secret/x@host/a", "HTTPS://[::1"])
def test_a_url_that_names_no_object_is_wrong_usage(keyhole: Keyhole, url: str) -> None:
    done = keyhole("inspect", url)

    assert (done.code, done.out) == (2, "")
    assert "write https://HOST/PATH" in done.error
    assert "secret" not in done.error
