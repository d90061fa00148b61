"""The queues for remote-control commands to workers, such as `ping`, and for the workers' answers.

On RabbitMQ these queues are always classic queues, even if the virtual host turns other queues into quorum
queues. Their messages are needed only for seconds, so the queues need not survive the loss of a server. In
addition, if RabbitMQ 3.10 is killed right after it has declared a quorum queue, this queue never works again.
If the command queue of a worker stops working in this way, no worker with the same name can connect again.
"""

from typing import Any, Final

from celery.app import control
from kombu import pidbox

_CLASSIC: Final = {"x-queue-type": "classic"}


class Mailbox(pidbox.Mailbox):
    """kombu's mailbox, with classic queues."""

    def get_queue(self, hostname: str) -> Any:  # noqa: ANN401 - kombu has no types
        """Return the queue for commands to a worker."""
        return _classic(super().get_queue(hostname))  # type: ignore[no-untyped-call] # as above

    def get_reply_queue(self) -> Any:  # noqa: ANN401 - as above
        """Return the queue for answers to this process."""
        return _classic(super().get_reply_queue())  # type: ignore[no-untyped-call] # as above


class Control(control.Control):  # type: ignore[misc] # Celery has no types
    """Celery's remote control, with classic queues."""

    Mailbox = Mailbox


def _classic(queue: Any) -> Any:  # noqa: ANN401 - as above
    queue.queue_arguments = _CLASSIC
    return queue
