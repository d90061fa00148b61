"""Sends a task again in a thread if the task's pool process died.

Celery itself would send the task on the event loop, and block the loop until Redis answers. In a test with a
frozen Redis, recording and publishing one task took 7 seconds.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from celery.worker import request
from kombu.asynchronous import get_event_loop

from keyhole.fleet.forking import GATE

log = logging.getLogger(__name__)

#: The thread that sends lost tasks. It is started when the first process is lost.
_SENDER: Final = ThreadPoolExecutor(1, thread_name_prefix="lost")


class Request(request.Request):  # type: ignore[misc] # Celery has no types
    """Celery's request, extended: it sends a lost task again in a thread."""

    def _retry_worker_lost(self, exc: Exception, exc_info: Any) -> bool:  # noqa: ANN401 - Celery has no types
        loop = get_event_loop()
        if loop is None:
            return bool(super()._retry_worker_lost(exc, exc_info))
        log.warning(
            "the process of task %s[%s] was lost; the task is sent again: %r", self.name, self.id, exc
        )
        _SENDER.submit(self._send_again, loop)
        return True

    def _send_again(self, loop: Any) -> None:  # noqa: ANN401 - as above
        """Publish the task again. Then let the event loop acknowledge the old message.

        If publishing fails, let the event loop return the old message to its queue instead.
        """
        # The gate prevents a fork during this work, because the pool forks a process to replace the lost one.
        with GATE.working():
            again = self.task.signature_from_request(
                self._context, countdown=self.task.default_retry_delay, retries=self._context.retries + 1
            )
            try:
                again.apply_async()
            except Exception:
                log.exception(
                    "task %s[%s] is returned to its queue, because it could not be sent", self.name, self.id
                )
                loop.call_soon(partial(self.reject, requeue=True))
            else:
                loop.call_soon(self.acknowledge)
