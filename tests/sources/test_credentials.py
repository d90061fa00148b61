"""If credentials cannot be obtained, the message states so in one line, whatever the cause."""

import re
from pathlib import Path

import pytest

from keyhole.api import scan_s3
from keyhole.intake.listing import list_objects
from keyhole.reasons import Status
from keyhole.scan.settings import ScanSettings
from keyhole.sources.errors import SourceError
from keyhole.sources.s3_access import S3Access
from tests.servers.access import CREDENTIALS, isolate

WEB_IDENTITY = {
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/keyhole",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/missing/token",
}


@pytest.mark.parametrize(
    ("variables", "configuration", "cause"),
    [
        pytest.param(WEB_IDENTITY, "", "/missing/token", id="no token file"),
        pytest.param({}, "credential_process = false", "custom-process", id="a program that fails"),
        pytest.param({}, "credential_process = echo garbage", "JSONDecodeError", id="a program's garbage"),
        pytest.param({}, "credential_process = /missing/program", "/missing/program", id="no such program"),
        pytest.param({"AWS_PROFILE": "missing"}, "", "missing", id="no such profile"),
        pytest.param({}, "role_arn = arn\nsource_profile = missing", "missing", id="no such source"),
        pytest.param({}, "[", "parse", id="a configuration that is none"),
        pytest.param(CREDENTIALS | {"AWS_SECRET_ACCESS_KEY": ""}, "", "credentials", id="half of them"),
        pytest.param(CREDENTIALS | {"AWS_ACCESS_KEY_ID": "test\n"}, "", "line break", id="a line's end"),
    ],
)
def test_credentials_that_cannot_be_had_are_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    configuration: str,
    cause: str,
) -> None:
    (tmp_path / "config").write_text(f"[default]\n{configuration}\n")
    isolate(monkeypatch, **variables, AWS_CONFIG_FILE=str(tmp_path / "config"))
    access = S3Access(endpoint_url="http://127.0.0.1:9", region="us-east-1", connections=1)

    report = scan_s3(access, "bucket", "image", None, ScanSettings())

    assert (report.status, report.reasons) == (Status.FAILED, ("credentials",))
    message = str(report.details["error"])
    assert cause in message
    assert "\n" not in message
    with pytest.raises(SourceError, match=re.escape(cause)):
        _ = access.credentials_from
    with pytest.raises(SourceError) as raised:
        list(list_objects(access.client, "bucket", ""))
    assert raised.value.reason == "credentials"


def test_a_configuration_of_another_type_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\ns3 = yes\n")
    isolate(monkeypatch, **CREDENTIALS, AWS_CONFIG_FILE=str(tmp_path / "config"))
    access = S3Access(endpoint_url=None, region="us-east-1", connections=1)
    with pytest.raises(SourceError, match="AWS's configuration"):
        _ = access.client
