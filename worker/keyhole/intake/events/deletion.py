"""Deletes the verdict of an object after an event reported that the object was deleted.

Keyhole compares the sequencer of the delete event with the sequencer of the event that led to the verdict. If
the delete event is not older, Keyhole deletes the verdict. If the delete event is older, or if a sequencer is
unknown, Keyhole sends one GET for a single byte to S3. Keyhole then deletes the verdict only if S3 responds
that the object does not exist. A sequencer is unknown if a user submitted the object, or if the storage sends
no sequencers. If a verdict remains after its object was deleted, it does no harm. The verdict contains the
ETag of the scanned object, so nobody can mistake it for a verdict on a new object with the same key.

For each key, Redis stores a verdict, or a pointer to the verdict on the newest version. If the event has no
version id, Keyhole deletes the verdict or the pointer of the key. It does not delete the verdicts of the
versions, because the delete only added a delete marker, and the versions still exist below the marker. If the
event has a version id, Keyhole deletes only the verdict of this version.
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
from keyhole.sources.s3_access import S3Access
from keyhole.sources.s3_answer import Pin, Span

log = logging.getLogger(__name__)


class VerdictDeleter:
    """Deletes the verdicts of deleted objects.

    Args:
        drops: Drops recorded verdicts from Redis.
        is_gone: A function that returns true if it is certain that an object or a version does not exist.
    """

    def __init__(self, drops: Drops, is_gone: Callable[[Name], bool]) -> None:
        self._drops = drops
        self._is_gone = is_gone

    def delete(self, events: Sequence[ObjectEvent]) -> tuple[int, int]:
        """Delete the verdicts of these objects, and return the numbers of deleted and of kept verdicts."""
        readings = [_readings(event) for event in events]
        looked_at = iter(self._drops.look([name for names in readings for name in names]))
        forgotten = kept = 0
        for event, names in zip(events, readings, strict=True):
            # If `key` has no verdict, use the verdict of `other_key`.
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
    """Return the possible names of the object: first with `key`, then with `other_key`."""
    if event.bucket is None:
        return []
    return [
        Name(event.bucket, key, event.version_id) for key in (event.key, event.other_key) if key is not None
    ]


def is_gone(access: Callable[[], S3Access], name: Name) -> bool:
    """Return whether S3 responds that an object or a version does not exist.

    Send one request without retries.

    `access` is a function that returns the access to S3. If the request fails for any other reason, return
    false, because the object may still exist.
    """
    pin = Pin(name.bucket, name.key, name.version_id)
    try:
        s3_boto.get(access().client, pin, Span(0, 1), Meter(Budget()))
    except SourceError as error:
        if error.reason in MISSING:
            return True
        log.debug("keeping the verdict on %r: %s", name, error)
    except BotoCoreError as error:
        log.debug("keeping the verdict on %r: %s", name, error)
    return False
