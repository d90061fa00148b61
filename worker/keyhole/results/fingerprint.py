"""The fingerprint of a record: with it, an audit recognises an unchanged object without reading the report.

A fingerprint is a hash of the record's status and packed report, and of all values that an audit compares:
the object's ETag, size and modification time, and the ruleset. An audit computes the same hash from the
listing. If the two are equal, the verdict is valid and its report is undamaged. If they differ, the audit
reads the report and compares the values one by one. So a wrong or missing fingerprint costs time, but never
changes the result.

Unpacking and parsing a report takes ten times as long as computing a fingerprint.
"""

from binascii import b2a_base64
from datetime import datetime
from hashlib import blake2b
from typing import Final

from keyhole import versions

#: 12 bytes are 16 characters. An attacker who wants to hide a changed object would have to find a change for
#: which the hash is the same, and this takes 2^96 attempts.
_BYTES: Final = 12
FINGERPRINT_LENGTH: Final = 16


def fingerprint(
    status: str, body: bytes, *, ruleset: str, etag: str, size: int, last_modified: datetime
) -> bytes:
    """Return the fingerprint of a record, in Base64.

    Args:
        status: The status in the record's header.
        body: The packed report.
        ruleset: The id of the rules for verdicts.
        etag: The object's ETag, with or without quotes.
        size: The object's size in bytes.
        last_modified: The object's modification time. Fractions of a second are ignored, because HTTP headers
            do not contain them.
    """
    second, etag = int(last_modified.timestamp() // 1), etag.strip('"')
    # The lengths make the text unambiguous, although an ETag can contain every character.
    text = f"{versions.REPORT} {status} {size} {second} {len(ruleset)} {len(etag)} {ruleset}{etag}"
    digest = blake2b(text.encode(errors="surrogatepass"), digest_size=_BYTES)
    digest.update(body)
    return b2a_base64(digest.digest(), newline=False)
