"""Redis and workers for a command: those that are configured, or the embedded ones for as long as it runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from worker.cli.errors import USAGE, CommandError
from worker.embedded.processes import worker_process
from worker.embedded.valkey import embedded_valkey
from worker.settings import Settings


@contextmanager
def backend(settings: Settings, *, work: bool) -> Iterator[Settings]:
    """Yield settings in which Redis and a broker are set.

    Args:
        settings: As they came from the environment.
        work: Where nothing is configured, run a worker as well.
    """
    if settings.redis_url is None and settings.broker_url is not None:
        raise CommandError(
            "KEYHOLE_BROKER_URL is set but not KEYHOLE_REDIS_URL, where verdicts are kept", USAGE
        )
    if settings.redis_url is not None:
        yield settings
        return
    with ExitStack() as stack:
        url = stack.enter_context(embedded_valkey(settings.data_dir))
        embedded = settings.model_copy(update={"redis_url": url, "broker_url": url})
        if work:
            log = settings.data_dir / "worker.log"
            stack.enter_context(worker_process(embedded, log))
        yield embedded


def is_embedded(settings: Settings) -> bool:
    """Whether commands with these settings bring their own Redis and workers."""
    return settings.redis_url is None
