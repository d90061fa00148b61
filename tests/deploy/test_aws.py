"""The CloudFormation template and the policies as JSON are the same, and permit only what the pages say."""

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import cfnlint
import pytest

from tests.deploy.bucket_policy import policy_denies
from tests.deploy.cloudformation import ACCOUNT, FOLDER, GIVEN, TEMPLATE, Stack
from tests.pages import REFERENCE, ROOT, rows

#: The policies that are also files, by the name of the file.
RESOURCES = {
    "dead-letters": "DeadLettersPolicy",
    "decrypt": "DecryptPolicy",
    "eventbridge": "EventBridgePolicy",
    "gate": "BucketPolicy",
    "listener": "ListenerPolicy",
    "queue": "QueuePolicy",
    "reader": "ReaderPolicy",
    "sink-key": "SinkKeyPolicy",
    "sns": "SnsPolicy",
    "sqs": "SqsPolicy",
    "tagger": "TaggerPolicy",
}
POLICIES = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("policies/*.json")
}
#: The names in the files, and the values of the template for which they stand.
NAMES = {
    "Bucket": "${bucket}",
    "Prefix": "${prefix}",
    "KmsKeyArn": "${kms_key_arn}",
    "SnsTopicArn": "${sns_topic_arn}",
    "EventBusArn": "${event_bus_arn}",
    "SqsQueueArn": "${sqs_queue_arn}",
    "SinkKeyArn": "${sink_key_arn}",
    "AWS::AccountId": "${account}",
    "Queue.Arn": "${queue_arn}",
    "DeadLetters.Arn": "${dead_letters_arn}",
    "Uploads.Arn": "${rule_arn}",
    "ReaderRole.Arn": "${reader_role_arn}",
    "TaggerRole.Arn": "${tagger_role_arn}",
}
PAGE = REFERENCE["aws"]
ISSUER = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def actions(policy: Mapping[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in listed(statement["Action"])}


def permissions(cells: Iterable[str]) -> set[str]:
    return set(re.findall(r"`((?:s3|sqs|kms):\w+)`", " ".join(cells)))


def stack(**parameters: object) -> Stack:
    return Stack(**{"Bucket": "images", **parameters})


class TestThePoliciesAsJson:
    def test_there_is_one_for_each_policy_of_the_template(self) -> None:
        """And one more: the policy for SQS as the broker, which the template does not make."""
        in_template = {
            name for name, one in TEMPLATE["Resources"].items() if "PolicyDocument" in one["Properties"]
        }
        assert set(RESOURCES.values()) == in_template
        assert POLICIES.keys() == {*RESOURCES, "broker"}

    @pytest.mark.parametrize("name", RESOURCES)
    def test_it_is_the_policy_of_the_template(self, name: str) -> None:
        assert POLICIES[name] == Stack(**NAMES).policy(RESOURCES[name])

    def test_without_a_prefix_only_the_condition_of_the_reader_differs(self) -> None:
        expected = json.loads(json.dumps(POLICIES["reader"]).replace("${prefix}", ""))
        del expected["Statement"][1]["Condition"]
        assert Stack(**NAMES | {"Prefix": ""}).policy("ReaderPolicy") == expected

    def test_every_action_exists(self) -> None:
        known = json.loads(files(cfnlint).joinpath("data/AdditionalSpecs/Policies.json").read_text())
        for name, policy in POLICIES.items():
            for action in actions(policy):
                service, _, verb = action.partition(":")
                assert verb.lower() in known[service]["Actions"], (name, action)


class TestThePermissions:
    @pytest.mark.parametrize("role", ["Reader", "Tagger", "Listener"])
    def test_a_role_may_do_what_the_page_says_and_nothing_else(self, role: str) -> None:
        table = {row[0].strip("`"): permissions(row[2:]) for row in rows(PAGE, "role")}
        if role == "Tagger":
            table["TaggerRole"] |= table["ReaderRole"]
        attached = [
            name
            for name, one in TEMPLATE["Resources"].items()
            if {"Ref": f"{role}Role"} in one["Properties"].get("Roles", []) and stack().has(name)
        ]
        policies = [name for name in attached if name.endswith("Policy")]
        allowed = set().union(*(actions(stack().policy(name)) for name in policies))
        assert allowed == table[f"{role}Role"]

    def test_with_a_key_the_reader_and_the_tagger_decrypt_with_it(self) -> None:
        key = "arn:aws:kms:eu-central-1:111122223333:key/a"
        with_key = stack(KmsKeyArn=key)
        assert (with_key.has("DecryptPolicy"), stack().has("DecryptPolicy")) == (True, False)
        properties = with_key.properties("DecryptPolicy")
        assert properties["Roles"] == [{"Ref": "ReaderRole"}, {"Ref": "TaggerRole"}]
        (statement,) = properties["PolicyDocument"]["Statement"]
        assert (statement["Action"], statement["Resource"]) == ("kms:Decrypt", key)

    @pytest.mark.parametrize(
        ("parameter", "policy", "sink"),
        [
            ("SnsTopicArn", "SnsPolicy", "sns"),
            ("EventBusArn", "EventBridgePolicy", "eventbridge"),
            ("SqsQueueArn", "SqsPolicy", "sqs"),
            ("SinkKeyArn", "SinkKeyPolicy", None),
        ],
    )
    def test_workers_may_send_verdicts_to_a_sink_that_a_parameter_names(
        self, parameter: str, policy: str, sink: str | None
    ) -> None:
        with_sink = stack(**{parameter: "arn:of:it"})
        assert (with_sink.has(policy), stack().has(policy)) == (True, False)
        properties = with_sink.properties(policy)
        assert properties["Roles"] == [{"Ref": "ReaderRole"}, {"Ref": "TaggerRole"}]
        (statement,) = properties["PolicyDocument"]["Statement"]
        assert statement["Resource"] == "arn:of:it"
        if sink is None:
            assert set(statement["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
        else:
            page = {row[0].strip("`"): row[2].strip("`") for row in rows(REFERENCE["notifications"], "sink")}
            assert statement["Action"] == page[sink]

    def test_they_are_those_that_the_page_on_security_lists(self) -> None:
        told = permissions(cell for row in rows(REFERENCE["security"], "for") for cell in row)
        names = ("reader", "tagger", "decrypt")
        assert set().union(*(actions(POLICIES[name]) for name in names)) == told

    def test_they_end_at_the_bucket_the_prefix_and_the_queue(self) -> None:
        of_prefix = stack(Prefix="uploads/")
        read, list_ = of_prefix.policy("ReaderPolicy")["Statement"]
        assert read["Resource"] == "arn:aws:s3:::images/uploads/*"
        assert list_["Resource"] == "arn:aws:s3:::images"
        assert list_["Condition"] == {"StringLike": {"s3:prefix": "uploads/*"}}
        (tag,) = of_prefix.policy("TaggerPolicy")["Statement"]
        assert tag["Resource"] == "arn:aws:s3:::images/uploads/*"
        (listen,) = of_prefix.policy("ListenerPolicy")["Statement"]
        assert listen["Resource"] == GIVEN["Queue.Arn"]


class TestTheTrust:
    @pytest.mark.parametrize(
        ("trust", "service", "condition"),
        [
            ("ec2", "ec2.amazonaws.com", None),
            ("ecs", "ecs-tasks.amazonaws.com", {"StringEquals": {"aws:SourceAccount": ACCOUNT}}),
        ],
    )
    def test_a_service_takes_the_role(self, trust: str, service: str, condition: object) -> None:
        for role in ("ReaderRole", "TaggerRole", "ListenerRole"):
            (statement,) = stack(Trust=trust).properties(role)["AssumeRolePolicyDocument"]["Statement"]
            assert statement["Principal"] == {"Service": service}
            assert statement["Action"] == "sts:AssumeRole"
            assert statement.get("Condition") == condition

    @pytest.mark.parametrize(
        ("role", "account"),
        [("Reader", "keyhole-reader"), ("Tagger", "keyhole-worker"), ("Listener", "keyhole-listener")],
    )
    def test_one_service_account_takes_the_role(self, role: str, account: str) -> None:
        properties = stack(Trust="irsa", OidcProvider=ISSUER, Namespace="disks").properties(f"{role}Role")
        (statement,) = json.loads(properties["AssumeRolePolicyDocument"])["Statement"]
        assert statement["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"}
        assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert statement["Condition"] == {
            "StringEquals": {
                f"{ISSUER}:aud": "sts.amazonaws.com",
                f"{ISSUER}:sub": f"system:serviceaccount:disks:{account}",
            }
        }

    def test_only_instances_have_a_profile(self) -> None:
        assert stack(Trust="ec2").has("TaggerProfile")
        assert not stack(Trust="ecs").has("TaggerProfile")


class TestTheQueue:
    @pytest.mark.parametrize(
        ("policy", "queue"), [("QueuePolicy", "Queue"), ("DeadLettersPolicy", "DeadLetters")]
    )
    def test_only_the_rule_of_this_account_sends(self, policy: str, queue: str) -> None:
        assert stack().properties(policy)["Queues"] == [{"Ref": queue}]
        (statement,) = stack().policy(policy)["Statement"]
        assert statement["Principal"] == {"Service": "events.amazonaws.com"}
        assert statement["Resource"] == GIVEN[f"{queue}.Arn"]
        assert statement["Condition"] == {
            "ArnEquals": {"aws:SourceArn": GIVEN["Uploads.Arn"]},
            "StringEquals": {"aws:SourceAccount": ACCOUNT},
        }

    def test_both_queues_are_encrypted(self) -> None:
        for queue in ("Queue", "DeadLetters"):
            assert stack().properties(queue)["SqsManagedSseEnabled"] is True


class TestTheGate:
    def test_it_is_off_unless_it_is_wanted(self) -> None:
        assert not stack().has("BucketPolicy")
        assert stack(Gate="on").has("BucketPolicy")

    def test_the_reader_only_reads_and_the_tagger_also_tags(self) -> None:
        policy = stack(Gate="on").policy("BucketPolicy")
        reader, tagger = str(GIVEN["ReaderRole.Arn"]), str(GIVEN["TaggerRole.Arn"])
        somebody = "arn:aws:iam::111122223333:user/somebody"
        for action in ("s3:GetObject", "s3:GetObjectVersion"):
            denied = [policy_denies(policy, action, who) for who in (reader, tagger, somebody)]
            assert denied == [False, False, True]
        for action in ("s3:PutObjectTagging", "s3:DeleteObjectVersionTagging"):
            denied = [policy_denies(policy, action, who) for who in (reader, tagger, somebody)]
            assert denied == [True, False, True]

    @pytest.mark.parametrize(("status", "denied"), [("safe", False), ("rejected", False), ("unsafe", True)])
    def test_only_allowed_statuses_can_be_read(self, status: str, *, denied: bool) -> None:
        policy = stack(AllowedStatuses=["safe", "rejected"]).policy("BucketPolicy")
        context = {"s3:ExistingObjectTag/keyhole-status": status}
        somebody = "arn:aws:iam::111122223333:user/somebody"
        assert policy_denies(policy, "s3:GetObject", somebody, context) == denied
        assert policy_denies(policy, "s3:GetObject", somebody)

    def test_with_one_role_it_is_the_gate_of_the_readme(self) -> None:
        role = "arn:aws:iam::111122223333:role/keyhole"
        text = json.dumps(POLICIES["gate"]).replace("${bucket}", "images").replace("${prefix}", "")
        text = re.sub(r"\$\{(reader|tagger)_role_arn\}", role, text).replace(
            json.dumps([role, role]), f'"{role}"'
        )
        assert json.loads(text) == json.loads((ROOT / "deploy" / "gate.json").read_text(encoding="utf-8"))


def test_the_page_lists_every_parameter() -> None:
    told = [name for row in rows(PAGE, "parameter") for name in re.findall("`([^`]+)`", row[0])]
    assert told == list(TEMPLATE["Parameters"])
