"""Signs webhooks as the Standard Webhooks specification describes.

The signature is an HMAC-SHA256 over the event's id, the time of the attempt and the body, separated by full
stops. While an operator replaces the secret, the old and the new secret are both configured. Each request
then has two signatures, one made with each secret.

Source: Standard Webhooks 1.0.0, section "Verifying webhook authenticity".
"""

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

_PREFIX: Final = "whsec_"
#: The specification's limits for the length of a secret, in bytes.
_SHORTEST, _LONGEST = 24, 64
#: Error messages show this example.
HOW: Final = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


def parse_secrets(text: str) -> list[bytes]:
    """Return the keys that a text contains as one secret, or as two secrets with a comma between them.

    Raises:
        ValueError: A secret is malformed. The error message contains no part of the secret.
    """
    secrets = [_key(part.strip()) for part in text.split(",")]
    if len(secrets) > 2:
        raise ValueError("it contains more than two secrets")
    return secrets


def _key(text: str) -> bytes:
    try:
        key = b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"a secret is {_PREFIX} and then {_SHORTEST} to {_LONGEST} bytes in base64; {HOW}")
    return key


def signature_headers(keys: Sequence[bytes], event_id: str, seconds: int, body: bytes) -> dict[str, str]:
    """Return the headers that identify and sign a webhook. `seconds` is the Unix time of the attempt."""
    signed = f"{event_id}.{seconds}.".encode() + body
    signatures = (b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
