"""The manifests of the dashboard: the overlay with a Redis outside and inside, and its probes."""

from pathlib import Path

import pytest

from keyhole.cli import keyhole
from keyhole.cli.dashboard import PORT
from keyhole.dashboard.access import Access, known_hosts
from keyhole.dashboard.guard import OPEN_PATHS
from tests.deploy.kubernetes import Object, built, container, environment, named, of_kind, selects

INSIDE = "patches:\n  - path: redis-url.yaml\n"


@pytest.fixture(params=["outside", "inside"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> list[Object]:
    """The objects of the overlay, with each kind of Redis."""
    if request.param == "outside":
        return built(tmp_path, "overlays/dashboard")
    return built(tmp_path, "overlays/dashboard", INSIDE, redis_outside="redis-inside")


def template_of(found: list[Object]) -> Object:
    template: Object = named(found, "Deployment", "keyhole-dashboard")["spec"]["template"]
    return template


def test_it_runs_a_command_that_exists_at_the_port_of_its_service(found: list[Object]) -> None:
    only = container(template_of(found))
    name, *arguments = only["args"]
    context = keyhole.get_command(None, name).make_context(name, list(arguments))  # type: ignore[arg-type] # not used
    (port,) = only["ports"]
    service = named(found, "Service", "keyhole-dashboard")["spec"]
    assert (name, context.params["port"], port["containerPort"]) == ("dashboard", PORT, PORT)
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    assert selects({"matchLabels": service["selector"]}, template_of(found)["metadata"]["labels"])


def test_it_gets_the_redis_of_the_roles_its_token_and_no_credentials(found: list[Object]) -> None:
    variables = environment(found, template_of(found))
    worker = environment(found, named(found, "Deployment", "keyhole-worker")["spec"]["template"])
    assert variables["KEYHOLE_REDIS_URL"] == worker["KEYHOLE_REDIS_URL"]
    assert len(variables["KEYHOLE_DASHBOARD_TOKEN"]) >= 16
    assert "KEYHOLE_DASHBOARD_TOKEN" not in worker
    assert variables.keys() <= {
        *("KEYHOLE_REDIS_URL", "KEYHOLE_VALKEY_PASSWORD", "KEYHOLE_DASHBOARD_TOKEN", "KEYHOLE_LOG_LEVEL")
    }
    assert "keyhole-aws" not in str(template_of(found))


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_its_probes_are_answered_without_a_token(probe: str, found: list[Object]) -> None:
    only = container(template_of(found))
    request = only[probe]["httpGet"]
    (header,) = request["httpHeaders"]
    assert request["path"] in OPEN_PATHS
    assert header["name"] == "Host"
    assert Access("token", known_hosts(only["args"][-1], ())).is_known_host(header["value"])


def test_only_a_labelled_namespace_reaches_it_and_it_reaches_only_redis(found: list[Object]) -> None:
    labels = template_of(found)["metadata"]["labels"]
    policies = [
        each["spec"]
        for each in of_kind(found, "NetworkPolicy")
        if selects(each["spec"]["podSelector"], labels)
    ]
    peers = {
        port["port"]: rule["from"]
        for policy in policies
        for rule in policy.get("ingress", ())
        for port in rule["ports"]
    }
    allowed = {
        port["port"] for policy in policies for rule in policy.get("egress", ()) for port in rule["ports"]
    }
    assert peers[PORT] == [{"namespaceSelector": {"matchLabels": {"keyhole-dashboard": "true"}}}]
    assert allowed == {53, 6379}
