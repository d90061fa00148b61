"""The certificates that both clients trust."""

from pathlib import Path

import pytest

from keyhole.sources import trust
from keyhole.sources.errors import ConfigurationError
from keyhole.sources.trust import choose_trust
from tests.servers.certificates import make_authority


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's store of certificates."""
    store = make_authority(tmp_path, "system").file
    monkeypatch.setattr(trust, "SYSTEM_STORES", (str(tmp_path / "missing"), str(store)))
    return store


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A file with a company's CA."""
    return make_authority(tmp_path, "other").file


def test_the_systems_store_counts_if_nothing_is_set(system: Path) -> None:
    chosen = choose_trust(None, {})
    assert (chosen.bundle, chosen.holds_for_obstore) == (system, True)


def test_without_a_systems_store_boto3s_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "SYSTEM_STORES", ())
    chosen = choose_trust(None, {})
    assert chosen.bundle.is_file()
    assert chosen.holds_for_obstore


@pytest.mark.usefixtures("system")
def test_the_first_variable_counts(other: Path, tmp_path: Path) -> None:
    third = make_authority(tmp_path, "third").file
    every = {"REQUESTS_CA_BUNDLE": str(other), "SSL_CERT_FILE": str(third)}
    assert choose_trust(str(third), every).bundle == third
    assert choose_trust(None, every).bundle == other
    assert choose_trust(None, {"SSL_CERT_FILE": str(third)}).bundle == third


@pytest.mark.usefixtures("system")
def test_obstore_would_trust_more_where_another_store_is_not_in_the_bundle(other: Path) -> None:
    assert not choose_trust(str(other), {}).holds_for_obstore


def test_obstore_trusts_the_same_where_the_bundle_holds_all(
    system: Path, other: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(system.read_bytes() + other.read_bytes().replace(b"\n", b"\r\n"))
    assert choose_trust(str(both), {}).holds_for_obstore
    assert choose_trust(str(other), {"SSL_CERT_FILE": str(other)}).holds_for_obstore
    assert not choose_trust(str(other), {"SSL_CERT_DIR": str(tmp_path)}).holds_for_obstore


@pytest.mark.parametrize("name", ["missing.pem", "", "empty.pem"])
def test_what_is_no_file_of_certificates_is_refused_by_its_variable(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.pem").touch()
    with pytest.raises(ConfigurationError, match="REQUESTS_CA_BUNDLE names"):
        choose_trust(None, {"REQUESTS_CA_BUNDLE": str(tmp_path / name)})
