"""An AWS account that moto simulates, with its permissions."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import boto3
from botocore.exceptions import ClientError

from tests.e2e import commands
from tests.ports import free_port


class Account:
    """An AWS account that moto simulates in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = boto3.Session("admin", "secret", region_name="us-east-1")

    def client(self, service: str, session: "boto3.Session | None" = None) -> Any:
        chosen: Any = session or self.admin  # its type knows only the names of services, not `str`
        return chosen.client(service, endpoint_url=self.url)

    def check_permissions(self) -> None:
        """From now on, moto checks the permission for every request."""
        url, headers = f"{self.url}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        urlopen(Request(url, b"0", headers)).close()  # noqa: S310 - HTTP on this host

    def session(self, role_arn: str) -> "boto3.Session":
        """Take a role."""
        given = self.client("sts").assume_role(RoleArn=role_arn, RoleSessionName="test")["Credentials"]
        return boto3.Session(
            given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], region_name="us-east-1"
        )

    def user(self, key: Mapping[str, Any]) -> "boto3.Session":
        """A session with a user's key."""
        return boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], region_name="us-east-1")

    def outputs(self, stack: str) -> dict[str, str]:
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        assert found["StackStatus"] == "CREATE_COMPLETE"
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def env(self, session: "boto3.Session", **settings: object) -> dict[str, str]:
        """The environment of a process that has taken a role."""
        credentials = session.get_credentials()
        assert credentials is not None
        return commands.environment(
            AWS_ACCESS_KEY_ID=credentials.access_key,
            AWS_SECRET_ACCESS_KEY=credentials.secret_key,
            AWS_DEFAULT_REGION="us-east-1",
            **({"AWS_SESSION_TOKEN": credentials.token} if credentials.token else {}),
            **settings,
        )


@contextmanager
def simulated_account(folder: Path) -> Iterator[Account]:
    """Run moto in a process of its own, because its check of permissions applies to the whole process."""
    port = free_port()
    server = (sys.executable, "-c", "from moto.server import main; main()", "-p", str(port))
    url = f"http://127.0.0.1:{port}"
    with commands.started(env=commands.environment(), log=folder / "moto.log", program=server):
        commands.until(lambda: answers(url))
        yield Account(url)


def answers(url: str) -> bool:
    try:
        urlopen(f"{url}/moto-api/data.json").close()  # noqa: S310 - HTTP on this host
    except URLError:
        return False
    return True


def refused(call: Any, **arguments: object) -> bool:
    """Return whether moto refuses a call because the role does not permit it."""
    try:
        call(**arguments)
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 403)
    return False
