"""The manifests for Kubernetes agree with the code, with docker-compose.yml, and with each other."""

import copy
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keyhole import __version__
from keyhole.cli import keyhole
from keyhole.limits import LAST_SHUTDOWN
from keyhole.metrics.server import PATH
from keyhole.metrics.table import METRICS
from keyhole.settings import Settings
from keyhole.store.permissions import rules
from tests.deploy.compose import MAIN, PASSWORD, PASSWORD_NAME, services
from tests.deploy.kubernetes import (
    FOLDER,
    HASH,
    OVERLAYS,
    ROLES,
    ROOT,
    Object,
    built,
    container,
    environment,
    named,
    objects,
    of_kind,
    selects,
    templates,
)
from tests.deploy.pod_security import RULES, violated
from tests.tools import give_up, need

#: A variable of the manifests that is not a setting.
SECRET = PASSWORD_NAME
COMPOSE = services(MAIN, **{PASSWORD_NAME: PASSWORD})
#: The versions of Kubernetes whose schemas the manifests must follow.
VERSIONS = ("1.29", "1.37")


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """The objects of each overlay."""
    return {name: built(tmp_path_factory.mktemp(name), f"overlays/{name}") for name in OVERLAYS}


@pytest.fixture(params=OVERLAYS)
def found(request: pytest.FixtureRequest, overlays: dict[str, list[Object]]) -> list[Object]:
    """The objects of one overlay."""
    return overlays[request.param]


def template_of(found: list[Object], role: str) -> Object:
    template: Object = named(found, "Deployment", f"keyhole-{role}")["spec"]["template"]
    return template


