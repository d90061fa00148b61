"""The commands of the remedies run on images with the finding, and Keyhole says that the results are safe."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from keyhole.api import scan_path
from keyhole.builders import Image, OVADisk, gpt_disk, ovf, qcow2
from keyhole.reasons import Status
from keyhole.remedies import REMEDIES
from keyhole.scan.report import Report
from keyhole.scan.rules import load_policy
from keyhole.scan.settings import ScanSettings
from tests.remedies.repairs import BROKEN, DISK, MIB, Broken
from tests.tools import completed, need

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: The repairs of objects in S3, which the last tests run.
IN_S3 = {
    ("truncated", "Upload again, so that S3 refuses a part that arrives changed"),
    ("format_mismatch", "State the real format"),
}


def test_every_repair_of_the_table_has_an_image_that_needs_it() -> None:
    listed = {(code, repair.aim) for code, remedy in REMEDIES.items() for repair in remedy.repairs}
    assert listed == {(str(each.code), each.aim) for each in BROKEN} | IN_S3


def commands_of(code: str, aim: str) -> str:
    [repair] = [repair for repair in REMEDIES[code].repairs if repair.aim == aim]
    return "\n".join(repair.commands)


def run(script: str, folder: Path, **variables: str) -> None:
    for line in script.splitlines():
        need(line.split()[0])
    done = completed(["bash", "-ec", script], folder, variables)
    assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"


def make(each: Broken, folder: Path) -> None:
    """Write the image, and what its commands need: an intact disk and an OVF."""
    (folder / DISK).write_bytes(gpt_disk(8 * MIB).to_bytes())
    disk = OVADisk("disk.vmdk", Image.of(1, []), 8 * MIB)
    (folder / "machine.ovf").write_text(ovf([disk]).replace(' ovf:size="1"', ""))
    (folder / "policy.toml").write_text(each.policy)
    if isinstance(each.made, Image):
        (folder / each.image).write_bytes(each.made.to_bytes())
    else:
        run(each.made, folder)


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("each", BROKEN, ids=lambda each: f"{each.code}-{each.image}")
def test_the_commands_make_a_safe_image(each: Broken, tmp_path: Path) -> None:
    make(each, tmp_path)
    policy = each.policy if "\n" not in each.policy else str(tmp_path / "policy.toml")
    settings = ScanSettings(policy=load_policy(policy))

    before = scan_path(tmp_path / each.image, settings)
    assert each.code in {*before.reasons, *(finding.check for finding in before.findings)}
    assert (before.status is Status.SAFE) == (each.code == "snapshots")

    run(commands_of(each.code, each.aim), tmp_path)
    assert verdict(scan_path(tmp_path / each.result, settings)) == (Status.SAFE, ())
    if each.code == "snapshots":
        assert scan_path(tmp_path / each.result, settings).findings == ()


def verdict(report: Report) -> tuple[Status, tuple[str, ...]]:
    return report.status, report.reasons


@pytest.mark.slow
@pytest.mark.parametrize(("code", "aim"), sorted(IN_S3))
def test_the_commands_for_s3_do_what_they_say(
    code: str, aim: str, s3: "S3Client", bucket: str, moto_url: str, tmp_path: Path
) -> None:
    image = qcow2(8 * MIB, allocated=2).to_bytes()
    (tmp_path / "image.qcow2").write_bytes(image)
    s3.put_object(Bucket=bucket, Key="a.img", Body=image[:70000], Metadata={"disk_format": "raw"})
    if code == "format_mismatch":
        s3.put_object(Bucket=bucket, Key="a.img", Body=image, Metadata={"disk_format": "raw"})

    script = commands_of(code, aim).replace("BUCKET/KEY", f"{bucket}/a.img")
    script = script.replace("aws s3 ", f"aws --endpoint-url {moto_url} s3 ")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    run(script, tmp_path, **keys, AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)

    answer = s3.get_object(Bucket=bucket, Key="a.img", ChecksumMode="ENABLED")
    assert answer["Body"].read() == image
    if code == "truncated":
        assert answer["ChecksumSHA256"]
    else:
        assert answer["Metadata"] == {"disk_format": "qcow2"}
