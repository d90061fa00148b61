"""Audits in Redis: what each is asked to do, how far it is, and what it counted.

An audit's life, in which every step is one script, so that whoever is killed between two of them has done the
one and not the other:

    create ──► claim a page ──► (list it) ──► commit it ──► take as many of its batches as may be sent
                    ▲                                         ▲                        │
                    │                                         │                  (publish them)
                    │                                         │                        ▼
                    └───── none is left to be taken ◄─────────┴──────────────── finish a batch

- A page has a number, and is committed once: with the place where the next begins, what it counted, and the
  batches that were cut from it. Whoever listed the same page a second time commits nothing.
- A batch is outstanding until it is finished, and in the ledger from the moment that it is taken. Its results
  lie under the ids of its jobs, the first of each counts; they are added to the totals in the step in which
  the batch is outstanding no longer.
- So a total is right at every moment, and the same however often anything was done.
- `create`, and `commit` of a page with batches, return once what they wrote is on the server's disk, where
  the server can tell (`keyhole.store.durability`). `take` does not wait: a crash that undoes it puts the
  batches back among those that are not sent, and the sweep sends them. A page without batches that is lost is
  listed again.

What it can't do: it is as durable as its Redis. And the rows of an audit name objects by the hash of their
name; what they are called, their records know, if they have not expired.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState, BucketFinding, How, Totals
from keyhole.intake.audits.records import NANO, ROW_BYTES, Claim, PageResult, Place, Result, Row
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.queues import AUDITS
from keyhole.reasons import Status
from keyhole.store import keys
from keyhole.store.durability import Durability

#: Seconds that a page may take without a sign of life: a LIST with all its retries.
PAGE_SECONDS: Final = 120
#: Audits, findings or strings of rows in one answer.
_PAGE: Final = 100
#: Specifications of audits that a process remembers.
_SPECS_REMEMBERED: Final = 100


class AuditStore:
    """The audits in Redis, through a client as `keyhole.store.connection.connect` makes it.

    `expiry_seconds` is how long an audit is kept once it has ended, `None` for ever.
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
        """Begin an audit, and return once it is on the server's disk; false if there is one of this id.

        Raises:
            NotDurableError: The disk is too slow. The audit is begun, and a crash may lose it.
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
        """The right to list the next page; `None` if somebody has it, or it is not time for another page.

        It is time while the audit runs, is not at its end, has fewer batches outstanding than it may, and
        none to be taken.
        """
        page = self._claim(
            keys=[*self._keys(audit_id, "", "outstanding", "unsent", "page")],
            args=[token, PAGE_SECONDS],
        )
        return None if page is None else Claim(audit_id, int(page), token)

    def hold(self, claim: Claim) -> bool:
        """Say that one still works on a page; false if it is somebody else's by now, or done."""
        held = self._hold(
            keys=[*self._keys(claim.audit_id, "", "page")], args=[claim.token, PAGE_SECONDS, claim.page]
        )
        return bool(held)

    def record_rules(self, audit_id: str, *, ruleset: str, scanner: str) -> None:
        """Say by which rules verdicts are made: those of the workers, not of whoever began the audit."""
        self._client.hset(keys.audit(audit_id), mapping={"ruleset": ruleset, "scanner": scanner})

    def count_start(self, audit_id: str) -> int:
        """Count a start of the work on the next page, before the work: 1 for the first.

        Committing it forgets that, and so does trouble that is noted, and turning the audit.
        """
        return self._client.hincrby(keys.audit(audit_id), "starts", 1)

    def place(self, audit_id: str) -> Place:
        """Where the next page begins."""
        found = self._client.hmget(keys.audit(audit_id), ["page", "cursor", "after"])
        page, cursor, after = cast("list[bytes | None]", found)  # bytes, as `connect` asks
        return Place(int(page or 0), _text(cursor) or None, _text(after) or None)

    def commit(self, claim: Claim, result: PageResult) -> bool:
        """Commit a page; false if it was committed before, or the audit was cancelled meanwhile.

        If it has batches, they are on the server's disk when this returns.

        Raises:
            NotDurableError: The disk is too slow. The page is committed, and a crash may undo that.
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
        """The batches that are to be sent now, which are in the ledger from now on."""
        taken = self._take(
            keys=[
                *self._keys(audit_id, "", "outstanding", "unsent"),
                keys.ledger_open(AUDITS),
                keys.LEDGER_ENTRIES,
                keys.LEDGER_CLOCK,
            ]
        )
        return [ENTRY.validate_json(text) for text in taken]

    def release(self, claim: Claim) -> None:
        """Give up the right to a page, when it is committed."""
        self._release(keys=[*self._keys(claim.audit_id, "page")], args=[claim.token])

    def outstanding(self, audit_id: str) -> list[Entry]:
        """The batches that were taken, and have no results."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.audit(audit_id, "outstanding"))
            pipe.lrange(keys.audit(audit_id, "unsent"), 0, -1)
            found, unsent = pipe.execute()
        return [ENTRY.validate_json(text) for batch_id, text in found.items() if batch_id not in unsent]

    def record_result(self, audit_id: str, batch_id: str, job_id: str, result: Result) -> None:
        """Note what became of a job; the first result of each counts, while its batch is outstanding."""
        row = Row(result.object_id, result.status, How.SCANNED).packed()
        counts = f"{result.status.value} {result.requests} {result.bytes_read} {result.nanodollars}"
        self._record_result(
            keys=[*self._keys(audit_id, "outstanding"), keys.batch_results(audit_id, batch_id)],
            args=[batch_id, job_id, row + counts.encode(), scripts.RESULT_SECONDS],
        )

    def finish(self, audit_id: str, batch_id: str) -> bool:
        """Count the results of a batch, which is then outstanding no longer; false if it was not."""
        done = self._finish(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings"),
                keys.batch_results(audit_id, batch_id),
            ],
            args=[batch_id, self._expiry],
        )
        return bool(done)

    def set_state(self, audit_id: str, state: AuditState, reason: str = "") -> bool:
        """Pause, resume, cancel an audit, or let it fail; false if it is in no state for that."""
        done = self._set_state(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings", "unsent", "page")
            ],
            args=[state.value, reason, self._expiry],
        )
        return bool(done)

    def record_trouble(self, audit_id: str, reason: str) -> None:
        """Say why an audit that runs does not get on."""
        self._client.hset(keys.audit(audit_id), mapping={"reason": reason, "starts": 0})

    def state(self, audit_id: str) -> AuditState | None:
        """How an audit stands; `None` if there is none of this id."""
        found = cast("bytes | None", self._client.hget(keys.audit(audit_id), "state"))
        return None if found is None else AuditState(found.decode())

    def spec(self, audit_id: str) -> AuditSpec | None:
        """What an audit is asked to do; remembered, as it never changes."""
        if audit_id not in self._specs:
            found = cast("bytes | None", self._client.hget(keys.audit(audit_id), "spec"))
            if found is None:
                return None
            if len(self._specs) >= _SPECS_REMEMBERED:
                self._specs.clear()
            self._specs[audit_id] = AuditSpec.model_validate_json(found)
        return self._specs[audit_id]

    def get(self, audit_id: str) -> Audit | None:
        """An audit as it stands; `None` if there is none of this id."""
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
        """The latest audits, the last begun first."""
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
        """The ids of all audits that run."""
        found = cast("list[bytes]", self._client.zrange(keys.AUDITS, 0, -1))
        ids = [audit_id.decode() for audit_id in found]
        with self._client.pipeline(transaction=False) as pipe:
            for audit_id in ids:
                pipe.hget(keys.audit(audit_id), "state")
            states = pipe.execute()
        return [audit_id for audit_id, state in zip(ids, states, strict=True) if state == b"running"]

    def rows(self, audit_id: str) -> Iterator[Row]:
        """All objects of an audit, as they came."""
        for packed in self._list(keys.audit(audit_id, "objects")):
            for start in range(0, len(packed), ROW_BYTES):
                yield Row.unpacked(packed[start : start + ROW_BYTES])

    def findings(self, audit_id: str) -> Iterator[BucketFinding]:
        """What an audit found about the bucket."""
        return map(BucketFinding.model_validate_json, self._list(keys.audit(audit_id, "findings")))

    def _list(self, key: str) -> Iterator[bytes]:
        start = 0
        while page := cast("list[bytes]", self._client.lrange(key, start, start + _PAGE - 1)):
            yield from page
            start += len(page)

    @staticmethod
    def _keys(audit_id: str, *parts: str) -> Sequence[str]:
        return [keys.audit(audit_id, part) for part in parts]


def _totals(counts: Mapping[str, int]) -> Totals:
    statuses = {status: counts[f"status:{status}"] for status in Status if counts.get(f"status:{status}")}
    plain: Iterable[str] = Totals.model_fields.keys() - {"statuses", "dollars"}
    return Totals.model_validate(
        {name: counts.get(name, 0) for name in plain}
        | {"statuses": statuses, "dollars": counts.get("nanodollars", 0) / NANO}
    )


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _moment(epoch_seconds: str) -> datetime:
    return datetime.fromtimestamp(float(epoch_seconds), UTC)
