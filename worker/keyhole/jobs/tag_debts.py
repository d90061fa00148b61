"""Tag debts: for each object, the tags that Keyhole still has to write to it (see `jobs.debts`).

- A second writer of an object waits for up to `_WAIT_SECONDS`. If the first writer has not finished by then,
  the second writer records a debt with the tags of its own verdict, which replaces the first debt. The new
  debt is *owed*: a worker writes its tags later.
- A debt is settled when the writer has read the correct tags back from the object.
- A write to which S3 did not respond can still take effect later. So even tags that were read back correctly
  are checked once more, `LATE_SECONDS` after the last write without a response. The check also takes place if
  another verdict was recorded in the meantime.

What it can't do: if a write takes effect later than `LATE_SECONDS`, Keyhole does not notice the wrong tags.
"""

import time
from collections.abc import Sequence
from typing import Final

import redis

from keyhole.jobs.debts import LOST_SECONDS, RENEW_SECONDS, Debts, Hold, Kind, Owed
from keyhole.jobs.delays import LONGEST_DELAY
from keyhole.results.tags import TAG_DEBT, TagDebt
from keyhole.store import keys

__all__ = ["LATE_SECONDS", "LOST_SECONDS", "RENEW_SECONDS", "Hold", "Owed", "TagDebts"]

#: If S3 does not respond to a write, Keyhole assumes that the write takes effect within this many seconds, or
#: never.
LATE_SECONDS: Final = 60.0
#: How long a writer waits for another writer of the same object, and how often it checks whether the other
#: writer has finished, in seconds. The wait is long enough for most writers, because a writer sends only
#: about five requests to S3.
_WAIT_SECONDS, _POLL_SECONDS = 15.0, 0.05


def _id(debt: TagDebt) -> str:
    return keys.object_id(debt.bucket, debt.key, debt.version_id)


def _to_json(debt: TagDebt) -> bytes:
    return TAG_DEBT.dump_json(debt, exclude_none=True)


_KIND: Final = Kind("tags", _id, _to_json, TAG_DEBT.validate_json, LATE_SECONDS, LONGEST_DELAY)


class TagDebts(Debts[TagDebt]):
    """The tag debts in Redis. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client, _KIND)

    def hold(self, debt: TagDebt) -> Hold[TagDebt] | None:
        """Record a debt and hold it. The debt replaces an older debt of the same object.

        Returns:
            The held debt. If another writer still holds the object's debt after 15 seconds, the method
            records nothing and returns `None`.
        """
        until = time.monotonic() + _WAIT_SECONDS
        while (hold := self.try_hold(debt)) is None:
            if time.monotonic() > until:
                return None
            time.sleep(_POLL_SECONDS)
        return hold

    def owed(self, bucket: str, key: str, version_id: str | None) -> Owed | None:
        """Return the failed attempts to write an object's tags; `None` if the object has no debt."""
        return self.owed_among([(bucket, key, version_id)])[0]

    def owed_among(self, objects: Sequence[tuple[str, str, str | None]]) -> list[Owed | None]:
        """Return the result of `owed` for each of the objects (bucket, key, version), in the same order."""
        return self.owed_by_id([keys.object_id(*named) for named in objects])
