"""Waivers: what they accept, what they never accept, and when they end."""

from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from keyhole.api import scan_path
from keyhole.builders import Image, qcow2, tar, vhd_fixed, zip_archive
from keyhole.inspectors.catalogue import CONTAINER_FORMATS
from keyhole.inspectors.facts import Wholeness
from keyhole.inspectors.findings import CHECKS, Severity, found
from keyhole.intake.audits.unchanged import still_stands
from keyhole.intake.listing import Listed
from keyhole.reasons import Status
from keyhole.results.sinks.event import Event
from keyhole.results.tags import own_tags
from keyhole.scan.policy import is_current, ruleset
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import Policy, load_policy
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.scan.waivers import NEVER, Applied
from keyhole.sources.local import FileSource
from keyhole.sources.meter import Meter
from keyhole.sources.source import Identity
from keyhole.toml_files import FileError
from tests.examples import EXAMPLES

MIB = 1024**2
TODAY = date(2026, 11, 29)
WAIVED = {"bucket": "b", "key": "golden/*.qcow2", "check": "backing_file"}
OVERLAY = qcow2(8 * MIB, backing_file="base.qcow2")


def written(folder: Path, *waivers: dict[str, object], head: str = "") -> str:
    """Write a policy file with these waivers, and return its path."""
    lines = [head]
    for waiver in waivers:
        lines.append("[[waivers]]")
        whole = {"reason": "ticket 4711", "until": date(9999, 12, 31)} | waiver
        lines += [
            f"{name} = {value}" if isinstance(value, date) else f'{name} = "{value}"'
            for name, value in whole.items()
            if value is not None
        ]
    path = folder / "policy.toml"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


class InBucket(FileSource):
    """The bytes of an image, as an object in a bucket with an ETag and a version."""

    def __init__(self, image: Image, meter: Meter) -> None:
        super().__init__(BytesIO(image.to_bytes()), meter)

    @property
    def identity(self) -> Identity:
        return Identity(super().identity.size, '"e1"', "v1")


def judged(
    folder: Path, image: Image, *waivers: dict[str, object], key: str = "golden/a.qcow2", head: str = ""
) -> Report:
    """Scan an object under a policy with these waivers."""
    return judged_by(load_policy(written(folder, *waivers, head=head)), image, key)


def judged_by(policy: Policy, image: Image, key: str) -> Report:
    """Scan an object under a policy."""
    target = Target(f"s3://b/{key}", "b", key)
    return scan(target, lambda meter: InBucket(image, meter), ScanSettings(policy=policy))


def test_a_waived_finding_stays_with_its_severity_and_a_mark(tmp_path: Path) -> None:
    report = judged(tmp_path, OVERLAY, {**WAIVED, "by": "Ada"})

    assert (report.status, report.reasons) == (Status.SAFE, ())
    assert [(one.check, one.severity) for one in report.findings] == [("backing_file", Severity.CRITICAL)]
    [waiver] = report.waivers
    assert waiver.sentence() == "waived by Ada until 9999-12-31: ticket 4711"
    assert report.marks == ("waived:backing_file",)
    assert own_tags(report)["keyhole-reason"] == "waived:backing_file"
    assert b'"waivers":[{"check":"backing_file"' in Event.of(report, job_id="j").body
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_recorded_verdict_shows_that_its_waiver_has_ended(tmp_path: Path) -> None:
    """The tags stay as they were written, so that a comparison with them finds no difference."""
    report = judged(tmp_path, OVERLAY, WAIVED)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    waivers = tuple(one.model_copy(update={"until": yesterday}) for one in report.waivers)

    ended = report.model_copy(update={"waivers": waivers})

    assert (report.shown_marks, report.ended_waivers) == (("waived:backing_file",), {})
    assert ended.shown_marks == ("waiver_ended:backing_file",)
    assert ended.ended_waivers == {"backing_file": yesterday}
    assert ended.waivers[0].sentence() == f"waived until {yesterday} (ended): ticket 4711"
    assert own_tags(ended) == own_tags(report)


