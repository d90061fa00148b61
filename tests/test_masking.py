"""No message shows a password in a URL, or a part of it, however the URL is written."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.masking import check_no_user, check_redis_or_broker, masked, masked_url, split_url
from keyhole.reasons import Reason
from keyhole.sources.errors import SourceError
from tests.slow import slow

SECRET = "s3cret"
#: Characters that end a password or have another meaning if they are not percent-encoded.
MARKS = ["/", "@", "#", "?", ":", "%", "[", "]", "\\", "&", "=", ";", "'", '"', "%zz", "//", "://", "a:1/"]
SCHEMES = ["redis", "rediss", "unix", "amqp", "amqps", "sqs", "http", "https", "redis+socket", "HTTPS"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_url_is_shown_without_its_password(scheme: str) -> None:
    for mark, user in product([*MARKS, " ", "\t"], ("", "user", SECRET)):
        url = f"{scheme}://{user}:{SECRET}{mark}{SECRET}@host:1/0"
        assert SECRET not in masked_url(url), url
        assert masked_url(url).endswith("host:1/0"), url


@pytest.mark.parametrize("scheme", SCHEMES)
def test_in_a_text_it_is_masked(scheme: str) -> None:
    for mark in MARKS:
        url = f"{scheme}://user:{SECRET}{mark}{SECRET}@host:1/0"

        shown = masked(f'cannot connect to "{url}" (refused), nor to {url}.')

        assert SECRET not in shown, url
        assert shown.startswith("cannot connect to "), url
        assert "host:1/0" in shown, url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://secret@host", "redis://***@host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://host/0?password=a%20b&db=1", "redis://host/0?password=***&db=1"),
        ("redis://host/0?ssl_keyfile_password=a", "redis://host/0?ssl_keyfile_password=***"),
        (
            "https://host/k?X-Amz-Signature=1f&X-Amz-Security-Token=a/b=",
            "https://host/k?X-Amz-Signature=***&X-Amz-Security-Token=***",
        ),
        ("https://host/k?sv=1&sig=1f%2F&se=2", "https://host/k?sv=1&sig=***&se=2"),
        ("https://host/k?design=1", "https://host/k?design=1"),
        ("s3://bucket/a@b.png is no image", "s3://bucket/a@b.png is no image"),
        ("the key a=b&password of nobody@nowhere", "the key a=b&password of nobody@nowhere"),
    ],
)
def test_what_is_left_tells_where(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "example", ["write redis://:password@host:6379/0, or else", "amqp://user:password@host/vhost/queue"]
)
def test_the_examples_of_messages_stay_readable(example: str) -> None:
    assert masked(example) == example


@pytest.mark.parametrize(
    "url",
    [
        "redis://:password@host@s3cret@there/0",
        "redis://:password@host2:s3cret@there",
        "redis://:password@hosts",
    ],
)
def test_a_url_that_resembles_an_example_is_masked(url: str) -> None:
    assert masked(url).startswith("redis://***@")
    assert "s3cret" not in masked(url)


def test_what_is_no_url_is_not_shown_where_one_should_be() -> None:
    assert masked_url(SECRET) == "***"


@given(st.text(st.sampled_from("ab.:/@?&=- é")))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert masked(masked(text)) == masked(text)


@pytest.mark.parametrize("text", ["a." * 200_000, slow("a://" * 100_000), "?a" * 200_000 + "://"])
def test_a_long_text_is_masked_in_time(text: str) -> None:
    assert masked(text + "://") == text + "://"


def test_an_error_of_a_source_masks_itself() -> None:
    assert "s3cret" not in str(SourceError(Reason.NETWORK, "Could not connect to http://u:s3cret@host/b/k"))


class TestAUrlThatHidesAPasswordIsRefused:
    @pytest.mark.parametrize("scheme", ["redis", "rediss", "amqp", "amqps", "unix"])
    def test_and_nothing_of_it_is_shown(self, scheme: str) -> None:
        for before, mark in product(["12", SECRET], ["/", "#", "?", " ", "[", "\n"]):
            url = f"{scheme}://user:{before}{mark}{SECRET}@host/0"
            with pytest.raises(ValueError, match="@ as %40, : as %3A, # as %23") as refused:
                check_redis_or_broker(url)
            assert SECRET not in str(refused.value), url
            assert before not in str(refused.value).replace("127", ""), url

    def test_a_password_without_its_colon(self) -> None:
        with pytest.raises(ValueError, match="redis://:password@host:6379/0") as refused:
            check_redis_or_broker(f"redis://{SECRET}@host")
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize("url", [SECRET, f"{SECRET}:x", "//host", ""])
    def test_what_is_no_url(self, url: str) -> None:
        with pytest.raises(ValueError, match="it is not a URL") as refused:
            check_redis_or_broker(url)
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://host",
            "redis://:p%40ss%2F@host:6379/0?socket_timeout=5",
            "rediss://user:password@[::1]:6379/0",
            "unix:///run/valkey.sock?db=1",
            "amqp://user@host",
            "amqp://user:password@host/a%2Fb",
            "sqs://key:secret@host",
            "memory://",
        ],
    )
    def test_what_is_right_is_not(self, url: str) -> None:
        check_redis_or_broker(url)
        split_url(url, "")

    @pytest.mark.parametrize(
        "url", ["http://user:s3cret@host", "https://s3cret@host/", "http://a:1/s3cret@b"]
    )
    def test_an_endpoint_of_s3_has_none(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"S3|%40") as refused:
            check_no_user(url)
        assert SECRET not in str(refused.value)
        check_no_user("https://s3.example.com:9000/path")
