"""The CloudFormation stack in moto: an upload becomes a tag, and moto checks the permissions of the roles.

moto ignores bucket policies and queue policies in a template. `test_aws.py` and `test_gate.py` check these.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from keyhole.builders import qcow2
from tests.deploy.aws_account import Account, refused, simulated_account
from tests.deploy.cloudformation import PATH
from tests.e2e import commands
from tests.metrics.pages import fetched, value
from tests.pages import REFERENCE, ROOT
from tests.ports import free_port
from tests.tools import environment, need

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with simulated_account(tmp_path) as found:
        yield found


def test_an_upload_becomes_a_tag_with_only_the_permissions_of_the_roles(
    account: Account, valkey_url: str, tmp_path: Path
) -> None:
    s3 = account.client("s3")
    s3.create_bucket(Bucket="images")
    topic = account.client("sns").create_topic(Name="verdicts")["TopicArn"]
    bus = account.client("events").create_event_bus(Name="verdicts")["EventBusArn"]
    sink = account.client("sqs").create_queue(QueueName="verdicts")["QueueUrl"]
    s3.put_bucket_versioning(Bucket="images", VersioningConfiguration={"Status": "Enabled"})
    account.client("cloudformation").create_stack(
        StackName="keyhole",
        TemplateBody=PATH.read_text(encoding="utf-8"),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in {
                "Bucket": "images",
                "Prefix": "uploads/",
                "Trust": "irsa",
                "OidcProvider": "oidc.eks.us-east-1.amazonaws.com/id/EXAMPLE",
                "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/a",
                "Gate": "on",
                "SnsTopicArn": topic,
                "EventBusArn": bus,
                "SqsQueueArn": "arn:aws:sqs:us-east-1:123456789012:verdicts",
            }.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    outputs = account.outputs("keyhole")
    s3.put_bucket_notification_configuration(
        Bucket="images", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    sessions = {role: account.session(outputs[f"{role}RoleArn"]) for role in ("Reader", "Tagger", "Listener")}
    settings = {
        "KEYHOLE_REDIS_URL": valkey_url,
        "KEYHOLE_S3_ENDPOINT_URL": account.url,
        "KEYHOLE_SINKS": "redis,tags,sqs",
        "KEYHOLE_SQS_QUEUE": sink,
        "XDG_RUNTIME_DIR": tmp_path,
    }
    port = free_port()
    queue = outputs["EventsUrl"].replace("https://sqs.us-east-1.amazonaws.com", account.url)
    for key, body in (("uploads/a b.qcow2", SAFE), ("uploads/c.qcow2", UNSAFE), ("other/d.qcow2", SAFE)):
        s3.put_object(Bucket="images", Key=key, Body=body)
    allow_batches_in_moto(account, outputs["ListenerRoleArn"])
    account.check_permissions()

    worker_env = account.env(sessions["Tagger"], KEYHOLE_METRICS_PORT=port, **settings)
    with commands.worker(worker_env, tmp_path / "worker.log"):
        listener_env = account.env(sessions["Listener"], **settings)
        done = commands.keyhole("listen", "--until-empty", queue, env=listener_env)
        assert done.returncode == 0, done.stderr
        # No event came about the object outside the prefix.
        told = json.loads(commands.lines(done.stderr)[-1])
        assert (told["received"], told["published"]) == (2, 2)
        tagger = account.client("s3", sessions["Tagger"])
        for key, status in (("uploads/a b.qcow2", "safe"), ("uploads/c.qcow2", "unsafe")):
            commands.until(lambda key=key, status=status: tag(tagger, key) == status)
        assert refused(tagger.get_object, Bucket="images", Key="other/d.qcow2")
        # The event about the unsafe object reaches the sink. SNS and EventBridge are left out, because moto
        # permits their requests only if a policy names all topics or buses.
        labels = {"sink": "sqs", "outcome": "delivered"}
        commands.until(lambda: value(fetched(port), "keyhole_sink_deliveries_total", **labels) == 1)
    assert "AccessDenied" not in (tmp_path / "worker.log").read_text()
    reader_env = account.env(sessions["Reader"], **settings | {"KEYHOLE_SINKS": "redis"})
    listed = commands.keyhole("inspect", "-r", "s3://images/uploads/", env=reader_env)
    assert (listed.returncode, b"backing_file" in listed.stdout) == (1, True), listed.stderr

    at = {"Bucket": "images", "Key": "uploads/c.qcow2"}
    tags = {"TagSet": [{"Key": "keyhole-status", "Value": "safe"}]}
    for role, session in sessions.items():
        client = account.client("s3", session)
        assert refused(client.put_object, **at, Body=SAFE)
        assert refused(client.delete_object, **at)
        assert refused(client.put_object_tagging, **at, Tagging=tags) == (role != "Tagger")
        assert refused(client.get_object, **at) == (role == "Listener")
        receives = account.client("sqs", session).receive_message
        assert refused(receives, QueueUrl=queue) == (role != "Listener")


def allow_batches_in_moto(account: Account, role_arn: str) -> None:
    """Allow two batch calls by names that only moto knows.

    AWS has no actions with these names: sqs:DeleteMessage and sqs:ChangeMessageVisibility also permit the
    batch calls.
    """
    names = ["sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch"]
    statement = {"Effect": "Allow", "Action": names, "Resource": "*"}
    account.client("iam").put_role_policy(
        RoleName=role_arn.rpartition("/")[2],
        PolicyName="moto",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )


def tag(s3: Any, key: str) -> str | None:
    """The object's tag `keyhole-status`."""
    found = s3.get_object_tagging(Bucket="images", Key=key)["TagSet"]
    return next((one["Value"] for one in found if one["Key"] == "keyhole-status"), None)


