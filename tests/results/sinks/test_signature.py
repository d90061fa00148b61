"""Signatures agree with the example of the Standard Webhooks specification's libraries."""

import pytest

from keyhole.results.sinks.signature import parse_secrets, signature_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "QUFB" * 16


def test_it_is_the_signature_of_the_specifications_libraries() -> None:
    """The values are those of the test of the libraries of the specification."""
    headers = signature_headers(
        parse_secrets(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_during_a_change_of_the_secret_there_are_two_signatures() -> None:
    (old,) = signature_headers(parse_secrets(SECRET), "id", 1, b"")["webhook-signature"].split()
    (new,) = signature_headers(parse_secrets(OTHER), "id", 1, b"")["webhook-signature"].split()

    both = signature_headers(parse_secrets(f"{OTHER}, {SECRET}"), "id", 1, b"")

    assert both["webhook-signature"] == f"{new} {old}"


@pytest.mark.parametrize(
    "text", ["", "secret", "whsec_", "whsec_!", "whsec_QUFB", "whsec_" + "QUFB" * 30, ",".join([SECRET] * 3)]
)
def test_a_malformed_secret_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        parse_secrets(text)

    assert len(text) < 10 or text not in str(caught.value)
