"""What statuses and reasons mean, in words for whoever has to do something about them."""

from typing import Final

from keyhole.inspectors.findings import CHECKS
from keyhole.scan.report import Status

#: Every status, what needs attention first, first.
BY_URGENCY: Final[dict[Status, str]] = {
    Status.UNSAFE: "leads outside itself, says what Keyhole does not understand, or is two formats at once",
    Status.DAMAGED: "cut off, or its structures contradict each other or their checksums",
    Status.REJECTED: "well formed, but not to be imported as it is",
    Status.INCONCLUSIVE: "could not be decided: nothing proves it whole, or it was not read to the end",
    Status.FAILED: "an error of Keyhole's or the network's, after all retries",
    Status.UNREADABLE: "missing, denied, archived, or encrypted with the customer's key",
    Status.UNRECOGNIZED: "no disk image that Keyhole knows",
    Status.SAFE: "recognised, whole, every check passed",
}
URGENCY: Final = {status: place for place, status in enumerate(BY_URGENCY)}

#: The reasons that are no check's.
OTHER_REASONS: Final = {
    "no_known_format": "nothing was recognised in it",
    "not_an_image": "it is something else, as a text or a PDF",
    "zeros": "nothing but zeros was seen in it",
    "empty": "there is not a byte in it",
    "decompression_limit": "its image is compressed, and more of it is needed than may be decompressed",
    "size_unknown": "it was recognised, but the size of its disk is unknown or zero",
    "wholeness_unchecked": "it was recognised, but nothing proves that it is whole",
    "missed": "a stream passed what was wanted; read the object by range",
    "budget": "the scan's budget of requests, bytes, seconds or CPU time ran out",
    "object_changed": "it was replaced while it was read, again and again",
    "not_found": "there is no such object any more",
    "delete_marker": "the version is a delete marker",
    "access_denied": "access is denied, or it is missing and listing is denied",
    "bucket_not_allowed": "KEYHOLE_BUCKETS does not allow its bucket",
    "archived": "it is archived, and must be restored before it can be read",
    "customer_key": "it is encrypted with a key that only the customer has",
    "range_ignored": "the server ignores ranges, and what is wanted lies far back",
    "unreadable_file": "the file cannot be read",
    "credentials": "S3 refuses the credentials",
    "clock": "S3 refuses the request, because this machine's clock is wrong",
    "request": "S3 refuses the request",
    "network": "the network failed, in all retries",
    "server_error": "the server failed, in all retries",
    "slow_down": "the server asked for fewer requests, in all retries",
    "truncated_body": "the server sent fewer bytes than it announced, every time",
    "wrong_range": "the server sent another range than it was asked for, every time",
    "worker_lost": "its batch was sent again and again, and no worker finished it",
    "poison": "three workers died of it",
    "memory": "other scans of the process held the memory that it needed",
    "rate": "the audits of the bucket asked for more requests than their rate allows in time",
    "internal_error": "the scanner has a bug; the dead letter and the log say which",
}


def meaning(reason: str) -> str:
    """What a reason's code stands for; the code itself, if a later version gave it."""
    check = CHECKS.get(reason)
    return check.looks_for if check else OTHER_REASONS.get(reason, reason)
