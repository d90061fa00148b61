"""Ranged GETs by obstore: a twentieth of boto3's CPU, for the keys that it can name.

Its path grammar is narrower than S3's: it strips `/` from both ends of a key, which would read another
object, and refuses empty, `.` and `..` segments and control characters. `can_name` says which keys are equal
to their parsed form.

It must not be used in a process that is forked afterwards; whoever forks creates it in the child.
"""

from typing import TYPE_CHECKING

from obstore import get as obstore_get
from obstore.exceptions import BaseError
from obstore.store import S3Store

from worker.sources.meter import Meter
from worker.sources.s3_answer import Answer, Pin, Span
from worker.sources.source import Identity

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult


class ObstoreRefusedError(Exception):
    """It did not work, and obstore's errors don't say enough of why: ask again by boto3, which names it."""


def can_name(key: str) -> bool:
    """Whether obstore reads exactly the object of this key."""
    segments = key.split("/")
    return not any(segment in {"", ".", ".."} for segment in segments) and not any(
        ord(character) < 0x20 or ord(character) == 0x7F for character in key
    )


def get(store: S3Store, pin: Pin, span: Span, meter: Meter) -> Answer:
    """Make one ranged GET.

    Raises:
        ObstoreRefusedError: Whatever went wrong.
        BudgetExhaustedError: The request would be over the budget.
    """
    meter.request(span.length)
    options: GetOptions = {
        "range": {"suffix": span.length} if span.offset is None else (span.offset, span.offset + span.length),
    }
    if pin.etag is not None:
        options["if_match"] = pin.etag
    if pin.version_id is not None:
        options["version"] = pin.version_id
    try:
        result = obstore_get(store, pin.key, options=options)
        size = result.meta["size"]
        offset, length = span.placed(size)
        data = _body(result, length, meter)
    except (BaseError, FileNotFoundError, ValueError, OSError) as error:
        raise ObstoreRefusedError(str(error)) from error
    if result.range != (offset, offset + length) or len(data) != length:
        raise ObstoreRefusedError(
            f"{span.header} was answered with {len(data)} bytes, said to be {result.range}"
        )
    return Answer(
        offset,
        data,
        Identity(
            size=size,
            etag=result.meta.get("e_tag"),
            version_id=result.meta.get("version"),
            last_modified=result.meta["last_modified"],
            content_type=result.attributes.get("Content-Type"),
            content_encoding=result.attributes.get("Content-Encoding"),
            metadata=tuple((str(name), str(value)) for name, value in result.attributes.items()),
        ),
    )


def _body(result: "GetResult", length: int, meter: Meter) -> bytes:
    """The body as it comes, but not much more than `length` bytes of it: a server may send without end."""
    data = bytearray()
    for piece in result.stream(min_chunk_size=1):
        data += bytes(piece)
        meter.received(len(piece))
        if len(data) > length:
            break
    return bytes(data)
