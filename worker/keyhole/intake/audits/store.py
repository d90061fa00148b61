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

Known limit: if Redis loses its data, the audit is lost.
"""

from collections.abc import Iterable, Sequence
from typing import Final, cast

import redis

from keyhole.intake.audits import scripts
from keyhole.intake.audits.audit import AuditSpec, AuditState, How
from keyhole.intake.audits.owners import owner_bytes, pack_owners
from keyhole.intake.audits.reader import AuditReader
from keyhole.intake.audits.records import Claim, PageResult, Place, Result, Row, counted_status
from keyhole.jobs.entry import ENTRY, Entry
from keyhole.jobs.ledger_format import read_entries
from keyhole.jobs.queues import AUDITS
from keyhole.jobs.tag_debts import TagDebts
from keyhole.store import keys
from keyhole.store.durability import Durability
from keyhole.store.round_trips import Step

#: The claim to a page expires if the process does not renew it for this many seconds. A LIST with all its
#: retries takes less time.
PAGE_SECONDS: Final = 120


class AuditStore(AuditReader):
    """The audits in Redis, with the steps that change them.

    An audit expires `expiry_seconds` after its end; `None`: it never expires.
    """

    def __init__(self, client: redis.Redis, *, expiry_seconds: int | None) -> None:
        super().__init__(client)
        self._durable = Durability(client)
        self._tag_debts = TagDebts(client)
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

        The page's tag debts are recorded before the page is committed. If the commit fails, the page is
        listed again, so no debt is lost. A debt that is recorded twice does no harm.

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
            for debt in result.tag_debts:
                self._tag_debts.record(debt, pipe)
            self._commit(
                keys=[
                    *self._keys(claim.audit_id, "", "totals", "outstanding", "objects", "findings", "unsent"),
                    *self._keys(claim.audit_id, "owners"),
                ],
                args=[
                    claim.page,
                    result.cursor or "",
                    result.after or "",
                    "" if result.cursor is not None else result.ends_as.value,
                    result.reason,
                    self._expiry,
                    b"".join(row.packed() for row in result.rows),
                    pack_owners(result.owners) if result.owners else b"",
                    len(flat),
                    *flat,
                    len(batches),
                    *batches,
                    *findings,
                ],
                client=pipe,
            )
            *_, done = self._durable.execute(pipe) if result.batches else pipe.execute()
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
        counts = f"{status} {result.requests} {result.bytes_read} {result.nanodollars}".encode()
        owner = b"" if result.owner is None else b" " + owner_bytes(result.owner)
        return Step(
            scripts.RECORD_RESULT,
            [*self._keys(audit_id, "outstanding"), keys.batch_results(audit_id, batch_id)],
            [batch_id, job_id, row + counts + owner, scripts.RESULT_SECONDS],
        )

    def finish(self, audit_id: str, batch_id: str) -> bool:
        """Finish a batch and add its results to the totals; return false if the batch was not outstanding."""
        done = self._finish(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings"),
                keys.batch_results(audit_id, batch_id),
                *self._keys(audit_id, "owners"),
            ],
            args=[batch_id, self._expiry],
        )
        return bool(done)

    def set_state(self, audit_id: str, state: AuditState, reason: str = "") -> bool:
        """Pause, resume, cancel or fail an audit; return false if its current state does not allow this."""
        done = self._set_state(
            keys=[
                *self._keys(audit_id, "", "totals", "outstanding", "objects", "findings", "unsent", "page"),
                *self._keys(audit_id, "owners"),
            ],
            args=[state.value, reason, self._expiry],
        )
        return bool(done)

    def record_trouble(self, audit_id: str, reason: str) -> None:
        """Record the reason why a running audit makes no progress."""
        self._client.hset(keys.audit(audit_id), mapping={"reason": reason, "starts": 0})

    @staticmethod
    def _keys(audit_id: str, *parts: str) -> Sequence[str]:
        return [keys.audit(audit_id, part) for part in parts]


def _readable(batches: Iterable[tuple[bytes | str, bytes]]) -> list[Entry]:
    """Return the batches that this version can read; workers of a newer version send the other batches."""
    return [batch for batch in read_entries(batches) if batch is not None]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()