def test_the_commands_of_the_page_deploy_the_stack(account: Account, tmp_path: Path) -> None:
    need("aws")
    account.client("s3").create_bucket(Bucket="images")
    env = account.env(account.admin, AWS_ENDPOINT_URL=account.url, PATH=environment()["PATH"])
    log = tmp_path / "log"
    script = "set -e\n" + "\n".join(
        re.findall(r"^```sh\n(.*?)^```$", REFERENCE["aws"], re.MULTILINE | re.DOTALL)
    )

    with commands.started("-c", script, program=("bash",), env=env, log=log, cwd=ROOT) as process:
        assert process.wait(commands.PATIENCE) == 0, log.read_text()

    iam, sqs = account.client("iam"), account.client("sqs")
    roles = [role["RoleName"] for role in iam.list_roles()["Roles"]]
    (tagger,) = [name for name in roles if "Tagger" in name]
    attached = iam.list_attached_role_policies(RoleName=tagger)["AttachedPolicies"]
    assert any("Listener" in policy["PolicyName"] for policy in attached)
    (stack,) = account.client("cloudformation").describe_stacks(StackName="keyhole")["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    assert (parameters["Bucket"], parameters["Gate"]) == ("images", "on")
    account.client("s3").put_object(Bucket="images", Key="a.qcow2", Body=SAFE)
    (queue,) = [url for url in sqs.list_queues()["QueueUrls"] if "-Queue-" in url]
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    assert '"Object Created"' in message["Body"]


def test_the_commands_of_the_page_print_the_arn_of_a_role(account: Account) -> None:
    """Also if only the session of a worker is known."""
    need("aws")
    text = REFERENCE["aws"].partition("## The ARN of a role")[2].partition("\n## ")[0]
    *found, of_session = re.findall(r"`(aws [^`]+)`", text)
    account.client("s3").create_bucket(Bucket="images")
    parameters = {"Bucket": "images", "Trust": "ec2"}
    account.client("cloudformation").create_stack(
        StackName="keyhole",
        TemplateBody=PATH.read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    outputs = account.outputs("keyhole")
    arn = outputs["TaggerRoleArn"]

    def printed(command: str, session: "boto3.Session", **names: str) -> str:
        words = [names.get(word, word) for word in shlex.split(command)]
        env = account.env(session, AWS_ENDPOINT_URL=account.url, PATH=environment()["PATH"])
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout.strip()

    kind, role, _ = printed(of_session, account.session(arn)).rpartition(":")[2].split("/")
    known = {"PROFILE": outputs["TaggerProfileName"], "ROLE": role}
    assert kind == "assumed-role"
    assert [printed(command, account.admin, **known) for command in found] == [arn] * 3
