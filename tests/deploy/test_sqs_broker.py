"""SQS as the broker in moto, which checks the permissions of the policy for it."""

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from keyhole.builders import qcow2
from tests.deploy.aws_account import Account, refused, simulated_account
from tests.e2e import commands
from tests.pages import ROOT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

SAFE = qcow2(1024**3).to_bytes()
UNSAFE = qcow2(1024**3, backing_file="/etc/shadow").to_bytes()

#: The queues for which the policy is, with names that stand for values.
QUEUES_ARN = "arn:aws:sqs:${region}:${account}:keyhole-*"
POLICY = (ROOT / "deploy" / "aws" / "policies" / "broker.json").read_text(encoding="utf-8")


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with simulated_account(tmp_path) as found:
        yield found


def test_jobs_are_sent_and_done_with_only_the_permissions_of_the_policy(
    account: Account, s3: "S3Client", bucket: str, moto_url: str, valkey_url: str, tmp_path: Path
) -> None:
    pytest.importorskip("pycurl", reason="Celery takes messages of SQS by pycurl alone")
    iam = account.client("iam")
    iam.create_user(UserName="keyhole")
    # moto does not compare the name of a queue that is to be created.
    document = POLICY.replace(QUEUES_ARN, "*")
    iam.put_user_policy(UserName="keyhole", PolicyName="broker", PolicyDocument=document)
    key = iam.create_access_key(UserName="keyhole")["AccessKey"]
    secret = quote(key["SecretAccessKey"], safe="")
    env = commands.environment(
        KEYHOLE_BROKER_URL=f"sqs://{key['AccessKeyId']}:{secret}@{account.url.removeprefix('http://')}",
        KEYHOLE_REDIS_URL=valkey_url,
        KEYHOLE_S3_ENDPOINT_URL=moto_url,
        XDG_RUNTIME_DIR=tmp_path,
        **commands.S3_CREDENTIALS,
    )
    for name, body in (("a.qcow2", SAFE), ("b.qcow2", UNSAFE)):
        s3.put_object(Bucket=bucket, Key=name, Body=body)
    account.check_permissions()

    with commands.worker(env, tmp_path / "worker.log"):
        names = [f"s3://{bucket}/{name}" for name in ("a.qcow2", "b.qcow2")]
        done = commands.keyhole("submit", "--wait", "--json", *names, env=env)

    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["key"]: one["status"] for one in reports} == {"a.qcow2": "safe", "b.qcow2": "unsafe"}
    assert "AccessDenied" not in (tmp_path / "worker.log").read_text()
    made = account.client("sqs", account.user(key)).list_queues()["QueueUrls"]
    assert all(fnmatch(url.rpartition("/")[2], QUEUES_ARN.rpartition(":")[2]) for url in made)
    assert refused(account.client("sqs", account.user(key)).delete_queue, QueueUrl=made[0])
