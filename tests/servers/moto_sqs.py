"""Ends visibility timeouts in moto's SQS without waiting."""

from collections.abc import Sequence

from moto.sqs.models import sqs_backends


def let_visibility_lapse(queue_urls: Sequence[str]) -> None:
    """End the visibility timeout of all messages in all queues.

    All moto servers in a process share their queues.
    """
    names = {url.rpartition("/")[2] for url in queue_urls}
    for regions in sqs_backends.values():
        for backend in regions.values():
            for queue in backend.queues.values():
                if queue.name in names:
                    for message in queue._messages:
                        message.change_visibility(0)
