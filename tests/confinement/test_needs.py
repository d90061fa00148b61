"""The files that a process can read follow from the paths of its settings and credentials."""

from pathlib import Path

import pytest

from keyhole.confinement.landlock import WRITE, Access
from keyhole.confinement.needs import Needs, needs
from tests.servers.access import isolate


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    isolate(monkeypatch)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    return tmp_path / "home"


def found(*urls: str) -> Needs:
    return needs(files=[], urls=urls, folders=[])


def places(allowed: Needs) -> set[Path]:
    return {rule.path for rule in allowed.rules}


def test_nothing_of_the_home_is_read_but_what_is_botocores(home: Path) -> None:
    inside = {path for path in places(found()) if path.is_relative_to(home)}

    assert inside == {home / ".aws", home / ".boto", home / ".aws/sso/cache", home / ".aws/login/cache"}


def test_little_is_written(home: Path, tmp_path: Path) -> None:
    allowed = needs(files=[], urls=[], folders=[tmp_path / "parts"])

    written = {rule.path for rule in allowed.rules if rule.access & WRITE == WRITE}

    assert written == {
        Path("/dev/null"),
        tmp_path / "parts",
        home / ".aws/sso/cache",
        home / ".aws/login/cache",
    }


@pytest.mark.usefixtures("home")
def test_no_whole_folder_is_read_that_others_share() -> None:
    read = {rule.path for rule in found().rules if rule.access & Access.READ_FILE}

    assert not read & {Path("/"), Path("/etc"), Path("/tmp"), Path("/root"), Path.cwd()}  # noqa: S108 - the file is not created


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("named", "allowed"),
    [
        ("/var/run/secrets/eks.amazonaws.com/serviceaccount/token", None),
        ("/etc/token", "/etc/token"),
        ("/tmp/token", "/tmp/token"),  # noqa: S108 - the file is not created
    ],
)
def test_a_file_that_a_variable_names(
    monkeypatch: pytest.MonkeyPatch, named: str, allowed: str | None
) -> None:
    """The whole folder is allowed if it exists only for that file."""
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", named)

    assert Path(allowed or Path(named).parent) in places(found())


@pytest.mark.usefixtures("home")
def test_certificates_that_a_url_names() -> None:
    url = "rediss://redis/0?ssl_ca_certs=/etc/redis/tls/ca.pem&ssl_check_hostname=true"

    assert Path("/etc/redis/tls") in places(found(url))


class TestTheProfile:
    def test_what_it_names_is_read(self, home: Path) -> None:
        (home / ".aws" / "config").write_text("[default]\nca_bundle = /srv/tls/ca.pem\n")

        assert Path("/srv/tls") in places(found())

    def test_that_nobody_can_parse_is_left_to_who_asks_s3(self, home: Path) -> None:
        (home / ".aws" / "config").write_text("[default\n")

        assert found().credential_process is None

    def test_a_program_for_credentials_is_told_of(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / ".aws" / "config").write_text(
            "[profile used]\nsource_profile = base\nrole_arn = arn:aws:iam::1:role/x\n"
            "[profile base]\ncredential_process = aws-vault exec x\n"
            "[profile other]\ncredential_process = another\n"
        )

        assert found().credential_process is None
        monkeypatch.setenv("AWS_PROFILE", "used")
        assert found().credential_process == "aws-vault exec x"

    def test_profiles_in_a_circle_end(self, home: Path) -> None:
        (home / ".aws" / "config").write_text("[default]\nsource_profile = default\n")

        assert found().credential_process is None


def test_a_link_is_followed(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "dotfiles" / "credentials"
    elsewhere.parent.mkdir()
    elsewhere.touch()
    (home / ".aws" / "credentials").symlink_to(elsewhere)

    assert {home / ".aws", elsewhere.parent} <= places(found())


def test_a_file_that_appears_later_is_another(home: Path) -> None:
    (home / ".aws").rmdir()
    allowed = found()
    assert allowed.replaced() is None

    (home / ".aws").mkdir()

    assert allowed.replaced() == home / ".aws"
