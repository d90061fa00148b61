"""A worker sends Celery's task events only if it is started with `--events`."""

from pathlib import Path

import pytest
from redis.client import PubSub

from tests.e2e import commands
from tests.servers.redis_server import redis_server

#: The rule that `keyhole docs redis` adds for events.
RULE = "&keyhole:broker:/0.celeryev/*"


@pytest.mark.slow
@pytest.mark.parametrize("events", [True, False])
def test_events_are_sent_only_if_asked_for(moto_url: str, tmp_path: Path, *, events: bool) -> None:
    log = tmp_path / "log"
    with redis_server() as server, server.client() as client, client.pubsub() as heard:
        url = server.add_user(RULE)
        env = commands.environment(
            KEYHOLE_S3_ENDPOINT_URL=moto_url, KEYHOLE_REDIS_URL=url, **commands.S3_CREDENTIALS
        )
        heard.psubscribe("*celeryev*")
        commands.until(heard.get_message)  # the confirmation
        options = ["--events"] if events else []
        with commands.started("worker", "--concurrency", "1", *options, env=env, log=log):
            commands.until(lambda: commands.READY in log.read_bytes())
            assert commands.keyhole("submit", "s3://missing/a", env=env).returncode == 0
            commands.until(lambda: b"keyhole.verdicts" in log.read_bytes())
            if events:
                commands.until(lambda: b"celeryev/task" in channel(heard))
            else:
                assert channel(heard) == b""
        assert not [name for name in server.refused() if "celeryev" in name]


def channel(heard: PubSub) -> bytes:
    """The channel of the next message; empty if there is no message."""
    message = heard.get_message(ignore_subscribe_messages=True) or {}
    return bytes(message.get("channel", b""))
