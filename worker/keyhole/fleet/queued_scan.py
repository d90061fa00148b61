"""The result of `scan.delay`: waits for the verdict, and explains why Celery itself has no result.

Celery's results are off, because Keyhole records the reports itself, and Celery's results would cost Redis
five more commands for each task. So the methods of Celery's `AsyncResult` that need a result backend are
replaced here. `get` and `ready` ask the ledger and the records. The others raise an error that says where to
look.
"""

from typing import Any, Final, NoReturn

from celery import Celery
from celery.result import AsyncResult

from keyhole.api.recorded import wait_for
from keyhole.fleet.services import services
from keyhole.jobs.entry import Entry
from keyhole.reasons import Status
from keyhole.scan.report import Report

_WHERE: Final = (
    "Celery's results are off, because Keyhole records each report itself: call .get() or .report() to wait "
    'for the verdict, or read it with keyhole.verdict("s3://bucket/key") or `keyhole show`'
)
_NO_REVOKE: Final = "Keyhole's workers accept no commands through the broker, so a job cannot be revoked"


class QueuedScan(AsyncResult):  # type: ignore[misc] # Celery has no types
    """Queued work on one object, or on the objects of a batch.

    Args:
        entry: The entry of the ledger.
        app: The Celery application; by default the current one.
    """

    def __init__(self, entry: Entry, app: Celery | None = None) -> None:
        super().__init__(entry.id, app=app)
        self.entry = entry
        self._has_arrived = False

    def __copy__(self) -> "QueuedScan":
        return QueuedScan(self.entry, self.app)

    def __reduce_args__(self) -> tuple[Entry]:
        # The application is left out, because its settings contain passwords.
        return (self.entry,)

    def get(self, timeout: float | None = None, **_: Any) -> Status:  # noqa: ANN401 - Celery's options
        """Wait for the verdict on the object, and return its status.

        Args:
            timeout: The most seconds to wait; by default no limit.

        Raises:
            TimeoutError: There is no verdict yet. The job stays queued.
            LookupError: The job is done, but Redis has no verdict on the object.
            ValueError: This is a batch of several objects.
        """
        return self.report(timeout).status

    wait = get

    def report(self, timeout: float | None = None) -> Report:
        """Wait for the verdict on the object, and return the report. The errors are those of `get`."""
        if len(self.entry.jobs) != 1:
            raise ValueError("this is a batch; wait for its verdicts with keyhole.wait([batch])")
        ours = services()
        for report in wait_for([self.entry], ours.redis, ours.store, ours.ledger, timeout):
            if report is not None:
                self._has_arrived = True
                return report
        (job,) = self.entry.jobs
        raise LookupError(f"the scan of s3://{job.bucket}/{job.key} is done, but Redis has no verdict on it")

    def ready(self) -> bool:
        """Return whether the work is done, or `get` or `report` has already returned the verdict.

        A worker completes a job shortly after it has recorded the verdict.
        """
        return self._has_arrived or services().ledger.is_done(self.entry.id)

    def revoke(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 - any arguments
        """Refuse, because no worker would obey.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(_NO_REVOKE)

    revoke_by_stamped_headers = revoke

    def _nowhere(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 - any arguments
        raise NotImplementedError(_WHERE)

    # All attributes that describe a result, such as `state` and `args`, call `_get_task_meta`.
    _get_task_meta = collect = exists = forget = get_leaf = iterdeps = then = throw = _nowhere
