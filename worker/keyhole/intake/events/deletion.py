"""Deletes the verdict of an object after an event says that the object was deleted.

A verdict is deleted if the sequencer of its event is not later than that of the delete. If that is unknown
(the object was submitted, or the storage sends no sequencers), or if the delete came late, S3 is asked
whether the object exists: one GET of a byte. Unless S3 says that it does not exist, the verdict is kept.
That is harmless, because a verdict names the ETag of its object.

An event without a version is about the bare key: its verdict is deleted, or its pointer to a version, which
is now below a delete marker. The verdicts of versions are kept. An event with a version is about that
version.
"""

import logging
from collections.abc import Callable, Sequence

from botocore.exceptions import BotoCoreError

from keyhole.intake.events.event import ObjectEvent
from keyhole.reasons import MISSING
from keyhole.results.drop import Drops, Standing, order
from keyhole.results.lookup import Name
from keyhole.sources import s3_boto
from keyhole.sources.errors import SourceError
from keyhole.sources.meter import Budget, Meter
from keyhole.sources.s3 import S3Access
from keyhole.sources.s3_answer import Pin, Span

log = logging.getLogger(__name__)


class VerdictDeleter:
    """Deletes the verdicts of deleted objects.

    Args:
        drops: Deletes recorded verdicts.
        is_gone: Whether an object, or a version, certainly does not exist.
    """

    def __init__(self, drops: Drops, is_gone: Callable[[Name], bool]) -> None:
        self._drops = drops
        self._is_gone = is_gone

    def delete(self, events: Sequence[ObjectEvent]) -> tuple[int, int]:
        """Delete the verdicts of these events; return how many were deleted, and how many were kept."""
        readings = [_readings(event) for event in events]
        looked_at = iter(self._drops.look([name for names in readings for name in names]))
        forgotten = kept = 0
        for event, names in zip(events, readings, strict=True):
            # If the first reading of the key has no verdict, that of the other reading counts.
            found = next(filter(None, [next(looked_at) for _ in names]), None)
            if found is None:
                continue
            if self._is_over(event, found) and self._drops.drop(found):
                forgotten += 1
            else:
                kept += 1
        return forgotten, kept

    def _is_over(self, event: ObjectEvent, found: Standing) -> bool:
        deleted, scanned = order(event.sequencer), found.sequencer
        if deleted is not None and scanned is not None and deleted >= scanned:
            return True
        return self._is_gone(found.name)


def _readings(event: ObjectEvent) -> list[Name]:
    """The object's name in both readings of its key, that of the dialect first."""
    if event.bucket is None:
        return []
    return [
        Name(event.bucket, key, event.version_id) for key in (event.key, event.other_key) if key is not None
    ]


def is_gone(access: Callable[[], S3Access], name: Name) -> bool:
    """Whether S3 says that an object, or a version, does not exist. It makes one request, without retries.

    `access` returns the access to S3. If that fails, the object may exist.
    """
    pin = Pin(name.bucket, name.key, name.version_id)
    try:
        s3_boto.get(access().client, pin, Span(0, 1), Meter(Budget()))
    except SourceError as error:
        if error.reason in MISSING:
            return True
        log.debug("the verdict on %r is kept: %s", name, error)
    except BotoCoreError as error:
        log.debug("the verdict on %r is kept: %s", name, error)
    return False