@pytest.mark.parametrize(("after", "ended"), [(0, False), (1, True)])
def test_a_waiver_ends_after_its_last_day(tmp_path: Path, after: int, *, ended: bool) -> None:
    (waiver,) = judged(tmp_path, OVERLAY, {**WAIVED, "until": date(2999, 12, 31)}).waivers

    assert waiver.has_ended(date(2999, 12, 31) + timedelta(days=after)) == ended


def test_a_report_without_waivers_does_not_mention_them(tmp_path: Path) -> None:
    report = judged(tmp_path, qcow2(MIB), WAIVED)

    assert "waivers" not in report.model_dump_json()
    assert b"waivers" not in Event.of(report, job_id="j").body


@pytest.mark.parametrize(
    "other",
    [
        {"check": "data_file"},
        {"bucket": "c"},
        {"bucket": "B"},
        {"key": "golden/*.QCOW2"},
        {"key": "golden"},
        {"key": "olden/a.qcow2"},
        {"etag": "e2"},
        {"etag": "E1"},
        {"version_id": "v2"},
        {"until": TODAY - timedelta(days=400)},
        {"severity": "error"},
    ],
)
def test_it_waives_no_more_than_it_says(tmp_path: Path, other: dict[str, object]) -> None:
    report = judged(tmp_path, OVERLAY, {**WAIVED, **other})

    assert (report.status, report.reasons, report.waivers) == (Status.UNSAFE, ("backing_file",), ())
    assert report.ruleset == ruleset(load_policy(str(tmp_path / "policy.toml")))


@pytest.mark.parametrize("pin", [{"etag": "e1"}, {"etag": '\\"e1\\"'}, {"version_id": "v1"}])
def test_content_can_be_named_without_a_key(tmp_path: Path, pin: dict[str, object]) -> None:
    assert judged(tmp_path, OVERLAY, {**WAIVED, "key": None, **pin}).status is Status.SAFE


def test_it_does_not_apply_to_a_file(tmp_path: Path) -> None:
    OVERLAY.write_to(tmp_path / "a.qcow2")
    policy = load_policy(written(tmp_path, {**WAIVED, "bucket": "*", "key": "*.qcow2"}))

    report = scan_path(tmp_path / "a.qcow2", ScanSettings(policy=policy))

    assert report.status is Status.UNSAFE


def test_a_finding_that_is_worse_than_usual_needs_a_waiver_that_says_so(tmp_path: Path) -> None:
    """An archive after the end of an archive is critical, although data after the end are a warning."""
    two = (
        tar([("a.raw", vhd_fixed(MIB))]).appended(b"\0" * 512).appended(tar([("b.raw", OVERLAY)]).to_bytes())
    )
    waiver = {"bucket": "b", "key": "a.tar", "check": "trailing_data"}

    usual = judged(tmp_path, two, waiver, key="a.tar")
    assert "trailing_data" in usual.reasons
    assert {one.severity for one in usual.findings if one.check == "trailing_data"} == {Severity.CRITICAL}
    assert (
        "trailing_data" not in judged(tmp_path, two, {**waiver, "severity": "critical"}, key="a.tar").reasons
    )


def test_of_several_findings_only_the_waived_one_does_not_count(tmp_path: Path) -> None:
    image = qcow2(8 * MIB, backing_file="base.qcow2", encryption=1)

    assert judged(tmp_path, image, WAIVED).reasons == ("encrypted",)
    both = judged(tmp_path, image, WAIVED, {**WAIVED, "check": "encrypted", "until": date(2999, 1, 1)})
    assert both.status is Status.SAFE
    assert both.ruleset.endswith("+until:2999-01-01")


