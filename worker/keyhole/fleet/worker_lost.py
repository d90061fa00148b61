"""Sends the task of a lost pool process again, in a thread, so that the event loop does not wait for Redis.

Celery would send it on the event loop. Recording and publishing it there took 7 seconds while Redis was
frozen.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from celery.worker import request
from kombu.asynchronous import get_event_loop

from keyhole.fleet.forking import GATE

log = logging.getLogger(__name__)

#: The thread starts when the first process is lost.
_SENDER: Final = ThreadPoolExecutor(1, thread_name_prefix="lost")


class Request(request.Request):  # type: ignore[misc] # Celery has no types
    """Celery's request, which sends a lost task again in a thread."""

    def _retry_worker_lost(self, exc: Exception, exc_info: Any) -> bool:  # noqa: ANN401 - Celery's
        loop = get_event_loop()
        if loop is None:
            return bool(super()._retry_worker_lost(exc, exc_info))
        log.warning("task %s[%s] lost its process, and is sent again: %r", self.name, self.id, exc)
        _SENDER.submit(self._send_again, loop)
        return True

    def _send_again(self, loop: Any) -> None:  # noqa: ANN401 - as above
        """Send the message again. The event loop acknowledges this one, or puts it back if that failed."""
        # The pool forks a process in place of the lost one at this very moment.
        with GATE.working():
            again = self.task.signature_from_request(
                self._context, countdown=self.task.default_retry_delay, retries=self._context.retries + 1
            )
            try:
                again.apply_async()
            except Exception:
                log.exception(
                    "task %s[%s] is put back into its queue, because it cannot be sent", self.name, self.id
                )
                loop.call_soon(partial(self.reject, requeue=True))
            else:
                loop.call_soon(self.acknowledge)
