"""The owner that an object's tags state, or why it is unknown."""

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from botocore.parsers import ResponseParserError

from keyhole.reasons import Reason
from keyhole.results.owner import Owner, owner_in, parse_owner_tag
from keyhole.results.owner_reading import OwnerReading, explain_tags
from keyhole.sources.errors import TransientError


def refusal(status: int, code: str) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObjectTagging")  # type: ignore[arg-type] # the part that is read


@pytest.mark.parametrize(
    ("tags", "owner"),
    [
        ({"team": "payments", "Team": "x"}, Owner("payments")),
        ({"team": ""}, Owner("")),
        ({"Team": "x"}, Owner()),
        ({}, Owner()),
        ({"team": "x" * 1000}, Owner("x" * 256)),
    ],
)
def test_the_value_of_the_tag_is_the_owner(tags: dict[str, str], owner: Owner) -> None:
    assert owner_in(tags, "team") == owner


def test_a_later_answer_replaces_an_earlier_one_but_a_later_error_does_not() -> None:
    reading = OwnerReading("team")
    assert reading.owner is None

    assert reading.learn(refusal(403, "AccessDenied")).unknown is not None
    assert reading.learn({"team": "a"}) == Owner("a")
    assert reading.learn({"team": "b"}) == Owner("b")
    assert reading.learn(refusal(403, "AccessDenied")) == Owner("b")


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (
            refusal(403, "AccessDenied"),
            "Keyhole needs s3:GetObjectTagging (for a version s3:GetObjectVersion",
        ),
        (refusal(404, "NoSuchKey"), "the object does not exist"),
        (refusal(501, "NotImplemented"), "the storage does not support tags"),
        (refusal(405, "MethodNotAllowed"), "or the version is a delete marker"),
        (refusal(503, "SlowDown"), "the server asks to slow down"),
        (EndpointConnectionError(endpoint_url="http://x"), "the connection failed"),
        (TransientError(Reason.RATE, "no time slot"), "no time slot"),
        (ResponseParserError("b'<Value>\x1b'"), "a character that XML does not allow"),
    ],
)
def test_why_an_owner_is_unknown_is_told(error: Exception, part: str) -> None:
    assert part in str(explain_tags(error))
    unknown = OwnerReading("team").learn(error).unknown
    assert unknown is not None
    assert part in unknown


@pytest.mark.parametrize("name", ["team", "cost center", "x" * 128, "ü"])
def test_any_name_of_a_tag_is_taken(name: str) -> None:
    assert parse_owner_tag(name) == name


@pytest.mark.parametrize("name", ["", "x" * 129, "keyhole-status", "Keyhole_Scan", "\udcff"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tag"):
        parse_owner_tag(name)
