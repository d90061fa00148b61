"""The rules of the Pod Security Standard "restricted".

Source: kubernetes.io, "Pod Security Standards", policy Restricted, which includes Baseline, as of Kubernetes
1.34. Rules that only concern Windows are left out. The rule for sysctls is stricter here: it allows none.
"""

from collections.abc import Callable, Iterator
from typing import Any

Fields = dict[str, Any]

VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
CAPABILITIES = {"NET_BIND_SERVICE"}
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def _either(pod: Fields, container: Fields, name: str) -> Any:
    """The value of a field of a container, or the pod's value if the container has none."""
    return container.get("securityContext", {}).get(name, pod.get("securityContext", {}).get(name))


def _own(container: Fields, name: str) -> Any:
    return container.get("securityContext", {}).get(name)


def _hosts_of_handlers(container: Fields) -> Iterator[str]:
    handlers = [
        *(container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")),
        *container.get("lifecycle", {}).values(),
    ]
    for handler in handlers:
        for way in ("httpGet", "tcpSocket"):
            if handler.get(way, {}).get("host"):
                yield handler[way]["host"]


#: Each rule by its name in the standard. It returns whether a pod and one of its containers follow the rule.
RULES: dict[str, Callable[[Fields, Fields], bool]] = {
    "Host Namespaces": lambda pod, _: (
        not any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))
    ),
    "Privileged Containers": lambda _, container: not _own(container, "privileged"),
    "Capabilities": lambda _, container: (
        "ALL" in (_own(container, "capabilities") or {}).get("drop", ())
        and set((_own(container, "capabilities") or {}).get("add", ())) <= CAPABILITIES
    ),
    "Volume Types": lambda pod, _: all(
        volume.keys() - {"name"} <= VOLUMES for volume in pod.get("volumes", ())
    ),
    "Host Ports": lambda _, container: not any(port.get("hostPort") for port in container.get("ports", ())),
    "Host Probes / Lifecycle Hooks": lambda _, container: not list(_hosts_of_handlers(container)),
    "AppArmor": lambda pod, container: (
        (_either(pod, container, "appArmorProfile") or {"type": "RuntimeDefault"})["type"] in SECCOMP
    ),
    "SELinux": lambda pod, container: (
        {"user", "role"}.isdisjoint(_either(pod, container, "seLinuxOptions") or {})
        and (_either(pod, container, "seLinuxOptions") or {}).get("type", "container_t") in SELINUX
    ),
    "/proc Mount Type": lambda _, container: _own(container, "procMount") in {None, "Default"},
    "Sysctls": lambda pod, _: not pod.get("securityContext", {}).get("sysctls"),
    "Seccomp": lambda pod, container: (
        (_either(pod, container, "seccompProfile") or {}).get("type") in SECCOMP
    ),
    "Privilege Escalation": lambda _, container: _own(container, "allowPrivilegeEscalation") is False,
    "Running as Non-root": lambda pod, container: _either(pod, container, "runAsNonRoot") is True,
    "Running as Non-root user": lambda pod, container: _either(pod, container, "runAsUser") != 0,
}


def violated(pod: Fields, container: Fields) -> set[str]:
    """Return the names of the rules that a pod's specification violates."""
    return {name for name, follows in RULES.items() if not follows(pod, container)}
