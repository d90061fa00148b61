"""The account of a run: which jobs were accepted, how each ended, and whether verdicts and tags are true.

A job ends with a verdict in the stream or, if no worker will try it again, with a dead letter. Every accepted
job must end exactly once. If Redis died during the submission, it is uncertain whether the job was accepted,
and the job must end at most once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyhole.intake.dead_letters import DeadLetters, LetterKind
from keyhole.jobs.entry import ENTRY
from keyhole.jobs.job import ScanJob
from keyhole.reasons import Status
from keyhole.results.redis_store import RedisStore, Verdict
from keyhole.results.tags import STATUS, disagreement, is_own
from keyhole.scan.report import Report
from tests.faults.objects import BUCKET, key_of, stocks
from tests.faults.s3_answers import Stored

#: Fields that differ between two scans of the same bytes.
VARYING = {
    "target",
    "bucket",
    "key",
    "version_id",
    "last_modified",
    "requests",
    "bytes_read",
    "ranges",
    "elapsed_ms",
    "cpu_ms",
    "scanned_at",
    "last_attempt",
}
#: How many examples of each kind of trouble are stored.
EXAMPLES = 5


def facts(report: Report) -> dict[str, Any]:
    """The part of a report that depends only on the bytes, not on the key or the time of the scan."""
    return _without_varying(report.model_dump(mode="json"))


def _without_varying(report: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in report.items() if name not in VARYING}
    return kept | {"members": [_without_varying(member) for member in report["members"]]}


@dataclass
class Trouble:
    """The errors that were found: how many of each kind, and some examples."""

    count: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, example: str) -> None:
        """Record an error."""
        self.count[kind] = self.count.get(kind, 0) + 1
        if self.count[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(example)


class Accounts:
    """Counts the ends of a run's jobs, each time the system is at rest."""

    def __init__(self, store: RedisStore, dead_letters: DeadLetters) -> None:
        self._store = store
        self._dead_letters = dead_letters
        self._position = store.stream_position()
        self._verdicts: Counter[str] = Counter()
        self._given_up: Counter[str] = Counter()
        #: Keys of objects whose verdict states that their scans killed three workers.
        self.poisoned: set[str] = set()
        #: The report of an undisturbed run on each image, by the image's ETag.
        self.expected: dict[str, dict[str, Any]] = {}
        self.trouble = Trouble()

    def undisturbed(self) -> None:
        """Use the verdicts that have arrived as the expected ones. Later verdicts must be equal."""
        for verdict in self._arrived():
            self._verdicts[verdict.job_id] += 1
            if verdict.report.etag is not None:
                self.expected[_etag(verdict.report)] = facts(verdict.report)
        missing = [stock.name for stock in stocks() if stock.etag not in self.expected]
        if missing:
            raise RuntimeError(f"an undisturbed run has no verdict on {', '.join(missing)}")

    def settle(
        self, accepted: Iterable[ScanJob], uncertain: Iterable[ScanJob], stored: Mapping[int, Stored]
    ) -> Counter[str]:
        """Check the ends of jobs; `stored` is the current state of the objects.

        Returns:
            The number of jobs with each kind of end.
        """
        ends: Counter[str] = Counter()
        by_key = {key_of(number): one for number, one in stored.items()}
        for verdict in self._arrived():
            self._count(verdict)
            ends[self._judged(verdict, by_key.get(str(verdict.report.key)))] += 1
        self._read_letters()
        for job in accepted:
            self._settle_one(job, certain=True)
        for job in uncertain:
            self._settle_one(job, certain=False)
        return ends

    def tags_are_true(self, stored: Mapping[int, Stored]) -> None:
        """Check that no tag from Keyhole says `safe` about an object with unsafe content."""
        for number, one in stored.items():
            self._tag_is_true(key_of(number), one)

    def agree(self, stored: Mapping[int, Stored]) -> None:
        """Check that object, record and tags agree. Each object was scanned in its current state."""
        for number, one in stored.items():
            key, stock = key_of(number), stocks()[one.stock]
            report = self._store.get(BUCKET, key)
            if report is None:
                self.trouble.note("no record", key)
            elif _etag(report) != stock.etag:
                self.trouble.note("record of other bytes", f"{key}: {report.status}, {report.etag}")
            elif differing := self._differing(report):
                self.trouble.note("wrong record", f"{key}: {report.status} (differs in {differing})")
            else:
                against = disagreement(report, one.tags, expected=True)
                if against is not None:
                    self.trouble.note("wrong tags", f"{key}: {against}")

    @property
    def dead(self) -> int:
        """The number of jobs that are dead letters."""
        return len(self._given_up)

    def _arrived(self) -> Iterator[Verdict]:
        """The verdicts since the last call."""
        while True:
            page = self._store.read_stream(self._position)
            if page.position == self._position:
                return
            self._position = page.position
            yield from page.verdicts

    def _count(self, verdict: Verdict) -> None:
        self._verdicts[verdict.job_id] += 1
        if self._verdicts[verdict.job_id] > 1:
            self.trouble.note("doubled", f"job {verdict.job_id}, {verdict.report.key}: a second verdict")

    def _judged(self, verdict: Verdict, stored: Stored | None) -> str:
        """Return the kind of end of a verdict, and record errors in the verdict."""
        report = verdict.report
        about = f"job {verdict.job_id}, {report.key}: {report.status} {' '.join(report.reasons)}"
        if report.status is Status.FAILED:
            kind = "poison" if report.reasons == ("poison",) else "failed"
            if kind == "failed":
                self.trouble.note(kind, f"{about} ({report.details.get('error')})")
            else:
                self.poisoned.add(str(report.key))
            return kind
        if report.reasons == ("access_denied",) and stored is not None and stored.denied:
            # S3 denied a read of this object.
            return "denied"
        differing = self._differing(report)
        if differing:
            self.trouble.note("wrong verdict", f"{about} (differs in {differing})")
            return "wrong"
        return "verdict"

    def _differing(self, report: Report) -> list[str]:
        """Return the fields in which a report differs from the undisturbed run's report on the same bytes."""
        expected = self.expected.get(_etag(report), {})
        found = facts(report)
        return [name for name in found if name not in expected or found[name] != expected[name]]

    def _read_letters(self) -> None:
        self._given_up = Counter()
        for letter in self._dead_letters.letters():
            whole = self._dead_letters.get(letter.id)
            if letter.kind is not LetterKind.JOB or whole is None:
                self.trouble.note("strange dead letter", letter.reason)
                continue
            entry = ENTRY.validate_json(whole.body or b"")
            self._given_up.update(job.id for job in entry.jobs)
            if "poison" not in letter.reason:
                self.trouble.note("dead letter", f"{entry.jobs[0].key}: {letter.reason}")

    def _settle_one(self, job: ScanJob, *, certain: bool) -> None:
        verdicts, letters = self._verdicts[job.id], self._given_up[job.id]
        if letters > 1:
            self.trouble.note("doubled", f"job {job.id}, {job.key}: {letters} letters")
        if certain and not verdicts and not letters:
            self.trouble.note("lost", f"job {job.id}, {job.key}")

    def _tag_is_true(self, key: str, stored: Stored) -> None:
        """Check only tags that Keyhole wrote, because forged tags stay until the object is scanned."""
        said = {name: value for name, value in stored.tags.items() if is_own(name)}
        stock = stocks()[stored.stock]
        if stored.forged or said.get(STATUS) != Status.SAFE:
            return
        if self.expected[stock.etag]["status"] != Status.SAFE or stock.etag not in " ".join(said.values()):
            self.trouble.note("false safe", f"{key} is {stock.name}, and its tags say {said}")


def _etag(report: Report) -> str:
    return (report.etag or "").strip('"')
