"""The URL of a Redis: the accepted forms, and the refused ones."""

from pathlib import Path

import pytest

from keyhole.settings import Settings
from keyhole.store.redis_url import OPTIONS, SECONDS, redis_options


def test_all_is_read() -> None:
    assert redis_options("redis://u%3A:p%40ss@[::1]:7/3?client_name=x&health_check_interval=9") == {
        "username": "u:",
        "password": "p@ss",
        "host": "::1",
        "port": 7,
        "db": 3,
        "client_name": "x",
        "health_check_interval": 9,
    }


@pytest.mark.parametrize("url", ["redis://", "redis://localhost/", "redis://localhost?db=0"])
def test_what_is_left_out_has_a_default(url: str) -> None:
    assert redis_options(url) == {"host": "localhost", "db": 0}


def test_a_unix_socket_has_a_path() -> None:
    assert redis_options("unix:///run/v.sock?db=2") == {"path": "/run/v.sock", "db": 2}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"ssl_cert_reqs": "required"}),
        ("?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
        ("?ssl_check_hostname=no", {"ssl_cert_reqs": "required", "ssl_check_hostname": False}),
    ],
)
def test_tls_is_verified_unless_the_url_says_otherwise(query: str, expected: dict[str, object]) -> None:
    assert redis_options(f"rediss://h{query}") == {"host": "h", "db": 0} | expected


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("redis://h?colour=red", ", ".join(OPTIONS)),
        ("redis://h?decode_responses=1", "it has the option decode_responses"),
        ("redis://h?ssl_cert_reqs=none", "only for rediss://"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "one of required, optional, none"),
        ("rediss://h?ssl_check_hostname=off", "true or false"),
        ("rediss://h?ssl_ca_certs=ca.pem", "absolute path"),
        ("rediss://h?ssl_ca_certs=/nonexistent/ca.pem", "No such file"),
        ("rediss://h?ssl_keyfile=/k", "no ssl_certfile"),
        ("redis://h?socket_timeout=nan", "from 2 to 3600"),
        ("redis://h?socket_timeout=", "from 2 to 3600"),
        ("redis://h?health_check_interval=2.5", "from 2 to 3600"),
        ("redis://h?client_name=", "has no value"),
        ("redis://h/verdicts", "must be a number"),
        ("redis://h?db=-1", "must be a number"),
        ("sentinel://h:26379", "does not use Redis Sentinel"),
        ("redis+cluster://h", "the URL of one of its nodes"),
        ("valkeys://h", "rediss://"),
        ("http://h", "not a Redis URL"),
    ],
)
def test_what_is_refused_is_told_with_advice(url: str, advice: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the test compares the message
        redis_options(url.replace("://", "://u:s3cret@"))

    assert advice in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("option", ["socket_timeout", "socket_connect_timeout"])
def test_a_broker_is_given_two_seconds_and_any_other_redis_less(option: str) -> None:
    url = f"redis://h?{option}=0.2"

    assert redis_options(url, least_seconds=SECONDS)[option] == 0.2
    with pytest.raises(ValueError, match=rf"its {option} must be a number of seconds from 2 to 3600"):
        redis_options(url)
    with pytest.raises(ValueError, match=r"from 0\.1 to 3600"):
        redis_options(f"redis://h?{option}=0", least_seconds=SECONDS)
    for setting in ("redis_url", "broker_url"):
        with pytest.raises(ValueError, match="from 2 to 3600"):
            Settings.model_validate({setting: url})


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    with pytest.raises(ValueError, match="cannot be used"):
        redis_options(f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("broker_url", "amqp://h/v?heartbeat=5"),
        ("broker_url", "sentinel://h"),
        ("broker_url", "valkey://h"),
        ("broker_url", "kafka://h"),
        ("broker_url", "redis://h?colour=red"),
        ("redis_url", "amqp://h"),
    ],
)
def test_settings_refuse_what_is_none(name: str, url: str) -> None:
    with pytest.raises(ValueError, match=name):
        Settings.model_validate({name: url})
