"""The queues by which workers are asked whether they run, and those for their answers.

On RabbitMQ they are classic queues, also where a virtual host makes quorum queues of all that are declared.
They live for seconds, and RabbitMQ 3.10 never serves a quorum queue again if it is killed right after that
was declared: a worker that had just started could not connect again under its name.
"""

from typing import Any, Final

from celery.app import control
from kombu import pidbox

_CLASSIC: Final = {"x-queue-type": "classic"}


class Mailbox(pidbox.Mailbox):
    """kombu's, whose queues are classic."""

    def get_queue(self, hostname: str) -> Any:  # noqa: ANN401 - kombu has no types
        """The queue of a worker."""
        return _classic(super().get_queue(hostname))  # type: ignore[no-untyped-call] # as above

    def get_reply_queue(self) -> Any:  # noqa: ANN401 - as above
        """The queue for answers to this process."""
        return _classic(super().get_reply_queue())  # type: ignore[no-untyped-call] # as above


class Control(control.Control):  # type: ignore[misc] # Celery has no types
    """Celery's, with these queues."""

    Mailbox = Mailbox


def _classic(queue: Any) -> Any:  # noqa: ANN401 - as above
    queue.queue_arguments = _CLASSIC
    return queue
