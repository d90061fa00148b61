"""Audits in Redis: their specifications, progress and totals.

The diagram shows the life of an audit. Each step is one Lua script and therefore atomic: if a worker is
killed, each step was either executed completely or not begun.

    create ──► claim a page ──► (list it) ──► commit it ──► take the batches that can be sent now
                    ▲                                         ▲                        │
                    │                                         │                  (publish them)
                    │                                         │                        ▼
                    └───── no batch is left to take ◄─────────┴──────────────── finish a batch

- Each page has a number and is committed only once. The commit stores the page's counts, its batches, and the
  cursor of the next page. If two workers list the same page, the second commit has no effect. If a page has
  no batches, a worker can list the next page with the same claim.
- A batch is called outstanding from the commit of its page until the batch is finished. When a worker takes a
  batch to send it, the same script records the batch in the ledger, which is used to send lost batches again
  (`keyhole.jobs.ledger`). Redis stores the first result of each job in the batch, and ignores later results
  of the same job. When the batch is finished, its results are added to the totals.
- So the totals are always correct, even if a step is repeated.
- If the server supports `WAITAOF`, `create` waits until its writes are on disk, and so does the `commit` of a
  page with batches (`keyhole.store.durability`). `take` does not wait. If a crash of the server undoes
  `take`, the batches are unsent again, and the sweep, which runs every few seconds, sends them. The `commit`
  of a page without batches does not wait either. If a crash undoes it, a worker lists the page again.

Known limits: if Redis loses its data, the audit is lost. The rows of an audit contain hashes of the objects'
names. The names themselves are only in the records of verdicts. If these records expire earlier than the
audit, the audit still reports the statuses of the objects, but can no longer report their names.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding, How, Totals
from keyhole.intake.audits.records import (
    NANO,
    NOT_AN_IMAGE,
    ROW_BYTES,
    Claim,
    PageResult,
    Place,
    Result,
    Row,
    counted_status,
)
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.ledger_format import read_entries
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Status
from keyhole.store import keys
from keyhole.store.durability import Durability
from keyhole.store.round_trips import Step

#: The claim to a page expires if the process does not renew it for this many seconds. A LIST with all its
#: retries takes less time.
PAGE_SECONDS: Final = 120
#: The maximum number of audits, findings or row strings in one response of Redis. A row string contains the
#: rows that one page or one batch added.
_PAGE: Final = 100
#: The maximum number of audit specifications that a process caches.
_SPECS_REMEMBERED: Final = 100


class AuditStore:
    """The audits in Redis. The client comes from `keyhole.store.connection.connect`.

    An audit expires `expiry_seconds` after its end; `None`: it never expires.
    """

    def __init__(self, client: redis.Redis, *, expiry_seconds: int | None) -> None:
        self._client = client
        self._durable = Durability(client)
        self._expiry = expiry_seconds or 0
        self._create = client.register_script(scripts.CREATE)
        self._claim = client.register_script(scripts.CLAIM)
        self._hold = client.register_script(scripts.HOLD)
        self._commit = client.register_script(scripts.COMMIT)
        self._take = client.register_script(scripts.TAKE)
        self._release = client.register_script(scripts.RELEASE)
        self._record_result = client.register_script(scripts.RECORD_RESULT)
        self._finish = client.register_script(scripts.FINISH)
        self._set_state = client.register_script(scripts.SET_STATE)
        self._specs: dict[str, AuditSpec] = {}

    def create(self, audit_id: str, spec: AuditSpec, *, ruleset: str, scanner: str) -> bool:
        """Create an audit, and wait until the audit is on the server's disk.

        Returns:
            True, or false if an audit with this id already exists.

        Raises:
            NotDurableError: The server's disk is too slow. The audit exists, but it is lost if the server
                crashes now.
        """
        with self._client.pipeline(transaction=False) as pipe:
            self._create(
                keys=[keys.audit(audit_id), keys.AUDITS],
                args=[audit_id, spec.model_dump_json(), ruleset, scanner],
                client=pipe,
            )
            (made,) = self._durable.execute(pipe)
        return bool(made)

    def claim(self, audit_id: str, token: str) -> Claim | None:
        """Claim the next page; `None` if another process has the claim, or if no page can be listed now.

        A page can be listed under four conditions: the audit is running, it has pages that are not listed
        yet, it has fewer outstanding batches than its specification allows, and it has no unsent batches.
        """
        page = self._claim(
            keys=[*self._keys(audit_id, "", "outstanding", "unsent", "page")],
            args=[token, PAGE_SECONDS],
        )
        return None if page is None else Claim(audit_id, int(page), token)

    def hold(self, claim: Claim) -> Claim | None:
        """Renew a claim, and return it with the number of the next page, which can be greater.

        Return `None` if another process has the claim, or if the page is committed and the claim released.
        """
        page = self._hold(
            keys=[*self._keys(claim.audit_id, "", "page")], args=[claim.token, PAGE_SECONDS, claim.page]
        )
        return None if page is None else claim._replace(page=int(page))

    def record_rules(self, audit_id: str, *, ruleset: str, scanner: str) -> None:
        """Record the workers' ruleset and scanner version."""
        self._client.hset(keys.audit(audit_id), mapping={"ruleset": ruleset, "scanner": scanner})

    def count_start(self, audit_id: str) -> int:
        """Record that a process begins the next page, and return how many processes have begun this page.

        A count above 1 means that other processes began the page earlier and did not finish it. The count is
        reset when the page is committed, when `record_trouble` is called, or when the state changes.
        """
        return self._client.hincrby(keys.audit(audit_id), "starts", 1)

    def place(self, audit_id: str) -> Place:
        """Return the place at which the next page begins."""
        found = self._client.hmget(keys.audit(audit_id), ["page", "cursor", "after"])
        page, cursor, after = cast("list[bytes | None]", found)  # clients from `connect` return bytes
        return Place(int(page or 0), _text(cursor) or None, _text(after) or None)

    def commit(self, claim: Claim, result: PageResult) -> bool:
        """Commit a page, and wait until its batches are on the server's disk.

        Returns:
            True, or false if the page was already committed or the audit has ended in the meantime.

        Raises:
            NotDurableError: The server's disk is too slow. The page is committed, but the commit is undone if
                the server crashes now.
        """
        flat = [item for name, count in result.counts.items() if count for item in (name, count)]
        batches = [
            item for batch in result.batches for item in (batch.id, ENTRY.dump_json(batch, exclude_none=True))
        ]
        findings = [finding.model_dump_json() for finding in result.findings]
        with self._client.pipeline(transaction=False) as pipe:
            self._commit(
                keys=[
                    *self._keys(claim.audit_id, "", "totals", "outstanding", "objects", "findings", "unsent")
                ],
                args=[
                    claim.page,
                    result.cursor or "",
                    result.after or "",
                    "" if result.cursor is not None else result.ends_as.value,
                    result.reason,
                    self._expiry,
                    b"".join(row.packed() for row in result.rows),
                    len(flat),
                    *flat,
                    len(batches),
                    *batches,
                    *findings,
                ],
                client=pipe,
            )
            (done,) = self._durable.execute(pipe) if result.batches else pipe.execute()
        return bool(done)

    def take(self, audit_id: str) -> list[Entry]:
        """Take the unsent batches that the caller must send now, and record them in the ledger."""
        taken = self._take(
            keys=[
                *self._keys(audit_id, "", "outstanding", "unsent"),
                keys.ledger_open(AUDITS),
                keys.LEDGER_ENTRIES,
                keys.LEDGER_CLOCK,
            ]
        )
        return _readable((audit_id, text) for text in taken)

    def release(self, claim: Claim) -> None:
        """Release the claim to a page."""
        self._release(keys=[*self._keys(claim.audit_id, "page")], args=[claim.token])

    def outstanding(self, audit_id: str) -> list[Entry]:
        """Return the outstanding batches that were sent."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.audit(audit_id, "outstanding"))
            pipe.lrange(keys.audit(audit_id, "unsent"), 0, -1)
            found, unsent = pipe.execute()
        return _readable((batch_id, text) for batch_id, text in found.items() if batch_id not in unsent)

    def record_result(self, audit_id: str, batch_id: str, job_id: str, result: Result) -> None:
        """Record the first result of a job.

        If the job already has a result, or if its batch is finished, the new result is ignored.
        """
        step = self.recording_result(audit_id, batch_id, job_id, result)
        self._record_result(keys=step.keys, args=step.args)

    def recording_result(self, audit_id: str, batch_id: str, job_id: str, result: Result) -> Step:
        """Return the script call of `record_result` as a step, which can run together with other steps."""
        row = Row(result.object_id, result.status, How.SCANNED).packed()
        status = counted_status(result.status, not_an_image=result.not_an_image)
        counts = f"{status} {result.requests} {result.bytes_read} {result.nanodollars}"
        return Step(
            scripts.RECORD_RESULT,
            [*self._keys(audit_id, "outstanding"), keys.batch_results(audit_id, batch_id)],
            [batch_id, job_id, row + counts.encode(), scripts.RESULT_SECONDS],
        )

    def finish(self, audit_id: str, batch_id: str) -> bool:
        """Finish a batch and add its results to the totals; return false if the batch was not outstanding."""
        done = self._finish(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings"),
                keys.batch_results(audit_id, batch_id),
            ],
            args=[batch_id, self._expiry],
        )
        return bool(done)

    def set_state(self, audit_id: str, state: AuditState, reason: str = "") -> bool:
        """Pause, resume, cancel or fail an audit; return false if its current state does not allow this."""
        done = self._set_state(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings", "unsent", "page")
            ],
            args=[state.value, reason, self._expiry],
        )
        return bool(done)

    def record_trouble(self, audit_id: str, reason: str) -> None:
        """Record the reason why a running audit makes no progress."""
        self._client.hset(keys.audit(audit_id), mapping={"reason": reason, "starts": 0})

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
        for packed in self._list(keys.audit(audit_id, "objects")):
            for start in range(0, len(packed), ROW_BYTES):
                yield Row.unpacked(packed[start : start + ROW_BYTES])

    def findings(self, audit_id: str) -> Iterator[BucketFinding]:
        """Yield an audit's findings about the bucket."""
        return map(BucketFinding.model_validate_json, self._list(keys.audit(audit_id, "findings")))

    def _list(self, key: str) -> Iterator[bytes]:
        start = 0
        while page := cast("list[bytes]", self._client.lrange(key, start, start + _PAGE - 1)):
            yield from page
            start += len(page)

    @staticmethod
    def _keys(audit_id: str, *parts: str) -> Sequence[str]:
        return [keys.audit(audit_id, part) for part in parts]


def _readable(batches: Iterable[tuple[bytes | str, bytes]]) -> list[Entry]:
    """Return the batches that this version can read; workers of a newer version send the other batches."""
    return [batch for batch in read_entries(batches) if batch is not None]


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


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _moment(epoch_seconds: str) -> datetime:
    return datetime.fromtimestamp(float(epoch_seconds), UTC)
