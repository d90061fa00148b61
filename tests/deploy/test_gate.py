"""The bucket policies that prevent everyone from reading objects that are not safe.

The policy for Ceph is tested on a real server (`tests/ceph/test_gate.py`). The policy for AWS is checked
here: its actions with cfn-lint's list, and its logic with AWS's rules for the few operators that it uses.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from keyhole.results.tags import STATUS
from tests.deploy.bucket_policy import policy_denies

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
GATES = {name: json.loads((DEPLOY / name).read_text()) for name in ("gate.json", "gate-ceph.json")}
KEYHOLE = "arn:aws:iam::111122223333:role/keyhole"
SOMEBODY = "arn:aws:iam::111122223333:user/somebody"
#: Condition keys, from AWS's Service Authorization Reference, and for Ceph from its documentation.
CONDITION_KEYS = {
    "gate.json": {f"s3:ExistingObjectTag/{STATUS}", "s3:RequestObjectTagKeys", "aws:PrincipalArn"},
    "gate-ceph.json": {
        f"s3:ExistingObjectTag/{STATUS}",
        f"s3:RequestObjectTag/{STATUS}",
        "s3:x-amz-copy-source",
    },
}
TAGGING = [f"s3:{verb}Object{version}Tagging" for verb in ("Put", "Delete") for version in ("", "Version")]


@pytest.mark.parametrize("name", GATES)
def test_it_denies_and_allows_nothing(name: str) -> None:
    assert GATES[name].keys() == {"Version", "Statement"}
    assert GATES[name]["Version"] == "2012-10-17"
    for statement in GATES[name]["Statement"]:
        assert statement["Effect"] == "Deny"
        assert statement.keys() - {"Principal", "NotPrincipal", "Condition"} == {
            *("Sid", "Effect", "Action", "Resource")
        }
        assert ("Principal" in statement) != ("NotPrincipal" in statement)


@pytest.mark.parametrize("name", GATES)
def test_its_actions_and_conditions_are_known(name: str) -> None:
    # Importing cfn-lint takes a second.
    cfnlint = find_spec("cfnlint")
    assert cfnlint is not None
    (folder,) = cfnlint.submodule_search_locations or ()
    specification = Path(folder, "data", "AdditionalSpecs", "Policies.json").read_text()
    known = json.loads(specification)["s3"]["Actions"]
    conditions = set()
    for statement in GATES[name]["Statement"]:
        for action in [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]:
            assert action.removeprefix("s3:").lower() in known
        for keys in statement.get("Condition", {}).values():
            conditions |= keys.keys()
    assert conditions == CONDITION_KEYS[name]


def denies(action: str, principal: str, context: Mapping[str, str] | None = None) -> bool:
    return policy_denies(GATES["gate.json"], action, principal, context)


class TestTheLogicOfAws:
    @pytest.mark.parametrize("action", ["s3:GetObject", "s3:GetObjectVersion"])
    def test_only_what_is_safe_is_read(self, action: str) -> None:
        assert denies(action, SOMEBODY)
        assert denies(action, SOMEBODY, {f"s3:ExistingObjectTag/{STATUS}": "unsafe"})
        assert denies(action, SOMEBODY, {f"s3:ExistingObjectTag/{STATUS}": "Safe"})
        assert not denies(action, SOMEBODY, {f"s3:ExistingObjectTag/{STATUS}": "safe"})
        assert not denies(action, KEYHOLE)

    @pytest.mark.parametrize("action", TAGGING)
    def test_only_keyhole_writes_tags(self, action: str) -> None:
        assert denies(action, SOMEBODY)
        assert not denies(action, KEYHOLE)

    def test_no_upload_brings_tags(self) -> None:
        assert denies("s3:PutObject", SOMEBODY, {"s3:RequestObjectTagKeys": "anything"})
        assert not denies("s3:PutObject", SOMEBODY)
        assert not denies("s3:PutObject", KEYHOLE, {"s3:RequestObjectTagKeys": STATUS})

    def test_nothing_else_is_denied(self) -> None:
        assert not denies("s3:DeleteObject", SOMEBODY)
        assert not denies("s3:GetObjectTagging", SOMEBODY)
