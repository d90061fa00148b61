"""URLs of objects on web servers: what is requested, and what is shown."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyhole.sources.https_url import MOST_CHARACTERS, WebUrl


@pytest.mark.parametrize(
    ("url", "requested", "shown"),
    [
        ("https://host", "https://host/", "https://host/"),
        ("HTTPS://HOST:443/a b", "https://host/a%20b", "https://host/a%20b"),
        ("https://host/a?sig=x@y#part", "https://host/a?sig=x@y", "https://host/a?***"),
        ("https://host/a?", "https://host/a?", "https://host/a?***"),
        ("https://u:p%2F@host:8443/a", "https://host:8443/a", "https://***@host:8443/a"),
        ("http://[::1]:80/a/../b", "http://[::1]/b", "http://[::1]/b"),
        ("https://host/a@b.qcow2", "https://host/a@b.qcow2", "https://host/a@b.qcow2"),
        ("https://host/\u202egnp.qcow2\x1b[2J", "https://host/%E2%80%AEgnp.qcow2%1B%5B2J", None),
        ("https://host\\@evil/a", "https://host/%5C@evil/a", None),
    ],
)
def test_a_url_is_requested_and_shown(url: str, requested: str, shown: str | None) -> None:
    parsed = WebUrl.parse(url)

    assert parsed.url == requested
    assert parsed.name == (shown or requested)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///a",
        "https://host:0/",
        "https://host:99999/",
        "https://user:pa/ss@host/",
        "https://user:12/secret@host/",
        "https://[::1",
        "ftp://host/a",
        "https://host/" + "a" * MOST_CHARACTERS,
    ],
)
def test_a_text_that_names_no_object_is_refused_without_a_part_of_it(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        WebUrl.parse(url)

    assert "ss@" not in str(caught.value)
    assert "secret" not in str(caught.value)


@contextmanager
def suppress_into(told: list[str]) -> Iterator[None]:
    """Append the message of a `ValueError`."""
    try:
        yield
    except ValueError as error:
        told.append(str(error))


@given(st.text(max_size=40), st.text(max_size=40))
def test_every_text_is_parsed_or_refused_in_one_visible_line(host: str, path: str) -> None:
    told = []
    with suppress_into(told):
        parsed = WebUrl.parse(f"https://{host}/{path}?secret")
        told.append(parsed.name)
        told.append(parsed.redirected(path).name)
    assert all(text.isprintable() and text.isascii() and "?secret" not in text for text in told)
