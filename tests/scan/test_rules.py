"""Policies: rules have an effect, mistakes are named, and a profile accepts what its importer accepts."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.builders import (
    Image,
    luks,
    qcow2,
    vmdk_sparse,
)
from keyhole.inspectors import CHECKS, Facts, Severity, Wholeness
from keyhole.inspectors.findings import Finding
from keyhole.reasons import Status, meaning
from keyhole.scan.declared import Declared
from keyhole.scan.policy import PRECEDENCE, RULESET, apply, judge
from keyhole.scan.profile_names import PROFILES
from keyhole.scan.report import Report
from keyhole.scan.reporter import Target
from keyhole.scan.rules import Rule, load_policy, profile_text
from keyhole.scan.scanner import scan
from keyhole.scan.settings import ScanSettings
from keyhole.sources.local import open_local
from keyhole.toml_files import FileError
from tests.examples import EXAMPLES

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4

#: Example images, and the size of each disk.
DISKS = {
    **dict.fromkeys(["gpt", "vhd fixed"], 8 * MIB),
    **dict.fromkeys(["qcow2", "vhd dynamic", "vhdx", "vmdk sparse", "vmdk stream", "vdi"], GIB),
    **dict.fromkeys(["luks1", "asif", "qcow", "qed"], GIB),
    "iso, plain": MIB,
}
IMAGES = {
    **{name: EXAMPLES[name].build(size, 3) for name, size in DISKS.items()},
    "odd fixed vhd": EXAMPLES["vhd fixed"].build(8 * MIB + 512, 0),
    "huge vhdx": EXAMPLES["vhdx"].build(16 * TIB, 0),
}
TAKEN = {
    "default": set(IMAGES) - {"qcow", "qed", "luks1", "asif"},
    "openstack": set(IMAGES) - {"qcow", "qed", "luks1", "asif"},
    "aws-vm-import": {"gpt", "vhd fixed", "odd fixed vhd", "vhd dynamic", "vhdx", "vmdk stream"},
    "azure": {"vhd fixed"},
    "gcp": set(),
    "kubevirt": set(IMAGES) - {"qcow", "qed", "luks1", "asif"},
}
#: The reasons for refusals that depend on more than the image's format.
REFUSALS = {
    ("azure", "odd fixed vhd"): ("virtual_size_multiple",),
    ("azure", "vhd dynamic"): ("banned_format",),
    ("aws-vm-import", "vmdk sparse"): ("banned_format",),
    ("aws-vm-import", "huge vhdx"): ("virtual_size_limit",),
    ("gcp", "gpt"): ("banned_format", "virtual_size_multiple"),
    ("default", "asif"): ("wholeness_unchecked",),
    ("default", "luks1"): ("encrypted",),
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
    assert report.ruleset == f"{RULESET}:{profile}"


@pytest.mark.parametrize(("profile", "name"), REFUSALS)
def test_a_refusal_has_its_reason(tmp_path: Path, profile: str, name: str) -> None:
    assert judged(tmp_path, IMAGES[name], profile).reasons == REFUSALS[profile, name]


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
    # The profile decides what a rule omits.
    assert policy.rule_for("uploads-a", "x").formats == load_policy("default").rules[0].formats
    assert policy.rule_for("other", "x.img").max_virtual_size is None


@pytest.mark.parametrize("key", ["a\nb.img", "[x].img", "*.img", "ü/../.img", "\x1b.img"])
def test_hostile_keys_are_matched_as_text(tmp_path: Path, key: str) -> None:
    policy = load_policy(written(tmp_path, '[[rules]]\nkey = "*.img"\nformats = []\n'))
    assert policy.rule_for("b", key).formats == ()


@pytest.mark.parametrize(
    ("glob", "key", "matches"),
    [
        ("**", "a/b\nc", True),
        ("uploads/*", "uploads/a/b.img", True),
        ("uploads/**.img", "uploads/a/b.img", True),
        ("[[]x]*", "[x].img", True),
        ("[x]*", "[x].img", False),
        ("[", "[", True),
        ("a?c", "a\nc", True),
        ("a*", "A", False),
        ("a", "a\n", False),
        (".*", "x", False),
        ("a" + "*a" * 40 + "b", "a" * 1000, False),
    ],
)
def test_what_a_glob_matches(glob: str, key: str, matches: bool) -> None:
    assert Rule(key=glob).is_for("bucket", key) is matches


@pytest.mark.parametrize(("glob", "matches"), [("*", True), ("images", False), ("", True)])
def test_a_file_is_in_no_bucket(glob: str, matches: bool) -> None:
    assert Rule(bucket=glob).is_for(None, "disk.img") is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = \ny = 1", r": line 1: is not TOML: Invalid value in column 5$"),
        ("[[rules]]\n\n[rules.severity\n", "line 3"),
        (
            '[[rules]]\n[[rules]]\n[[rules]]\nformats = ["qcow3"]',
            r"rules\[2\].formats\[0\]: 'qcow3' is not a format",
        ),
        ('[[rules]]\nformats = "qcow2"', r"rules\[0\].formats"),
        ("[[rules]]\nmax_virtual_size = '2 TB'", r"rules\[0\].max_virtual_size: '2 TB' is not a size"),
        ("[[rules]]\nmax_virtual_size = -1", r"rules\[0\].max_virtual_size"),
        ("[[rules]]\nmax_virtual_size = true", r"rules\[0\].max_virtual_size"),
        ("[[rules]]\nvirtual_size_multiple = 1.0", r"rules\[0\].virtual_size_multiple"),
        ("[[rules]]\ncompare_declared = 'no'", r"rules\[0\].compare_declared"),
        ('"a\\nb" = 1', r"a\\nb"),
        (f"x = {'[' * 5000}", "is not TOML"),
        ("[[rules]]\nwholeness = 'maybe'", r"rules\[0\].wholeness"),
        (
            "[[rules]]\n[rules.severity]\nbackingfile = 'info'",
            r"rules\[0\].severity.backingfile: 'backingfile' is not a check",
        ),
        ("[[rules]]\n[rules.severity]\nbacking_file = 'fatal'", r"rules\[0\].severity.backing_file"),
        ("[[rules]]\nmax_size = 1", r"rules\[0\].max_size"),
        ("profile = 'gce'", "profile"),
        ("rule = []", "rule"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message) as raised:
        load_policy(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["", "nowhere.toml", "defaults", "a\0b"])
def test_what_is_no_policy_is_told_with_what_there_is(name: str) -> None:
    with pytest.raises(FileError, match="neither a profile"):
        load_policy(name)


def test_a_changed_file_is_another_ruleset(tmp_path: Path) -> None:
    one = load_policy(written(tmp_path, "[[rules]]\nmax_virtual_size = 1\n")).name
    assert load_policy(written(tmp_path, "[[rules]]\nmax_virtual_size = 2\n")).name != one


def test_a_disk_larger_than_the_policy_takes_is_rejected(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\nmax_virtual_size = "1 TiB"\n')
    assert judged(tmp_path, qcow2(TIB), policy).status is Status.SAFE
    report = judged(tmp_path, qcow2(TIB + 65536), policy)
    assert (report.status, report.reasons) == (Status.REJECTED, ("virtual_size_limit",))


def test_a_disk_of_unknown_size_is_not_below_a_limit(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\nmax_virtual_size = "1 TiB"\n')
    assert judged(tmp_path, qcow2(0), policy).reasons == ("virtual_size_limit",)
    assert judged(tmp_path, qcow2(0), "default").reasons == ("size_unknown",)


@pytest.mark.parametrize(
    ("rule", "wants"),
    [
        ("max_virtual_size = 4096", "accepts at most 4096 bytes"),
        ("virtual_size_multiple = 512", "requires a multiple of 512 bytes"),
        ("max_virtual_size = 4096\nvirtual_size_multiple = 512", "accepts at most 4096 bytes"),
    ],
)
def test_the_sentences_about_a_size_fit_if_it_is_unknown(tmp_path: Path, rule: str, wants: str) -> None:
    report = judged(tmp_path, qcow2(0), written(tmp_path, f"[[rules]]\n{rule}\n"))

    messages = [one.message for one in report.findings if one.check == "virtual_size_limit"]
    assert messages == [f"the size of the disk is unknown or zero, and the policy {wants}"]
    assert meaning("virtual_size_limit").endswith("or the policy limits its size, which is unknown")


def test_the_maps_of_a_format_that_is_rejected_are_read_because_they_can_be_unsafe(tmp_path: Path) -> None:
    """With a sample of the L2 tables, the object would only be rejected. The entry points at the L1 table."""
    image = qcow2(200 * GIB, allocated=range(0, 200 * GIB // 65536, 8192))
    l1 = int.from_bytes(image.read(40, 8), "big")
    table = int.from_bytes(image.read(l1 + 8, 8), "big") & ~(1 << 63)
    hidden = image.patched(table + 8 * 7, (l1 | 1 << 63).to_bytes(8, "big"))
    sampled = written(tmp_path, '[[rules]]\nformats = ["vhd:fixed"]\n')

    assert judged(tmp_path, hidden, sampled).reasons == ("banned_format",)
    report = judged(tmp_path, hidden, "azure")
    assert (report.status, report.reasons[0]) == (Status.UNSAFE, "metadata_overlap")
    assert "banned_format" in report.reasons


def test_a_rule_can_take_what_is_rejected_and_refuse_what_is_information(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\n[rules.severity]\nencrypted = "info"\nsnapshots = "critical"\n')
    report = judged(tmp_path, qcow2(GIB, encryption=1), policy)
    assert report.status is Status.SAFE
    # The finding stays in the report.
    assert [finding.check for finding in report.findings] == ["encrypted"]
    assert judged(tmp_path, qcow2(GIB, snapshots=1), policy).status is Status.UNSAFE


def test_a_rule_that_makes_unsafe_information_is_obeyed_and_the_report_still_tells(tmp_path: Path) -> None:
    policy = written(tmp_path, '[[rules]]\n[rules.severity]\nbacking_file = "info"\n')
    report = judged(tmp_path, qcow2(GIB, backing_file="base.qcow2"), policy)
    assert report.status is Status.SAFE
    assert [(finding.check, finding.severity) for finding in report.findings] == [
        ("backing_file", Severity.INFO)
    ]


def test_a_severity_that_a_rule_does_not_state_is_the_profiles(tmp_path: Path) -> None:
    policy = 'profile = "aws-vm-import"\n[[rules]]\n[rules.severity]\ndirty = "info"\n'
    rule = load_policy(written(tmp_path, policy)).rules[0]
    assert rule.severity == {"dirty": Severity.INFO, "encrypted": Severity.ERROR}


@pytest.mark.parametrize(
    ("facts", "findings"),
    [
        (Facts("vmdk", None, None, GIB, (), complete=False), []),
        (Facts("vmdk", None, None, GIB, ()), ["banned_format", "virtual_size_limit"]),
        (Facts("vmdk", "monolithicSparse", None, GIB, (), complete=False), ["banned_format"]),
        (Facts("qcow2", None, None, GIB, (), complete=False), ["banned_format"]),
        (Facts("vmdk", "streamOptimized", 2 * GIB, GIB, (), complete=False), ["virtual_size_limit"]),
        (Facts(None, None, None, GIB, ()), []),
    ],
)
def test_of_what_was_not_seen_nothing_is_said(facts: Facts, findings: list[str]) -> None:
    rule = Rule(formats=("vmdk:streamOptimized",), max_virtual_size=GIB)
    assert [finding.check for finding in apply(rule, facts, Declared()).findings] == findings


def messages(rule: Rule, facts: Facts, around: tuple[str, ...] = ()) -> list[str]:
    return [finding.message for finding in apply(rule, facts, Declared(), around).findings]


RAW = Facts("raw", None, GIB, GIB, ())
DYNAMIC = Facts("vhd", "dynamic", GIB, GIB, ())


@pytest.mark.parametrize(
    ("profile", "facts", "accepted"),
    [
        ("azure", RAW, "raw; it accepts vhd (fixed)"),
        ("azure", DYNAMIC, "vhd (dynamic); it accepts vhd (fixed)"),
        (
            "aws-vm-import",
            replace(DYNAMIC, subformat="differencing"),
            (
                "vhd (differencing); it accepts vhd (fixed, dynamic), ova, raw, vmdk (streamOptimized) "
                "and vhdx (fixed, dynamic)"
            ),
        ),
        (
            "default",
            replace(RAW, format="qed"),
            "qed; it accepts raw, qcow2, vhd, vhdx, vmdk, vdi, parallels, luks and 16 others",
        ),
    ],
)
def test_a_refused_format_is_told_with_what_the_policy_accepts(
    profile: str, facts: Facts, accepted: str
) -> None:
    assert f"the policy does not accept {accepted}" in messages(load_policy(profile).rules[0], facts)


@pytest.mark.parametrize(
    ("formats", "accepted"),
    [((), "no format"), (("vhd:fixed", "vhd", "qcow2", "vhd"), "vhd and qcow2"), (("iso",), "iso")],
)
def test_what_a_rule_accepts_is_told_once_and_without_variants_that_do_not_matter(
    formats: tuple[str, ...], accepted: str
) -> None:
    assert messages(Rule(formats=formats), RAW) == [f"the policy does not accept raw; it accepts {accepted}"]


@pytest.mark.parametrize(
    ("containers", "around", "told"),
    [
        (("gzip/tar",), (), "outside a container; it accepts disks inside gzip/tar"),
        (
            ("gzip/tar", "bare"),
            ("zip",),
            "inside zip; it accepts disks outside a container and inside gzip/tar",
        ),
        ((), (), "outside a container; it accepts disks nowhere"),
    ],
)
def test_a_refused_place_is_told_with_the_places_that_the_policy_accepts(
    containers: tuple[str, ...], around: tuple[str, ...], told: str
) -> None:
    assert messages(Rule(containers=containers), RAW, around) == [f"the policy does not accept a disk {told}"]


def test_a_rule_can_ask_for_proof(tmp_path: Path) -> None:
    sampled = vmdk_sparse(200 * GIB)
    assert judged(tmp_path, sampled, "default").status is Status.SAFE
    report = judged(tmp_path, sampled, written(tmp_path, '[[rules]]\nwholeness = "proven"\n'))
    assert (report.status, report.reasons) == (Status.INCONCLUSIVE, ("wholeness_unchecked",))


def test_what_cannot_be_proven_needs_no_proof_unless_a_rule_says_so(tmp_path: Path) -> None:
    encrypted = '[[rules]]\n[rules.severity]\nencrypted = "info"\n'
    assert judged(tmp_path, luks(GIB), written(tmp_path, encrypted)).status is Status.SAFE
    strict = encrypted.replace("[[rules]]", '[[rules]]\nwholeness = "sampled"')
    assert judged(tmp_path, luks(GIB), written(tmp_path, strict)).status is Status.INCONCLUSIVE


findings = st.builds(
    Finding, st.sampled_from(sorted(CHECKS)), st.sampled_from(list(Severity)), st.just("a sentence")
)


rules = st.builds(
    Rule,
    formats=st.sampled_from([None, (), ("qcow2",), ("raw", "vmdk:streamOptimized")]),
    max_virtual_size=st.sampled_from([None, 1, TIB]),
    virtual_size_multiple=st.sampled_from([None, MIB]),
    wholeness=st.sampled_from(["proven", "sampled", "provable", "unchecked"]),
    severity=st.dictionaries(st.sampled_from(sorted(CHECKS)), st.sampled_from(list(Severity)), max_size=4),
    compare_declared=st.booleans(),
)
images = st.builds(
    Facts,
    st.sampled_from([None, "raw", "qcow2", "vmdk", "luks"]),
    st.sampled_from([None, "streamOptimized"]),
    st.sampled_from([None, 0, GIB, GIB + 1]),
    st.sampled_from([0, GIB]),
    st.just(()),
    wholeness=st.sampled_from(Wholeness),
    complete=st.booleans(),
)
sayings = st.builds(
    Declared,
    st.sampled_from([None, "disk.raw", "disk.qcow2"]),
    st.sampled_from([None, "application/x-qemu-disk"]),
    st.sampled_from([(), (("disk_format", "raw"),)]),
)


@given(st.lists(findings, max_size=6), findings, rules, images, sayings)
def test_another_finding_never_makes_a_verdict_safer(
    some: list[Finding], another: Finding, rule: Rule, image: Facts, declared: Declared
) -> None:
    order = [*PRECEDENCE, Status.SAFE]

    def verdict(of: list[Finding]) -> int:
        facts = apply(rule, replace(image, findings=tuple(of)), declared)
        return order.index(judge(facts, None, rule)[0])

    assert verdict([*some, another]) <= verdict(some)
