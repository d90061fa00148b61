"""Reads audits from Redis: their specifications, states, totals, rows and findings.

Known limits: the rows of an audit contain hashes of the objects' names. The names themselves are only in the
records of verdicts. If these records expire earlier than the audit, the audit still reports the statuses of
the objects, but can no longer report their names.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, cast

import redis

from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding, Totals
from keyhole.intake.audits.owners import unpack_owners
from keyhole.intake.audits.records import NANO, NOT_AN_IMAGE, ROW_BYTES, Row
from keyhole.reasons import Status
from keyhole.results.owner import Owner
from keyhole.store import keys

#: The maximum number of audits, findings or strings of owners in one response of Redis.
_PAGE: Final = 100
#: The maximum number of row strings in one response. A row string contains the rows that one page or batch
#: added: by default 1.8 KB, and at most 18 KB.
_ROW_STRINGS: Final = 500
#: The maximum number of audit specifications that a process caches.
_SPECS_REMEMBERED: Final = 100


class AuditReader:
    """The audits in Redis, for readers. The client comes from `keyhole.store.connection.connect`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._specs: dict[str, AuditSpec] = {}

    def state(self, audit_id: str) -> AuditState | None:
        """Return the state of an audit; `None` if no audit has this id."""
        found = cast("bytes | None", self._client.hget(keys.audit(audit_id), "state"))
        return None if found is None else AuditState(found.decode())

    def spec(self, audit_id: str) -> AuditSpec | None:
        """Return the specification of an audit, which is cached, because it never changes."""
        if audit_id not in self._specs:
            found = cast("bytes | None", self._client.hget(keys.audit(audit_id), "spec"))
            if found is None:
                return None
            if len(self._specs) >= _SPECS_REMEMBERED:
                self._specs.clear()
            self._specs[audit_id] = AuditSpec.model_validate_json(found)
        return self._specs[audit_id]

    def get(self, audit_id: str) -> Audit | None:
        """Return an audit; `None` if no audit has this id."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.audit(audit_id))
            pipe.hgetall(keys.audit(audit_id, "totals"))
            pipe.hlen(keys.audit(audit_id, "outstanding"))
            pipe.llen(keys.audit(audit_id, "unsent"))
            found, totals, outstanding, unsent = pipe.execute()
        if b"spec" not in found:
            return None
        fields = {name.decode(): value.decode() for name, value in found.items()}
        return Audit(
            id=audit_id,
            spec=AuditSpec.model_validate_json(fields["spec"]),
            state=AuditState(fields["state"]),
            reason=fields.get("reason") or None,
            started_at=_moment(fields["started"]),
            ended_at=_moment(fields["ended"]) if fields.get("ended") else None,
            listed_all=fields.get("listed_all") == "1",
            outstanding=outstanding - unsent,
            totals=_totals({name.decode(): int(value) for name, value in totals.items()}),
            ruleset=fields["ruleset"],
            scanner=fields["scanner"],
        )

    def latest(self, limit: int) -> list[Audit]:
        """Return the audits that started last, latest first."""
        audits: list[Audit] = []
        start = 0
        while len(audits) < limit:
            page = cast("list[bytes]", self._client.zrange(keys.AUDITS, start, start + _PAGE - 1, desc=True))
            for audit_id in page:
                audit = self.get(audit_id.decode())
                if audit is None:
                    self._client.zrem(keys.AUDITS, audit_id)
                    start -= 1
                elif len(audits) < limit:
                    audits.append(audit)
            start += len(page)
            if len(page) < _PAGE:
                break
        return audits

    def running(self) -> list[str]:
        """Return the ids of all running audits."""
        found = cast("list[bytes]", self._client.zrange(keys.AUDITS, 0, -1))
        ids = [audit_id.decode() for audit_id in found]
        with self._client.pipeline(transaction=False) as pipe:
            for audit_id in ids:
                pipe.hget(keys.audit(audit_id), "state")
            states = pipe.execute()
        return [audit_id for audit_id, state in zip(ids, states, strict=True) if state == b"running"]

    def rows(self, audit_id: str) -> Iterator[Row]:
        """Yield the rows of all objects in an audit."""
        for packed in self.row_strings(audit_id):
            for start in range(0, len(packed), ROW_BYTES):
                yield Row.unpacked(packed[start : start + ROW_BYTES])

    def row_strings(self, audit_id: str) -> Iterator[bytes]:
        """Yield the strings of rows that an audit stores, in their order; see `urgent_rows`."""
        return self._list(keys.audit(audit_id, "objects"), _ROW_STRINGS)

    def owners(self, audit_id: str) -> Iterator[Owner]:
        """Yield the owner of each row, in the order of `rows`; nothing if the audit has no owner tag."""
        for packed in self._list(keys.audit(audit_id, "owners")):
            yield from unpack_owners(packed)

    def findings(self, audit_id: str) -> Iterator[BucketFinding]:
        """Yield an audit's findings about the bucket."""
        return map(BucketFinding.model_validate_json, self._list(keys.audit(audit_id, "findings")))

    def _list(self, key: str, size: int = _PAGE) -> Iterator[bytes]:
        """Yield the strings of a list. `size` is the number of strings in one request."""
        start = 0
        while page := cast("list[bytes]", self._client.lrange(key, start, start + size - 1)):
            yield from page
            start += len(page)


def _totals(counts: Mapping[str, int]) -> Totals:
    statuses = Counter({status: counts.get(f"status:{status}", 0) for status in Status})
    not_images = counts.get(f"status:{NOT_AN_IMAGE}", 0)
    statuses[Status.UNRECOGNIZED] += not_images
    plain: Iterable[str] = Totals.model_fields.keys() - {"statuses", "not_images", "dollars"}
    return Totals.model_validate(
        {name: counts.get(name, 0) for name in plain}
        | {
            "statuses": +statuses,
            "not_images": not_images,
            "dollars": counts.get("nanodollars", 0) / NANO,
        }
    )


def _moment(epoch_seconds: str) -> datetime:
    return datetime.fromtimestamp(float(epoch_seconds), UTC)
