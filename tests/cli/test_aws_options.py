"""`--profile`, `--endpoint-url` and `--region`, as the AWS command has them."""

import os
from pathlib import Path

import boto3
import click
import pytest

from keyhole.api import connections
from keyhole.cli import COMMANDS
from keyhole.cli import keyhole as group
from tests.cli.conftest import Keyhole

CONFIG = """
[default]
region = eu-west-1
[profile ops]
region = eu-central-1
aws_access_key_id = ops
aws_secret_access_key = secret
"""
#: The commands that use S3. All others only use Redis, or start the demo's own S3.
ON_S3 = {"inspect", "submit", "audit", "verify", "doctor", "worker", "listen"}


@pytest.fixture
def env(env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment with two profiles, and with credentials that contradict them."""
    config = tmp_path / "config"
    config.write_text(CONFIG)
    return env | {"AWS_CONFIG_FILE": str(config), "AWS_DEFAULT_REGION": "us-west-2"}


@pytest.fixture(autouse=True)
def _anew() -> None:
    connections._shared_s3.cache_clear()


def options_of(name: str) -> set[str]:
    with click.Context(group) as context:
        command = group.get_command(context, name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_on_s3_has_them(name: str) -> None:
    assert ({"--profile", "--endpoint-url", "--region"} <= options_of(name)) == (name in ON_S3)


class AskedError(Exception):
    """Stops a command at its first use of S3."""


def profile_of(keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch, *options: str, **settings: str) -> str:
    """The profile with which `inspect` would read an object."""
    found: list[str] = []

    def remember(session: boto3.Session) -> None:
        found.append(session.profile_name)
        raise AskedError

    monkeypatch.setattr("keyhole.sources.s3_access.find_credentials", remember)
    keyhole("inspect", *options, "s3://images/k", **settings)
    return found[0]


def test_a_profile_wins_over_credentials_of_the_environment(
    keyhole: Keyhole, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert profile_of(keyhole, monkeypatch, "--profile", "ops") == "ops"
    connections._shared_s3.cache_clear()
    assert profile_of(keyhole, monkeypatch) == "default"


def test_the_credentials_of_the_environment_come_back_when_the_command_ends(keyhole: Keyhole) -> None:
    assert keyhole("inspect", "--profile", "ops", "--region", "x", "/dev/null").code == 3

    assert (os.environ["AWS_ACCESS_KEY_ID"], "AWS_PROFILE" in os.environ) == ("test", False)
    assert "KEYHOLE_S3_REGION" not in os.environ


def test_the_profiles_credentials_are_used(keyhole: Keyhole) -> None:
    doctor = keyhole("doctor", "--profile", "ops").out

    assert "found by shared-credentials-file" in doctor or "found by config-file" in doctor
    connections._shared_s3.cache_clear()
    assert "found by env" in keyhole("doctor").out


def test_an_endpoint_and_a_region_win_over_the_environment(
    keyhole: Keyhole, moto_url: str, bucket: str
) -> None:
    nowhere = {"KEYHOLE_S3_ENDPOINT_URL": "http://127.0.0.1:1", "KEYHOLE_S3_REGION": "eu-north-1"}

    printed = keyhole(
        *("doctor", "--endpoint-url", moto_url, "--region", "ap-south-1", f"s3://{bucket}/"), **nowhere
    )

    assert f"{moto_url}, region ap-south-1" in " ".join(printed.out.split())


def test_a_profile_that_is_not_there_brings_the_names_of_those_that_are(keyhole: Keyhole) -> None:
    printed = keyhole("inspect", "--profile", "opps\x1b[2J", "s3://images/k")

    assert printed.code == 2
    assert printed.error == (
        "AWS's configuration has no profile 'opps\\x1b[2J'; the profiles are default, ops"
    )


def test_without_any_profile_it_says_so(keyhole: Keyhole) -> None:
    printed = keyhole("inspect", "--profile", "ops", "s3://images/k", AWS_CONFIG_FILE="/nonexistent")

    assert printed.error == "AWS's configuration has no profile 'ops'; there is none"


def test_a_configuration_that_cannot_be_read_is_one_line(keyhole: Keyhole, tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("[default")

    printed = keyhole("inspect", "--profile", "ops", "s3://images/k", AWS_CONFIG_FILE=tmp_path / "broken")

    assert (printed.code, printed.error.startswith("AWS's configuration cannot be read: ")) == (2, True)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("host:9000", "is not the URL of a server"),
        ("http://u:pass@h", "it contains a user or a password"),
        ("http://a b", "is not "),
    ],
)
def test_a_wrong_endpoint_is_one_line(keyhole: Keyhole, url: str, words: str) -> None:
    printed = keyhole("inspect", "--endpoint-url", url, "s3://images/k")

    assert (printed.code, words in printed.error, "pass@" in printed.error) == (2, True, False)


def test_a_command_that_leaves_the_work_to_workers_says_that_they_differ(
    keyhole: Keyhole, redis_url: str, moto_url: str
) -> None:
    printed = keyhole(
        *("submit", "--endpoint-url", moto_url, "--region", "x", "s3://images/k"), KEYHOLE_REDIS_URL=redis_url
    )

    assert printed.code == 0
    assert printed.err.splitlines()[0] == (
        "--endpoint-url and --region apply only to this command. Workers use their own settings."
    )


def test_names_of_profiles_are_completed(
    keyhole: Keyhole,
) -> None:
    printed = keyhole(
        _KEYHOLE_COMPLETE="bash_complete", COMP_WORDS="keyhole inspect --profile o", COMP_CWORD="3"
    )

    assert printed.out == "plain,ops\n"
