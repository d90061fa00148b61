"""Forgetting: a delete drops the verdict on what is gone, and no other.

A verdict is dropped if its event's sequencer is not after the delete's. Where that is not known (somebody
submitted the object, the storage sends none), or where the delete came late, S3 is asked whether the object
is there: one GET of a byte. Whatever else S3 answers, the verdict is kept: it speaks of the object with its
ETag, and harms nobody.

An event without a version is about the bare key: its verdict goes, or the pointer to a version, over which
lies a delete marker now; the versions' verdicts stay. An event with one is about that version.
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
    """Drops the verdicts on what is gone.

    Args:
        drops: Where verdicts are kept.
        is_gone: Whether an object, or a version, is certainly not there.
    """

    def __init__(self, drops: Drops, is_gone: Callable[[Name], bool]) -> None:
        self._drops = drops
        self._is_gone = is_gone

    def delete(self, events: Sequence[ObjectEvent]) -> tuple[int, int]:
        """Drop what the events say is gone; returns how many verdicts were dropped, and how many kept."""
        readings = [_readings(event) for event in events]
        looked_at = iter(self._drops.look([name for names in readings for name in names]))
        forgotten = kept = 0
        for event, names in zip(events, readings, strict=True):
            # The one under the other reading of the key counts if none lies under the first.
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
    """The object under both readings of its key, the dialect's own first."""
    if event.bucket is None:
        return []
    return [
        Name(event.bucket, key, event.version_id) for key in (event.key, event.other_key) if key is not None
    ]


def is_gone(access: Callable[[], S3Access], name: Name) -> bool:
    """Whether S3 says that an object, or a version, is not there. One request, without retries.

    `access` finds the way to S3; where there is none, nothing is known to be gone.
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
