"""Policies: what is written counts, what is wrong is named, a profile takes what its importer takes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.demo.images import (
    Image,
    gpt_disk,
    iso,
    luks,
    qcow1,
    qcow2,
    qed,
    vdi,
    vhd_dynamic,
    vhd_fixed,
    vhdx,
    vmdk_sparse,
    vmdk_stream_optimized,
)
from worker.inspectors import CHECKS, Facts, Severity, Wholeness
from worker.inspectors.findings import Finding
from worker.scan.policy import PRECEDENCE, judge
from worker.scan.report import Report, Status
from worker.scan.rules import PROFILES, PolicyError, load_policy, profile_text
from worker.scan.scanner import ScanSettings, Target, scan
from worker.sources.local import open_local

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4

IMAGES = {
    "raw": gpt_disk(8 * MIB),
    "qcow2": qcow2(GIB),
    "fixed vhd": vhd_fixed(8 * MIB),
    "odd fixed vhd": vhd_fixed(8 * MIB + 512),
    "dynamic vhd": vhd_dynamic(GIB),
    "vhdx": vhdx(GIB),
    "sparse vmdk": vmdk_sparse(GIB),
    "stream vmdk": vmdk_stream_optimized(GIB),
    "vdi": vdi(GIB),
    "iso": iso(),
    "luks": luks(GIB),
    "qcow": qcow1(GIB),
    "qed": qed(GIB),
}
TAKEN = {
    "default": set(IMAGES) - {"qcow", "qed", "luks"},
    "openstack": set(IMAGES) - {"qcow", "qed", "luks"},
    "aws-vm-import": {"raw", "fixed vhd", "odd fixed vhd", "dynamic vhd", "vhdx", "stream vmdk"},
    "azure": {"fixed vhd"},
    "gcp": set(),
    "kubevirt": set(IMAGES) - {"qcow", "qed", "luks"},
}


def judged(folder: Path, image: Image, policy: str, name: str = "image") -> Report:
    path = image.write_to(folder / name)
    return scan(Target(name), lambda meter: open_local(path, meter), ScanSettings(policy=load_policy(policy)))


def written(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", IMAGES)
def test_a_profile_takes_what_its_importer_takes(tmp_path: Path, profile: str, name: str) -> None:
    report = judged(tmp_path, IMAGES[name], profile)
    assert (report.status is Status.SAFE) == (name in TAKEN[profile]), report.reasons
    assert report.ruleset == f"2:{profile}"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_names_its_sources(profile: str) -> None:
    assert profile_text(profile).startswith("#")
    assert len(load_policy(profile).rules) == 1


def test_the_first_rule_that_matches_counts_and_the_profile_where_none_does(tmp_path: Path) -> None:
    policy = load_policy(
        written(
            tmp_path,
            """
            [[rules]]
            bucket = "uploads-*"
            key = "*.img"
            formats = ["raw"]
            [[rules]]
            bucket = "uploads-*"
            max_virtual_size = "1 GiB"
            """,
        )
    )
    assert policy.rule_for("uploads-a", "x/y.img").formats == ("raw",)
    assert policy.rule_for("uploads-a", "x/y.IMG").max_virtual_size == GIB
    # What a rule does not say is as the profile has it.
    assert policy.rule_for("uploads-a", "x").formats == load_policy("default").rules[0].formats
    assert policy.rule_for("other", "x.img").max_virtual_size is None


@pytest.mark.parametrize("key", ["a\nb.img", "[x].img", "*.img", "ü/../.img", "\x1b.img"])
def test_hostile_keys_are_matched_as_text(tmp_path: Path, key: str) -> None:
    policy = load_policy(written(tmp_path, '[[rules]]\nkey = "*.img"\nformats = []\n'))
    assert policy.rule_for("b", key).formats == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = \ny = 1", "line 1"),
        ("[[rules]]\n\n[rules.severity\n", "line 3"),
        ('[[rules]]\n[[rules]]\n[[rules]]\nformats = ["qcow3"]', r"rules\[2\].formats: 'qcow3' is no format"),
        ('[[rules]]\nformats = "qcow2"', r"rules\[0\].formats"),
        ("[[rules]]\nmax_virtual_size = '2 TB'", r"rules\[0\].max_virtual_size: '2 TB' is no size"),
        ("[[rules]]\nmax_virtual_size = -1", r"rules\[0\].max_virtual_size"),
        ("[[rules]]\nwholeness = 'maybe'", r"rules\[0\].wholeness"),
        (
            "[[rules]]\n[rules.severity]\nbackingfile = 'info'",
            r"rules\[0\].severity: 'backingfile' is no check",
        ),
        ("[[rules]]\n[rules.severity]\nbacking_file = 'fatal'", r"rules\[0\].severity.backing_file"),
        ("[[rules]]\nmax_size = 1", r"rules\[0\].max_size"),
        ("profile = 'gce'", "profile"),
        ("rule = []", "rule"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as raised:
        load_policy(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "nowhere.toml", "defaults", "a\0b"])
def test_what_is_no_policy_is_told_with_what_there_is(name: str) -> None:
    with pytest.raises(PolicyError, match="neither a profile"):
        load_policy(name)


def test_a_changed_file_is_another_ruleset(tmp_path: Path) -> None:
    one = load_policy(written(tmp_path, "[[rules]]\nmax_virtual_size = 1\n")).name
    load_policy.cache_clear()
    assert load_policy(written(tmp_path, "[[rules]]\nmax_virtual_size = 2\n")).name != one


def test_a_disk_larger_than_the_policy_takes_is_rejected(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\nmax_virtual_size = "1 TiB"\n')
    assert judged(tmp_path, qcow2(TIB), policy).status is Status.SAFE
    report = judged(tmp_path, qcow2(TIB + 65536), policy)
    assert (report.status, report.reasons) == (Status.REJECTED, ("virtual_size_limit",))


def test_a_disk_of_unknown_size_is_not_below_a_limit(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\nmax_virtual_size = "1 TiB"\n')
    assert judged(tmp_path, qcow2(0), policy).reasons == ("virtual_size_limit",)
    assert judged(tmp_path, qcow2(0), "default").status is Status.SAFE


def test_a_rule_can_take_what_is_rejected_and_refuse_what_is_information(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\n[rules.severity]\nencrypted = "info"\nsnapshots = "critical"\n')
    report = judged(tmp_path, qcow2(GIB, encryption=1), policy)
    assert report.status is Status.SAFE
    # It stays in the report.
    assert [finding.check for finding in report.findings] == ["encrypted"]
    assert judged(tmp_path, qcow2(GIB, snapshots=1), policy).status is Status.UNSAFE


def test_a_rule_can_ask_for_proof(tmp_path: Path) -> None:
    sampled = vmdk_sparse(100 * GIB)
    assert judged(tmp_path, sampled, "default").status is Status.SAFE
    report = judged(tmp_path, sampled, written(tmp_path, '[[rules]]\nwholeness = "proven"\n'))
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def test_what_cannot_be_proven_needs_no_proof_unless_a_rule_says_so(tmp_path: Path) -> None:
    encrypted = '[[rules]]\n[rules.severity]\nencrypted = "info"\n'
    assert judged(tmp_path, luks(GIB), written(tmp_path, encrypted)).status is Status.SAFE
    load_policy.cache_clear()
    strict = encrypted.replace("[[rules]]", '[[rules]]\nwholeness = "sampled"')
    assert judged(tmp_path, luks(GIB), written(tmp_path, strict)).status is Status.INCONCLUSIVE


findings = st.builds(
    Finding, st.sampled_from(sorted(CHECKS)), st.sampled_from(list(Severity)), st.just("a sentence")
)


@given(st.lists(findings, max_size=6), findings)
def test_another_finding_never_makes_a_verdict_safer(some: list[Finding], another: Finding) -> None:
    order = [*PRECEDENCE, Status.SAFE]

    def verdict(of: list[Finding]) -> int:
        facts = Facts("qcow2", None, GIB, GIB, (), findings=tuple(of), wholeness=Wholeness.PROVEN)
        return order.index(judge(facts)[0])

    assert verdict([*some, another]) <= verdict(some)
