"""Signatures of messages: workers accept a message only if its publisher has the signing key.

A message carries the header `keyhole-signature`:

    v1 KEY-ID TIME MAC

    KEY-ID  the first 8 hexadecimal digits of the SHA-256 of a fixed text followed by the key
    TIME    when the message was signed, in seconds since 1970, UTC
    MAC     HMAC-SHA-256, in hexadecimal, of a JSON array in one line, a line feed, and the body as sent. The
            elements of the array are "v1", KEY-ID, TIME, the queue, and the headers in `SIGNED`

The MAC does not cover headers that cannot change the work: names for logs, headers that brokers add, and time
limits. A worker removes the time limits from every message.

A key file contains one or two keys, each on its own line. Publishers sign with the first key; workers accept
signatures with either key. So an operator can replace a key without a pause. First add the new key as the
second key on every host. Then make it the first key on every host. Remove the old key when no message that
was signed with it is waiting in a queue.

An attacker can send a copy of a signed message. As long as the ledger records the message's work as open or
done, the copy has no effect. Later, workers refuse the copy because it is too old (`keyhole.fleet.signing`).
"""

import binascii
import hmac
import json
import re
import stat
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from keyhole.errors import KeyholeError
from keyhole.small_files import read_small

#: The header with the signature.
HEADER: Final = "keyhole-signature"
#: The headers that determine the work, whether a worker executes the work, and when (Celery's message
#: protocol 2).
SIGNED: Final = ("task", "id", "eta", "expires", "retries")
#: The minimum length of a key in bytes, which is the length of the MAC (RFC 2104, section 3).
KEY_BYTES: Final = 32
#: The minimum number of different byte values in a key. Among random keys of 32 bytes, only 1 in 10**9 has
#: fewer than 20.
DIFFERENT_BYTES: Final = 20
#: A publisher's clock may be ahead of the worker's clock by at most this many seconds. Workers refuse
#: messages that were signed further in the future. S3 tolerates the same difference between clocks.
CLOCK_SECONDS: Final = 900
#: The maximum size of a key file, in bytes.
_LONGEST_FILE: Final = 4096

_VERSION: Final = "v1"
_SIGNATURE: Final = re.compile(r"v1 ([0-9a-f]{8}) (\d{1,12}) ([0-9a-f]{64})")
_EXAMPLE: Final = "create a key with: openssl rand -hex 32"


class UnsignedError(KeyholeError):
    """A message has no valid signature. The error message states the reason."""


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """A signing key. Its `repr` does not show the secret, so the secret cannot get into a log."""

    secret: bytes

    @property
    def id(self) -> str:
        """The key's id in signatures. It does not reveal the key."""
        return sha256(b"keyhole signing key " + self.secret).hexdigest()[:8]

    def mac(self, queue: str, headers: Mapping[str, Any], body: bytes, time: int) -> str:
        """The MAC of a message that is signed at `time` (seconds since 1970).

        `headers` are AMQP headers, whose values can have various types.
        """
        what = [_VERSION, self.id, time, queue, *(headers.get(name) for name in SIGNED)]
        line = json.dumps(what, separators=(",", ":"), default=str).encode()
        return hmac.new(self.secret, line + b"\n" + body, sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a file. Messages are signed with the first key and verified with all keys."""

    keys: Sequence[Key]

    def sign(self, queue: str, headers: Mapping[str, Any], body: bytes, now: float) -> str:
        """The signature of a message. `headers` are AMQP headers, whose values can have various types."""
        key = self.keys[0]
        return f"{_VERSION} {key.id} {int(now)} {key.mac(queue, headers, body, int(now))}"

    def verify(self, queue: str, headers: Mapping[str, Any], body: bytes, now: float) -> int:
        """Verify a message's signature, and return when it was signed. Times are in seconds since 1970.

        `headers` are AMQP headers, whose values can have various types.

        Raises:
            UnsignedError: The message is not signed with one of the keys, or its time is too far in the
                future.
        """
        signature = headers.get(HEADER)
        if signature is None:
            raise UnsignedError("it is not signed")
        parts = _SIGNATURE.fullmatch(signature) if isinstance(signature, str) else None
        if parts is None:
            raise UnsignedError("its signature cannot be read")
        key_id, time, mac = parts[1], int(parts[2]), parts[3]
        key = next((key for key in self.keys if key.id == key_id), None)
        if key is None:
            raise UnsignedError(f"it is signed with the key {key_id}, which KEYHOLE_SIGNING_KEY_FILE lacks")
        if not hmac.compare_digest(key.mac(queue, headers, body, time), mac):
            raise UnsignedError("its signature is wrong: it was changed, or signed for another queue")
        if time > now + CLOCK_SECONDS:
            raise UnsignedError(f"it was signed {time - now:.0f} s in the future; correct the clocks")
        return time


def read_keys(path: Path) -> Keyring:
    """Return the keys in a file.

    Raises:
        ValueError: The file has no usable keys, or users other than its owner and group can read it. The
            error message does not contain any part of a key.
    """
    try:
        content, st_mode = read_small(path)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from error
    mode = stat.S_IMODE(st_mode)
    if mode & stat.S_IRWXO:
        raise ValueError(f"its mode {mode:04o} lets every user of this machine read it; chmod 600 it")
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if len(content) > _LONGEST_FILE or not 1 <= len(lines) <= 2:
        raise ValueError(f"it must have one or two keys, one per line; {_EXAMPLE}")
    keys = [Key(_secret(line, number)) for number, line in enumerate(lines, 1)]
    return Keyring(keys)


def _secret(line: bytes, number: int) -> bytes:
    """The bytes of a key, which the file contains as hexadecimal digits or as base64."""
    try:
        is_hex = re.fullmatch(rb"[0-9A-Fa-f]+", line) is not None
        secret = binascii.unhexlify(line) if is_hex else b64decode(line, validate=True)
    except ValueError:
        raise ValueError(f"line {number} is neither hexadecimal nor base64; {_EXAMPLE}") from None
    if len(secret) < KEY_BYTES or len(set(secret)) < DIFFERENT_BYTES:
        raise ValueError(f"line {number} is not a key of at least {KEY_BYTES} random bytes; {_EXAMPLE}")
    return secret
