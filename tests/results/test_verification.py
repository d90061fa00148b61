"""The message about an object whose verdict and tags do not agree."""

from dataclasses import dataclass, field

import pytest

from keyhole.reasons import Status
from keyhole.results.tags import own_tags
from keyhole.results.verification import Agreement, Code, Seen, Verification, compare, look
from keyhole.scan.report import Report
from keyhole.sources.errors import TransientError
from tests.results.tag_reports import foreign, report
from tests.servers.model_s3 import Fault, ModelS3

SAFE, UNSAFE = report(), report(Status.UNSAFE)
UNREADABLE = report(Status.UNREADABLE, etag=None)


@dataclass
class Case:
    """An object with the ETag `abc`, its recorded verdict and tags, and which of them Keyhole writes."""

    verdict: Report | None = SAFE
    tags: dict[str, str] = field(default_factory=lambda: own_tags(SAFE))
    etag: str = "abc"
    trouble: str | None = None
    exists: bool = True
    keeps_records: bool = True
    keeps_tags: bool = True

    def found(self) -> tuple[Agreement, list[Code]]:
        """The result of the check."""
        seen = Seen(self.etag, 5, None, self.tags, self.trouble) if self.exists else None
        differences = compare(seen, self.verdict, records=self.keeps_records, tags=self.keeps_tags)
        told = Verification.of("s3://images/a.qcow2", seen, self.verdict, differences)
        return told.state, [difference.code for difference in told.differences]


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(UNSAFE, own_tags(UNSAFE)),
        Case(tags={"owner": "them", **own_tags(SAFE)}),
        Case(tags=foreign(10)),
        Case(tags={**foreign(9), "keyhole-status": "safe"}),
        Case(tags={}, keeps_tags=False),
        Case(tags={}, trouble="denied", keeps_tags=False),
        Case(None, keeps_records=False),
    ],
)
def test_they_agree(case: Case) -> None:
    assert case.found() == (Agreement.AGREE, [])


@pytest.mark.parametrize(
    ("case", "codes"),
    [
        (Case(tags={}), [Code.OTHER_TAGS]),
        (Case(tags=own_tags(UNSAFE)), [Code.OTHER_TAGS]),
        (Case(tags={**own_tags(SAFE), "keyhole-image": "vmdk"}), [Code.OTHER_TAGS]),
        (Case(tags={"keyhole-status": "unsafe"}, keeps_tags=False), [Code.OTHER_TAGS]),
        (Case(tags={**own_tags(SAFE), "Keyhole_Status": "safe"}), [Code.MISSPELT_TAGS]),
        (Case(tags={}, etag="def"), [Code.OTHER_OBJECT]),
        (Case(etag="def"), [Code.OTHER_OBJECT, Code.FORGED_TAGS]),
        (Case(None), [Code.NO_VERDICT, Code.FORGED_TAGS]),
        (Case(UNREADABLE), [Code.NO_VERDICT, Code.FORGED_TAGS]),
        (Case(exists=False), [Code.OTHER_OBJECT]),
        (Case(None, etag="def", keeps_records=False), [Code.OTHER_TAGS]),
    ],
)
def test_they_differ(case: Case, codes: list[Code]) -> None:
    assert case.found() == (Agreement.DIFFER, codes)


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (Case(None, {}), Code.NO_VERDICT),
        (Case(UNREADABLE, {}), Code.NO_VERDICT),
        (Case(None, exists=False), Code.NO_OBJECT),
        (Case(tags={}, trouble="denied"), Code.TAGS_UNREADABLE),
        (Case(None, {}, keeps_records=False), Code.NO_VERDICT),
        (Case(None, {"keyhole-status": "safe"}, keeps_records=False), Code.NO_VERDICT),
    ],
)
def test_it_is_unknown(case: Case, code: Code) -> None:
    assert case.found() == (Agreement.UNKNOWN, [code])


@pytest.mark.parametrize("head", ["senseless", "empty"])
def test_a_look_that_makes_no_sense_is_an_error_of_the_server(
    monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    s3 = ModelS3(versioned=False)
    s3.put(b"x")
    if head == "senseless":
        s3.before = lambda _: Fault.SENSELESS
    else:
        monkeypatch.setattr(s3, "head_object", lambda **_: {})

    with pytest.raises(TransientError, match="is malformed"):
        look(s3, "images", "a", None)  # type: ignore[arg-type] # a model of its client
