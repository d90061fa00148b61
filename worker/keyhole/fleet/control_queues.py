"""The queues for remote-control commands to workers, such as ping, and for their answers.

On RabbitMQ they are classic queues, even if a virtual host makes every declared queue a quorum queue. They
live for seconds, and RabbitMQ 3.10 never serves a quorum queue again if it is killed right after the
declaration: a worker that had just started could not connect again under its name.
"""

from typing import Any, Final

from celery.app import control
from kombu import pidbox

_CLASSIC: Final = {"x-queue-type": "classic"}


class Mailbox(pidbox.Mailbox):
    """kombu's mailbox, with classic queues."""

    def get_queue(self, hostname: str) -> Any:  # noqa: ANN401 - kombu has no types
        """The queue for commands to a worker."""
        return _classic(super().get_queue(hostname))  # type: ignore[no-untyped-call] # as above

    def get_reply_queue(self) -> Any:  # noqa: ANN401 - as above
        """The queue for answers to this process."""
        return _classic(super().get_reply_queue())  # type: ignore[no-untyped-call] # as above


class Control(control.Control):  # type: ignore[misc] # Celery has no types
    """Celery's remote control, with these queues."""

    Mailbox = Mailbox


def _classic(queue: Any) -> Any:  # noqa: ANN401 - as above
    queue.queue_arguments = _CLASSIC
    return queue
