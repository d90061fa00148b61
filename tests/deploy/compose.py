"""Parses the Compose files as Compose does, and starts their Valkey without a container."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.commands import started
from tests.ports import free_port
from tests.servers.redis_server import NOT_IN_7_0

ROOT = Path(__file__).parents[2]
MAIN, DEMO_ENV = "docker-compose.yml", "deploy/demo.env"
TLS, SIGNING, BROKER = (f"deploy/compose.{name}.yml" for name in ("tls", "signing", "broker"))
#: Variables of docker-compose.yml that are not Keyhole settings, and a value for the password.
PASSWORD_NAME, PASSWORD = "KEYHOLE_VALKEY_PASSWORD", "0123456789abcdef" * 4
CONFIG_DIR_NAME = "KEYHOLE_CONFIG_DIR"
#: Where Compose mounts the files of `secrets`.
SECRETS = "/run/secrets"

#: The line of the image's entry point that runs the command. The other lines give files to the user `valkey`.
_ENTRY_POINT = 'exec "$@" $VALKEY_EXTRA_FLAGS'
#: `$$`, or a variable that can have a default.
_VARIABLE = re.compile(r"\$(?:\$|\{(\w+):([?-])([^}]*)\})")

Service = dict[str, Any]


def services(*files: str, **variables: str) -> dict[str, Service]:
    """Return the services of some files with these variables. Each file is merged into the files before it.

    Raises:
        KeyError: A variable that a file requires is missing.
    """
    merged: dict[str, Service] = {}
    for file in files:
        source = (ROOT / file).read_text()
        text = _VARIABLE.sub(lambda found: _value(found[1], found[2], found[3], variables), source)
        for name, service in yaml.safe_load(text)["services"].items():
            merged[name] = _added(merged.get(name, {}), service)
    return merged


def demo_variables() -> dict[str, str]:
    """Return the variables of the demo."""
    lines = (ROOT / DEMO_ENV).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _value(name: str | None, operator: str, text: str, variables: Mapping[str, str]) -> str:
    if name is None:
        return "$"
    return variables.get(name, text) if operator == "-" else variables[name]


def _added(before: Service, service: Service) -> Service:
    """Return a service with the changes from another file."""
    added = before | service
    for name in before.keys() & service.keys():
        if isinstance(service[name], dict):
            added[name] = before[name] | service[name]
        elif name in {"secrets", "networks"}:
            added[name] = before[name] + service[name]
    return added


def for_redis_7_0(rules: str) -> str:
    """Return the rules without commands that Debian's Redis does not support."""
    for rule in NOT_IN_7_0:
        rules = rules.replace(f"{rule} ", "")
    return rules


class Valkey:
    """The service `valkey` as a process of the tests: its command, environment and health check.

    Args:
        service: The service, as `services` returns it.
        folder: An empty folder for the server's data.
        server: The server's program.
        secrets: The folder with the files of `secrets`.
    """

    def __init__(self, service: Service, folder: Path, *, server: Path, secrets: Path) -> None:
        self.port = free_port()
        self.log = folder / "valkey.log"
        self._service, self._folder, self._secrets = service, folder, secrets
        self._commands = folder / "bin"
        self._commands.mkdir()
        self._add_command("docker-entrypoint.sh", _ENTRY_POINT)
        self._add_command("valkey-server", f'exec {server} "$@"')
        self._add_command("valkey-cli", f'exec redis-cli -h localhost -p {self.port} "$@"')
        given = service.get("environment", {})
        flags = self._here(given.get("VALKEY_EXTRA_FLAGS", ""))
        self._environment = os.environ | given
        self._environment |= {
            "PATH": f"{self._commands}:{os.environ['PATH']}",
            "VALKEY_EXTRA_FLAGS": f"--bind 127.0.0.1 --port {self.port} {flags}",
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server as in its container."""
        with started(
            *self._service["command"],
            env=self._environment,
            log=self.log,
            program=[str(self._commands / "docker-entrypoint.sh")],
            cwd=self._folder,
        ) as process:
            yield process

    def is_healthy(self) -> bool:
        """Run its health check, which needs redis-cli, and return the result."""
        kind, command = self._service["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        check = ["sh", "-c", self._here(command)]
        return subprocess.run(check, env=self._environment, capture_output=True, check=False).returncode == 0

    def environment_of(self, service: Service, **host: str) -> dict[str, str]:
        """The environment of another service. A variable without a value gets the host's value."""
        values = {
            name: host.get(name) if value is None else value for name, value in service["environment"].items()
        }
        return {name: self._here(value) for name, value in values.items() if value is not None}

    def _here(self, text: str) -> str:
        """Replace the container's paths and port in a text with those of this machine."""
        text = text.replace(SECRETS, str(self._secrets)).replace("valkey:6379", "localhost:6379")
        return text.replace("6379", str(self.port))

    def _add_command(self, name: str, line: str) -> None:
        script = self._commands / name
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