def test_members_are_waived_with_their_archive_and_the_archive_says_so(tmp_path: Path) -> None:
    archive = zip_archive([("disk.qcow2", OVERLAY)])

    report = judged(tmp_path, archive, {**WAIVED, "key": "a.zip"}, key="a.zip")

    assert (report.status, report.marks) == (Status.SAFE, ("waived:backing_file",))
    assert report.members[0].waivers == report.waivers
    assert report.members[0].findings[0].check == "backing_file"


def test_the_longest_waiver_counts(tmp_path: Path) -> None:
    report = judged(tmp_path, OVERLAY, {**WAIVED, "until": date(2999, 1, 1)}, WAIVED)

    assert [str(waiver.until) for waiver in report.waivers] == ["9999-12-31"]


ALL = [
    {"bucket": "*", "key": "a*", "check": check, "severity": "critical"}
    for check in CHECKS
    if check not in NEVER
]


def pieces() -> list[tuple[str, Image]]:
    """Every small example, whole and cut off at several places, and with damage at the front."""
    found = []
    for example in EXAMPLES.values():
        image = example.image
        found.append((example.name, image))
        found += [(example.name, image.truncated(image.size * part // 8)) for part in (1, 7)]
        found += [
            (example.name, image.patched(at, b"\xff" * 4)) for at in (40, 80, 560) if at + 4 <= image.size
        ]
    return found


@pytest.mark.slow
def test_no_set_of_waivers_makes_an_unfinished_inspection_safe(tmp_path: Path) -> None:
    """Even under the laxest policy, a safe image was inspected completely, and its size is known."""
    head = 'profile = "default"\n[[rules]]\nwholeness = "unchecked"\n'
    policy = load_policy(written(tmp_path, *ALL, head=head))
    safe = 0
    for name, image in pieces():
        report = judged_by(policy, image, "a")
        if report.status is not Status.SAFE:
            continue
        safe += 1
        assert {finding.check for finding in report.findings} & set(NEVER) == set(), name
        assert report.virtual_size or report.format in CONTAINER_FORMATS, name
        damaged = {"structure", "checksum_mismatch", "size_mismatch", "metadata_overlap"}
        if damaged & {waiver.check for waiver in report.waivers} and not report.members:
            assert report.wholeness is not Wholeness.UNCHECKED, name
    assert safe > len(EXAMPLES) // 2


def encrypted_member() -> Image:
    """A ZIP with two images, whose second is encrypted."""
    archive = zip_archive([("a.raw", vhd_fixed(MIB)), ("b.raw", vhd_fixed(MIB))])
    stored = archive.to_bytes()
    flags = [stored.rindex(b"PK\3\4") + 6, stored.rindex(b"PK\1\2") + 8]
    return archive.patched(flags[0], b"\1").patched(flags[1], b"\1")


@pytest.mark.parametrize(
    ("image", "check"),
    [
        (qcow2(MIB).appended(zip_archive([("b.qcow2", OVERLAY)]).to_bytes()), "ambiguous_format"),
        (vhd_fixed(MIB).patched(0, qcow2(MIB).to_bytes()), "ambiguous_format"),
        (
            tar([("a.raw", vhd_fixed(MIB))]).appended(b"\0" * 512).appended(tar([("b", OVERLAY)]).to_bytes()),
            "trailing_data",
        ),
        (encrypted_member(), "encrypted"),
    ],
    ids=["image and archive", "two images", "two archives", "encrypted member"],
)
def test_no_waiver_makes_an_object_safe_whose_images_were_not_all_inspected(
    tmp_path: Path, image: Image, check: str
) -> None:
    waiver = {**WAIVED, "key": "a*", "check": check, "severity": "critical"}

    report = judged(tmp_path, image, waiver, key="a")

    assert [one.check for one in report.waivers] == [check]
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def test_the_name_of_a_policy_file_is_no_date() -> None:
    """The policy file `default+until:9999.toml` has this name."""
    assert not is_current("5:default+until:9999-0123abcd", "5:default", TODAY)


def test_a_verdict_is_current_until_its_first_waiver_has_ended(tmp_path: Path) -> None:
    report = judged(tmp_path, OVERLAY, {**WAIVED, "until": date(2999, 1, 1)})
    rules = ruleset(load_policy(str(tmp_path / "policy.toml")))

    assert report.ruleset == f"{rules}+until:2999-01-01"
    assert is_current(report.ruleset, rules, date(2999, 1, 1))
    assert not is_current(report.ruleset, rules, date(2999, 1, 2))
    assert not is_current(report.ruleset, f"{rules}x", TODAY)
    assert is_current(rules, rules, date(2999, 1, 2))


def test_an_audit_scans_an_object_again_when_its_waiver_has_ended(tmp_path: Path) -> None:
    report = judged(tmp_path, OVERLAY, {**WAIVED, "until": date(2999, 1, 1)})
    rules = ruleset(load_policy(str(tmp_path / "policy.toml")))
    assert report.size is not None
    listed = Listed("golden/a.qcow2", report.size, etag='"e1"', last_modified=None, version_id="v1")

    assert still_stands(report, listed, rules)
    assert still_stands(report, listed, rules, date(2999, 1, 1))
    assert not still_stands(report, listed, rules, date(2999, 1, 2))


def test_another_policy_makes_all_verdicts_old(tmp_path: Path) -> None:
    before = ruleset(load_policy(written(tmp_path, WAIVED)))
    after = ruleset(load_policy(written(tmp_path, {**WAIVED, "reason": "another"})))

    assert before != after
    assert not is_current(before, after)


@pytest.mark.parametrize(
    ("waiver", "message"),
    [
        ({"until": None}, "waivers[0].until: is required"),
        ({"reason": None}, "waivers[0].reason: is required"),
        ({"reason": ""}, "waivers[0].reason: String should have at least 1 character"),
        ({"bucket": None}, "waivers[0].bucket: is required"),
        ({"until": "2026-12-31"}, "waivers[0].until: is not a date"),
        ({"check": "backingfile"}, "is not a check"),
        ({"check": "zeros"}, "is not a check"),
        ({"key": None}, "must name a key, an etag or a version_id"),
        ({"key": "**"}, "must name a key, an etag or a version_id"),
        ({"key": "?*"}, "must name a key, an etag or a version_id"),
        ({"key": None, "etag": " "}, "names no ETag"),
        ({"version_id": "null"}, "the version null can be replaced"),
        ({"owner": "x"}, "waivers[0].owner: is not a setting here"),
        ({"reason": "a\\u001b[2Jb"}, "must be one line without control characters"),
        *(({"check": check}, f"{check} cannot be waived: {why}") for check, why in NEVER.items()),
    ],
)
def test_a_waiver_that_is_wrong_is_refused(tmp_path: Path, waiver: dict[str, object], message: str) -> None:
    with pytest.raises(FileError, match=message.replace("[", r"\[")):
        load_policy(written(tmp_path, {**WAIVED, **waiver}))


def test_an_event_with_the_longest_waivers_is_small_enough_for_every_sink() -> None:
    """AWS's services accept 256 KiB. JSON needs 12 bytes for each of these characters."""
    long = "\U0001f4a3"
    waivers = tuple(
        Applied(check=check, severity=Severity.CRITICAL, reason=long * 300, by=long * 300, until=TODAY)
        for check in CHECKS
    )
    report = Report(
        target=f"s3://b/{long * 256}",
        bucket="b",
        key=long * 256,
        status=Status.SAFE,
        findings=tuple(found(check, long * 600) for check in CHECKS),
        waivers=waivers,
        scanned_at=datetime.now(UTC),
        scanner="k",
        ruleset="r",
    )

    assert len(Event.of(report, job_id="j").body) < 256 * 1024
