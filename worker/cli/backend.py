"""Redis and workers for a command: those that are configured, or the embedded ones for as long as it runs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import redis

from worker.cli.errors import CLUSTER, USAGE, CommandError
from worker.embedded.processes import worker_process
from worker.embedded.valkey import embedded_valkey
from worker.results.connection import connect
from worker.results.permissions import OPTIONAL, lacking
from worker.settings import Settings

#: Seconds to wait for a Redis that is asked what it is.
ANSWER_SECONDS: Final = 5.0


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


def refuse_unusable(settings: Settings) -> None:
    """End a command before it works for ever in vain. A Redis that is away is passed over: it comes back.

    Raises:
        CommandError: The Redis belongs to a cluster, or its user may not do all that it must.
    """
    is_broker = settings.broker_url in {None, settings.redis_url}
    try:
        with connect(str(settings.redis_url), answer_seconds=ANSWER_SECONDS, retries=0) as client:
            missing = lacking(client, is_broker=is_broker)
            info: dict[str, Any] = {} if "+info" in missing else client.info("cluster")
    except redis.RedisError:
        return
    if info.get("cluster_enabled"):
        raise CommandError(CLUSTER, USAGE)
    needed = [rule for rule in missing if rule not in OPTIONAL]
    if needed:
        raise CommandError(f"the user of KEYHOLE_REDIS_URL lacks {' '.join(needed)}; give it these", USAGE)


def is_embedded(settings: Settings) -> bool:
    """Whether commands with these settings bring their own Redis and workers."""
    return settings.redis_url is None
