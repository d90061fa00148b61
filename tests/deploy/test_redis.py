"""Redis as the reference configures it: only TLS, and one user."""

import re
from pathlib import Path

import pytest
import redis

from keyhole.store.connection import connect
from keyhole.store.permissions import lacking, rules
from tests.deploy.certificates import make_certificates
from tests.deploy.compose import for_redis_7_0
from tests.e2e import commands
from tests.pages import block
from tests.ports import free_port
from tests.servers.redis_server import REDIS
from tests.tools import give_up


def test_only_its_user_gets_in_and_by_tls_alone(tmp_path: Path) -> None:
    if not REDIS.exists():
        give_up("Redis is not there: install redis-server")
    make_certificates(tmp_path, "valkey")
    port = free_port()
    configuration = block("port 0")
    url = re.findall(r"'(.*)'", block("export KEYHOLE_REDIS_URL='rediss"))[0]
    for shown, here in (
        ("RULES", for_redis_7_0(rules())),
        ("/etc/valkey", str(tmp_path)),
        ("/etc/keyhole", str(tmp_path)),
        ("@valkey:", "@localhost:"),
        ("6379", str(port)),
    ):
        assert shown in configuration + url
        configuration, url = configuration.replace(shown, here), url.replace(shown, here)
    file = tmp_path / "redis.conf"
    file.write_text(configuration + f"bind 127.0.0.1\ndir {tmp_path}\n")
    log = tmp_path / "redis.log"
    with (
        commands.started(str(file), env=commands.environment(), log=log, program=[str(REDIS)]) as process,
        connect(url) as client,
        connect(url.replace("keyhole:PASSWORD@", ""), retries=0) as stranger,
    ):
        commands.until(
            lambda: b"Ready to accept connections" in log.read_bytes() or process.poll() is not None
        )
        assert process.poll() is None, log.read_text()
        assert lacking(client, is_broker=True) == []
        with pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()
