"""The first reads of a bucket, and when Keyhole stops using obstore for it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, cast

import pytest
from obstore.store import S3Store

from keyhole.sources import s3_obstore, s3_route
from keyhole.sources.s3_answer import Pin, Span
from keyhole.sources.s3_client import Place
from keyhole.sources.s3_obstore import ObstoreRefusedError
from keyhole.sources.s3_route import STRIKES, Route

HOME = Place("https://bucket.s3.amazonaws.com", "us-east-1", "s3", "v4")
ELSEWHERE = HOME._replace(url="https://bucket.s3.eu-west-1.amazonaws.com", region="eu-west-1")


class Opened:
    """A record of how a bucket was opened."""

    def __init__(self, place: Place) -> None:
        self.place = place


def route(*places: Place) -> Route:
    """A route that uses these places, one after the other."""
    left = [*places]
    return Route(
        "bucket",
        lambda: left.pop(0) if len(left) > 1 else left[0],
        lambda place: cast("S3Store", Opened(place)),
    )


def opened_at(found: Route) -> Place | None:
    return cast("Opened", found.store).place if found.store else None


def test_obstore_is_given_up_after_some_failures_in_a_row() -> None:
    found = route(HOME)
    for _ in range(STRIKES - 1):
        found.failed(ObstoreRefusedError("no"))
    found.worked()
    for _ in range(STRIKES - 1):
        found.failed(ObstoreRefusedError("no"))
    assert opened_at(found) == HOME
    found.failed(ObstoreRefusedError("no"))
    assert opened_at(found) is None


def test_where_boto3_was_led_obstore_follows() -> None:
    found = route(HOME, HOME, ELSEWHERE)
    assert not found.look_again()
    assert opened_at(found) == HOME
    assert found.look_again()
    assert opened_at(found) == ELSEWHERE


def test_the_first_read_goes_alone() -> None:
    # Given a first read that has begun
    found, begun, end = route(HOME), Event(), Event()
    order = []

    def read(name: str) -> None:
        with found.first_alone():
            begun.set()
            if name == "first":
                end.wait()
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        pool.submit(read, "first")
        begun.wait()
        # When other reads come
        later = [pool.submit(read, "later") for _ in range(2)]
        end.set()
        for one in later:
            one.result()
    # Then they wait for the first one
    assert order == ["first", "later", "later"]


def test_a_first_read_that_hangs_holds_the_others_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_route, "FIRST_SECONDS", 0.01)
    found = route(HOME)
    with found.first_alone(), ThreadPoolExecutor(1) as pool:

        def read() -> bool:
            with found.first_alone():
                return True

        assert pool.submit(read).result()


def test_a_panic_of_obstores_is_a_failure_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """The type of the exception to which a Rust panic is converted."""

    def panic(*_: Any, **__: Any) -> None:
        raise PanicException("request valid: InvalidUri(InvalidUriChar)")

    monkeypatch.setattr(s3_obstore, "obstore_get", panic)
    with pytest.raises(ObstoreRefusedError, match="panicked"):
        s3_obstore.get(cast("S3Store", None), Pin("bucket", "image"), Span(0, 1), lambda _: None)