class TestTheRoles:
    @pytest.mark.parametrize("role", ROLES)
    def test_run_commands_that_exist(self, role: str, found: list[Object]) -> None:
        name, *arguments = container(template_of(found, role))["args"]
        command = keyhole.get_command(None, name)  # type: ignore[arg-type] # the context is not used
        assert name == ROLES[role]
        command.make_context(name, list(arguments))
        assert [name, *arguments] == COMPOSE[role]["command"]

    @pytest.mark.parametrize("role", ROLES)
    @pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
    def test_are_probed_by_their_own_check(self, role: str, probe: str, found: list[Object]) -> None:
        given = container(template_of(found, role))[probe]
        program, name, option = given["exec"]["command"]
        command = keyhole.get_command(None, name)
        assert (program, name) == ("keyhole", container(template_of(found, role))["args"][0])
        assert option in {text for parameter in command.params for text in parameter.opts}
        assert given["timeoutSeconds"] <= given["periodSeconds"]

    @pytest.mark.parametrize("role", ROLES)
    def test_have_the_time_that_they_need_to_stop(self, role: str, found: list[Object]) -> None:
        grace = template_of(found, role)["spec"]["terminationGracePeriodSeconds"]
        assert grace >= LAST_SHUTDOWN
        assert f"{grace}s" == COMPOSE[role]["stop_grace_period"]

    @pytest.mark.parametrize("role", ROLES)
    def test_get_every_setting_that_compose_gives_them(self, role: str, found: list[Object]) -> None:
        """Every other setting can be added to settings.env, which every role gets."""
        variables = environment(found, template_of(found, role))
        of_compose = COMPOSE[role]["environment"]
        assert {name for name, value in of_compose.items() if value and name.startswith("KEYHOLE_")} <= (
            variables.keys()
        )
        references = container(template_of(found, role))["envFrom"]
        credentials = [each for each in references if "keyhole-aws" in each.get("secretRef", {}).values()]
        assert bool(credentials) == any(name.startswith("AWS_ACCESS") for name in of_compose)

    @pytest.mark.parametrize("role", ROLES)
    def test_get_no_variables_that_kubernetes_derives_from_services(
        self, role: str, found: list[Object]
    ) -> None:
        """A Service named `keyhole-metrics` would set KEYHOLE_METRICS_PORT to a URL."""
        assert template_of(found, role)["spec"]["enableServiceLinks"] is False

    @pytest.mark.parametrize("role", ROLES)
    def test_write_only_to_a_volume(self, role: str, found: list[Object]) -> None:
        template = template_of(found, role)
        (mount,) = [each for each in container(template)["volumeMounts"] if not each.get("readOnly")]
        (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == mount["name"]]
        assert "sizeLimit" in volume["emptyDir"]
        # Python's folder for temporary files, and the folder of the heartbeat files
        assert mount["mountPath"] == "/tmp"  # noqa: S108 - a folder within the container
        assert mount["mountPath"] == environment(found, template)["XDG_RUNTIME_DIR"]

    def test_run_the_image_of_this_version(self, found: list[Object]) -> None:
        images = {container(template_of(found, role))["image"] for role in ROLES}
        assert {image.rpartition("/")[2] for image in images} == {f"keyhole:{__version__}"}

    def test_of_the_scheduler_is_one(self, found: list[Object]) -> None:
        assert named(found, "Deployment", "keyhole-scheduler")["spec"]["replicas"] == 1

    def test_have_limits(self, found: list[Object]) -> None:
        for _, template in templates(found):
            resources = container(template)["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}

    @pytest.mark.parametrize("role", ROLES)
    def test_have_the_limits_of_compose(self, role: str, found: list[Object]) -> None:
        limits = container(template_of(found, role))["resources"]["limits"]
        of_compose = COMPOSE[role]
        assert limits["memory"].removesuffix("i").lower() == of_compose["mem_limit"]
        cores = float(limits["cpu"].removesuffix("m")) / (1000 if limits["cpu"].endswith("m") else 1)
        assert cores == of_compose["cpus"]


class TestTheSettings:
    @pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.*")), ids=lambda path: path.name)
    def test_that_are_named_exist(self, path: Path) -> None:
        names = set(re.findall(r"\bKEYHOLE_[A-Z0-9_]+", path.read_text(encoding="utf-8")))
        assert names - {SECRET} <= {f"KEYHOLE_{field.upper()}" for field in Settings.model_fields}

    @pytest.mark.parametrize("role", ROLES)
    def test_are_valid(self, role: str, found: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environment(found, template_of(found, role)).items():
            monkeypatch.setenv(name, value.replace("/etc/keyhole", str(FOLDER / "base")))
        settings = Settings()
        assert settings.event_selection
        assert settings.policy == str(FOLDER / "base" / "policy.toml")
        assert settings.schedules == str(FOLDER / "base" / "schedules.toml")

    def test_name_files_that_are_mounted(self, found: list[Object]) -> None:
        for role in ROLES:
            template = template_of(found, role)
            (files,) = [each for each in template["spec"]["volumes"] if each["name"] == "files"]
            data = named(found, "ConfigMap", files["configMap"]["name"])["data"]
            for value in environment(found, template).values():
                if value.startswith("/etc/keyhole/"):
                    assert value.removeprefix("/etc/keyhole/") in data

    def test_are_in_objects_whose_names_change_with_their_content(self, found: list[Object]) -> None:
        for each in [*of_kind(found, "ConfigMap"), *of_kind(found, "Secret")]:
            assert HASH.search(each["metadata"]["name"])

    def test_that_are_secret_are_examples(self) -> None:
        ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
        assert "/deploy/kubernetes/**/secret.env" in ignored
        for path in FOLDER.glob("overlays/*/secret.env.example"):
            assert "PASSWORD" in path.read_text(encoding="utf-8").partition("=")[2]


class TestThePods:
    def test_follow_the_restricted_pod_security_standard(self, found: list[Object]) -> None:
        for owner, template in templates(found):
            assert violated(template["spec"], container(template)) == set(), owner["metadata"]["name"]
        labels = named(found, "Namespace", "keyhole")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"

    def test_cannot_write_to_their_image_and_get_no_token(self, found: list[Object]) -> None:
        for _, template in templates(found):
            assert container(template)["securityContext"]["readOnlyRootFilesystem"] is True
            assert template["spec"]["automountServiceAccountToken"] is False

    def test_run_as_the_images_user(self, found: list[Object]) -> None:
        dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
        for role in ROLES:
            context = template_of(found, role)["spec"]["securityContext"]
            assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile
            assert context["fsGroup"] == context["runAsGroup"]

    def test_have_the_labels_that_their_owners_select(self, found: list[Object]) -> None:
        pods = [template["metadata"]["labels"] for _, template in templates(found)]
        for owner, template in templates(found):
            assert selects(owner["spec"]["selector"], template["metadata"]["labels"])
            assert sum(selects(owner["spec"]["selector"], labels) for labels in pods) == 1

    def test_refer_only_to_what_exists(self, found: list[Object]) -> None:
        accounts = {each["metadata"]["name"] for each in of_kind(found, "ServiceAccount")}
        names = {(each["kind"], each["metadata"]["name"]) for each in found}
        for owner, template in templates(found):
            spec, only = template["spec"], container(template)
            if owner["kind"] == "Deployment":
                assert spec["serviceAccountName"] in accounts
            claims = [claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", ())]
            volumes = [volume["name"] for volume in spec["volumes"]]
            assert {mount["name"] for mount in only["volumeMounts"]} == {*volumes, *claims}
            references = [
                *(
                    ("ConfigMap", each["configMap"]["name"])
                    for each in spec["volumes"]
                    if "configMap" in each
                ),
                *(
                    (kind, source[field]["name"])
                    for source in only.get("envFrom", ())
                    for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef"))
                    if field in source and not source[field].get("optional")
                ),
                *(
                    ("Secret", each["valueFrom"]["secretKeyRef"]["name"])
                    for each in only["env"]
                    if "valueFrom" in each
                ),
            ]
            assert set(references) <= names


#: For each rule, a change that violates it.
VIOLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Host Namespaces": ("pod", {"hostPID": True}),
    "Privileged Containers": ("context", {"privileged": True}),
    "Capabilities": ("context", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "Volume Types": ("pod", {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
    "Host Ports": ("container", {"ports": [{"containerPort": 1, "hostPort": 1}]}),
    "Host Probes / Lifecycle Hooks": (
        "container",
        {"lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1", "port": 1}}}},
    ),
    "AppArmor": ("context", {"appArmorProfile": {"type": "Unconfined"}}),
    "SELinux": ("context", {"seLinuxOptions": {"type": "spc_t"}}),
    "/proc Mount Type": ("context", {"procMount": "Unmasked"}),
    "Sysctls": ("pod", {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
    "Seccomp": ("context", {"seccompProfile": {"type": "Unconfined"}}),
    "Privilege Escalation": ("context", {"allowPrivilegeEscalation": True}),
    "Running as Non-root": ("context", {"runAsNonRoot": False}),
    "Running as Non-root user": ("context", {"runAsUser": 0}),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_of_the_standard_finds_a_pod_that_violates_it(rule: str) -> None:
    (deployment, _) = objects((FOLDER / "base" / "worker.yaml").read_text(encoding="utf-8"))
    pod = copy.deepcopy(deployment["spec"]["template"]["spec"])
    only = pod["containers"][0]
    where, change = VIOLATIONS[rule]
    target = {"pod": pod, "container": only, "context": only["securityContext"]}[where]
    for name, value in change.items():
        target[name] = target.get(name, {}) | value if isinstance(value, dict) else value
    assert violated(pod, only) == {rule}


class TestTheNetwork:
    def test_allows_only_what_a_policy_names(self, found: list[Object]) -> None:
        deny = named(found, "NetworkPolicy", "default-deny")["spec"]
        assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_has_a_policy_for_existing_pods_only(self, found: list[Object]) -> None:
        pods = [template["metadata"]["labels"] for _, template in templates(found)]
        for policy in of_kind(found, "NetworkPolicy"):
            assert any(selects(policy["spec"]["podSelector"], labels) for labels in pods)

    def test_lets_each_role_out_to_what_it_needs(self, found: list[Object]) -> None:
        ports = {}
        for role in ROLES:
            labels = template_of(found, role)["metadata"]["labels"]
            ports[role] = {
                port["port"]
                for policy in of_kind(found, "NetworkPolicy")
                if selects(policy["spec"]["podSelector"], labels)
                for rule in policy["spec"].get("egress", ())
                for port in rule["ports"]
            }
        dns, https, of_redis = 53, 443, 6379
        assert ports == {
            "worker": {dns, https, of_redis},
            "listener": {dns, https, of_redis},
            # Workers carry out the audits.
            "scheduler": {dns, of_redis},
        }

    def test_lets_only_a_labelled_namespace_in_to_the_metrics(self, found: list[Object]) -> None:
        for role in ROLES:
            labels = template_of(found, role)["metadata"]["labels"]
            rules_in = [
                rule
                for policy in of_kind(found, "NetworkPolicy")
                if selects(policy["spec"]["podSelector"], labels)
                for rule in policy["spec"].get("ingress", ())
            ]
            variables = environment(found, template_of(found, role))
            assert rules_in == [
                {
                    "from": [{"namespaceSelector": {"matchLabels": {"keyhole-metrics": "true"}}}],
                    "ports": [{"protocol": "TCP", "port": int(variables["KEYHOLE_METRICS_PORT"])}],
                }
            ]

    def test_of_valkey_is_keyhole(self, overlays: dict[str, list[Object]]) -> None:
        found = overlays["redis-inside"]
        pod = named(found, "StatefulSet", "valkey")["spec"]["template"]["metadata"]["labels"]
        policies = [
            each
            for each in of_kind(found, "NetworkPolicy")
            if selects(each["spec"]["podSelector"], pod) and each["metadata"]["name"] != "default-deny"
        ]
        (policy,) = policies
        (rule,) = policy["spec"]["ingress"]
        ((peer,),) = [rule["from"]]
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for role in ROLES:
            assert selects(peer["podSelector"], template_of(found, role)["metadata"]["labels"])
        assert not selects(peer["podSelector"], pod)


class TestTheMetrics:
    def test_are_served_where_prometheus_looks(self, found: list[Object]) -> None:
        for role in ROLES:
            template = template_of(found, role)
            annotations = template["metadata"]["annotations"]
            (port,) = container(template)["ports"]
            variables = environment(found, template)
            assert str(port["containerPort"]) == variables["KEYHOLE_METRICS_PORT"]
            assert variables["KEYHOLE_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - all addresses of the pod
            assert annotations == {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(port["containerPort"]),
                "prometheus.io/path": PATH,
            }

    def test_are_found_by_the_pod_monitor(self, found: list[Object]) -> None:
        """Compares the PodMonitor with its documented fields. The reason is the same as for KEDA below."""
        (monitor,) = objects((FOLDER / "podmonitor" / "pod-monitor.yaml").read_text(encoding="utf-8"))
        assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
        assert monitor["spec"].keys() == {"selector", "podMetricsEndpoints"}
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint.keys() == {"port", "path", "interval"}
        for role in ROLES:
            template = template_of(found, role)
            assert selects(monitor["spec"]["selector"], template["metadata"]["labels"])
            assert endpoint["port"] in {port["name"] for port in container(template)["ports"]}
        assert endpoint["path"] == PATH

    def test_of_the_pod_monitor_are_in_the_same_namespace(self, tmp_path: Path) -> None:
        (monitor,) = built(tmp_path, "podmonitor")
        assert (monitor["kind"], monitor["metadata"]["namespace"]) == ("PodMonitor", "keyhole")


def test_a_drained_node_stops_one_worker_at_a_time(found: list[Object]) -> None:
    (budget,) = of_kind(found, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    for role in ROLES:
        labels = template_of(found, role)["metadata"]["labels"]
        assert selects(budget["spec"]["selector"], labels) == (role == "worker")


def test_the_accounts_are_those_that_the_aws_roles_trust(overlays: dict[str, list[Object]]) -> None:
    text = (ROOT / "deploy" / "aws" / "keyhole.yaml").read_text(encoding="utf-8")
    defaults = dict(re.findall(r"^  (\w+):\n    Type: String\n    Default: (\S+)", text, re.MULTILINE))
    found = overlays["eks"]
    for role, parameter in (("worker", "TaggerServiceAccount"), ("listener", "ListenerServiceAccount")):
        account = named(found, "ServiceAccount", defaults[parameter])
        assert template_of(found, role)["spec"]["serviceAccountName"] == defaults[parameter]
        assert account["metadata"]["namespace"] == defaults["Namespace"]
        assert account["metadata"]["annotations"].keys() == {"eks.amazonaws.com/role-arn"}
    assert "annotations" not in named(found, "ServiceAccount", "keyhole-scheduler")["metadata"]
    for role in ROLES:
        assert container(template_of(found, role))["image"].endswith(f".amazonaws.com/keyhole:{__version__}")


class TestKeda:
    """Compares the ScaledObject with KEDA's documented fields.

    The package with models of KEDA (`cloudcoil.models.keda`) adds a plugin to pytest that ends every run.
    """

    @pytest.fixture
    def scaled(self, overlays: dict[str, list[Object]]) -> Object:
        return named(overlays["keda"], "ScaledObject", "keyhole-worker")

    def test_scales_the_workers_and_nothing_else_does(
        self, scaled: Object, overlays: dict[str, list[Object]]
    ) -> None:
        target = named(overlays["keda"], "Deployment", scaled["spec"]["scaleTargetRef"]["name"])
        assert target["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
        assert "replicas" not in target["spec"]
        assert scaled["metadata"]["namespace"] == target["metadata"]["namespace"]

    def test_has_only_documented_fields(self, scaled: Object) -> None:
        assert scaled["apiVersion"] == "keda.sh/v1alpha1"
        spec = scaled["spec"]
        assert spec.keys() == {
            *("scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval"),
            *("fallback", "advanced", "triggers"),
        }
        assert 1 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
        assert spec["fallback"].keys() == {"failureThreshold", "replicas"}
        (trigger,) = spec["triggers"]
        assert trigger.keys() == {"type", "metricType", "metadata"}
        # KEDA accepts only texts here.
        assert {type(value) for value in trigger["metadata"].values()} == {str}
        assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold", "ignoreNullValues"}
        assert spec["advanced"].keys() == {"horizontalPodAutoscalerConfig"}
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior.keys() == {"scaleUp", "scaleDown"}
        for direction in behavior.values():
            assert direction.keys() == {"stabilizationWindowSeconds", "policies"}

    def test_keeps_a_worker_for_each_two_messages_in_work(
        self, scaled: Object, overlays: dict[str, list[Object]]
    ) -> None:
        _, option, concurrency = container(template_of(overlays["keda"], "worker"))["args"]
        assert option == "--concurrency"
        assert scaled["spec"]["triggers"][0]["metadata"]["threshold"] == concurrency

    def test_stops_a_worker_only_after_the_last_one_has_ended(
        self, scaled: Object, overlays: dict[str, list[Object]]
    ) -> None:
        down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        ((policy),) = down["policies"]
        grace = template_of(overlays["keda"], "worker")["spec"]["terminationGracePeriodSeconds"]
        assert policy["value"] == 1
        assert policy["periodSeconds"] > grace
        assert down["stabilizationWindowSeconds"] > policy["periodSeconds"]

    def test_counts_what_waits_and_what_is_in_work(self, scaled: Object, tmp_path: Path) -> None:
        """Given two pods that report the same queues, the query counts each message once."""
        need("promtool", "prometheus")
        query = scaled["spec"]["triggers"][0]["metadata"]["query"]
        assert set(re.findall(r"keyhole_\w+", query)) <= {metric.name for metric in METRICS}
        given = {"keyhole.events": (3, 2), "keyhole.audits": (5, 4), "keyhole.housekeeping": (100, 0)}
        series = [
            {"series": f'{metric}{{queue="{queue}", instance="{instance}"}}', "values": str(value)}
            for queue, values in given.items()
            for metric, value in zip(
                ("keyhole_queue_messages", "keyhole_queue_unacknowledged"), values, strict=True
            )
            for instance in ("a", "b")
        ]
        test = {"interval": "15s", "input_series": series}
        test["promql_expr_test"] = [
            {"expr": query, "eval_time": "0s", "exp_samples": [{"labels": "{}", "value": 3 + 2 + 5 + 4}]}
        ]
        (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
        done = subprocess.run(
            ["promtool", "test", "rules", "test.yml"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_works_with_a_valkey_inside(self, tmp_path: Path) -> None:
        found = built(tmp_path, "overlays/keda", redis_outside="redis-inside")
        assert named(found, "StatefulSet", "valkey")
        assert "replicas" not in named(found, "Deployment", "keyhole-worker")["spec"]


class TestValkey:
    @pytest.fixture
    def stateful(self, overlays: dict[str, list[Object]]) -> Object:
        return named(overlays["redis-inside"], "StatefulSet", "valkey")

    def test_is_reached_at_the_url_of_the_roles(
        self, stateful: Object, overlays: dict[str, list[Object]]
    ) -> None:
        found = overlays["redis-inside"]
        service = named(found, "Service", stateful["spec"]["serviceName"])["spec"]
        template = stateful["spec"]["template"]
        (port,) = container(template)["ports"]
        assert selects({"matchLabels": service["selector"]}, template["metadata"]["labels"])
        assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
        for role in ROLES:
            url = environment(found, template_of(found, role))["KEYHOLE_REDIS_URL"]
            assert url == f"redis://keyhole:PASSWORD@valkey:{port['containerPort']}/0"

    def test_has_the_user_of_compose(self) -> None:
        text = (FOLDER / "valkey" / "keyhole.acl").read_text(encoding="utf-8")
        assert " ".join(text.split()) == rules()
        assert " ".join(text.split()) in re.sub(r"\s*\\\n\s*", " ", (ROOT / MAIN).read_text(encoding="utf-8"))

    def test_stores_its_data_on_a_volume(self, stateful: Object) -> None:
        (claim,) = stateful["spec"]["volumeClaimTemplates"]
        (mount,) = [
            mount
            for mount in container(stateful["spec"]["template"])["volumeMounts"]
            if mount["name"] == claim["metadata"]["name"]
        ]
        lines = (FOLDER / "valkey" / "valkey.conf").read_text(encoding="utf-8").splitlines()
        assert {f"dir {mount['mountPath']}", "appendonly yes", "maxmemory-policy noeviction"} <= set(lines)


@pytest.mark.slow
def test_the_objects_follow_the_schemas_of_kubernetes(overlays: dict[str, list[Object]]) -> None:
    try:
        import kubernetes_validate
    except ImportError:
        give_up("kubernetes-validate is not installed: install Keyhole with the extra dev")
    different = {yaml.safe_dump(each): each for found in overlays.values() for each in found}
    checked = set()
    for each in different.values():
        for version in VERSIONS:
            if each["kind"] == "ScaledObject":
                continue
            assert kubernetes_validate.validate(each, version, strict=True) == version
            checked.add(each["kind"])
    assert {"Deployment", "StatefulSet", "NetworkPolicy", "PodDisruptionBudget", "Secret"} <= checked
