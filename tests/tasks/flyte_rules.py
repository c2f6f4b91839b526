"""What Flyte 1.16.8 makes of a serialized task: its rules, ported from its sources, joined with our Helm values.

Only what bears on K2's tasks is here: pods from a template (`k8s_pod`) and PyTorchJobs of task type version 1. Sources,
all in https://github.com/flyteorg/flyte (Apache-2.0):

    flyteplugins/go/tasks/pluginmachinery/flytek8s/container_helper.go    resources: defaults, merging, cutting down
    flyteplugins/go/tasks/pluginmachinery/flytek8s/pod_helper.go          UpdatePod, ApplyFlytePodConfiguration
    flyteplugins/go/tasks/pluginmachinery/flytek8s/k8s_resource_adds.go   environment, tolerations
    flyteplugins/go/tasks/plugins/k8s/kfoperators/pytorch/pytorch.go      the job
    flyteplugins/go/tasks/plugins/k8s/kfoperators/common/common_operator.go   its replicas and run policy
    flytepropeller/pkg/controller/nodes/task/k8s/plugin_manager.go        addObjectMetadata: labels of the object
    charts/flyte-core/values.yaml, charts/flyte-binary/values.yaml        what ours are merged into
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.utils.quantity import parse_quantity

ROOT = Path(__file__).parents[2]
CHARTS = ("flyte-core", "flyte-binary")
GPU = "nvidia.com/gpu"

#: What the charts say of what is read here.
_TASKS = {
    "task-plugins": {
        "enabled-plugins": ["container", "sidecar", "k8s-array"],
        "default-for-task-types": {"container": "container", "sidecar": "sidecar", "container_array": "k8s-array"},
    }
}
_RESOURCES = {
    "defaults": {"cpu": "100m", "memory": "500Mi"},
    "limits": {"cpu": "2", "memory": "1Gi", "gpu": "1"},
}
CHART_DEFAULTS: dict[str, dict[str, Any]] = {
    "flyte-core": {
        "configmap": {
            "adminServer": {"flyteadmin": {}},
            "task_resource_defaults": {"task_resources": _RESOURCES},
            "enabled_plugins": {"tasks": _TASKS},
            "core": {"propeller": {}},
            "k8s": {"plugins": {"k8s": {}}},
        },
        "cluster_resource_manager": {"enabled": True},
    },
    "flyte-binary": {
        "flyte-core-components": {"admin": {"disableClusterResourceManager": False}},
        "enabled_plugins": {"tasks": _TASKS},
        # flyteadmin's own: flyteadmin/pkg/runtime/task_resource_provider.go
        "configuration": {"inline": {}},
    },
}
_ADMIN = {"defaults": {"cpu": "2", "memory": "200Mi"}, "limits": {"cpu": "2", "memory": "1Gi", "gpu": "1"}}
_NODES = {"max-node-retries-system-failures": 3}  # flytepropeller/pkg/controller/config/config.go


@dataclass
class Platform:
    """What propeller and admin are told, of either chart."""

    defaults: dict[str, str]
    limits: dict[str, str]
    plugins: list[str]
    plugin_of: dict[str, str]
    k8s: dict[str, Any]
    operator: dict[str, Any]
    nodes: dict[str, Any]
    parallelism: int
    quotas_by_flyte: bool
    variables: dict[str, str] = field(default_factory=dict)


def our_values(chart: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / "infra" / "flyte" / f"{chart}.yaml").read_text(encoding="utf-8"))
    return values


def platform(chart: str, values: Mapping[str, Any]) -> Platform:
    """What a release of `chart` with `values` is configured with; Helm merges maps and replaces lists."""
    merged = _helm_merged(CHART_DEFAULTS[chart], values)
    if chart == "flyte-core":
        maps = merged["configmap"]
        resources, tasks = maps["task_resource_defaults"]["task_resources"], maps["enabled_plugins"]["tasks"]
        plugins, propeller = maps["k8s"]["plugins"], maps["core"]["propeller"]
        admin, quotas = maps["adminServer"]["flyteadmin"], merged["cluster_resource_manager"]["enabled"]
    else:
        inline = merged["configuration"]["inline"]
        resources, tasks = inline.get("task_resources", {}), merged["enabled_plugins"]["tasks"]
        plugins, propeller = inline.get("plugins", {}), inline.get("propeller", {})
        admin = inline.get("flyteadmin", {})
        quotas = not merged["flyte-core-components"]["admin"]["disableClusterResourceManager"]
    resources = _helm_merged(_ADMIN, resources)
    k8s = plugins.get("k8s", {})
    return Platform(
        defaults={_resource(name): str(amount) for name, amount in resources["defaults"].items()},
        limits={_resource(name): str(amount) for name, amount in resources["limits"].items()},
        plugins=tasks["task-plugins"]["enabled-plugins"],
        plugin_of=tasks["task-plugins"]["default-for-task-types"],
        k8s=k8s,
        operator=plugins.get("kf-operator", {}),
        nodes=_helm_merged(_NODES, propeller.get("node-config", {})),
        parallelism=admin.get("maxParallelism", 25),
        quotas_by_flyte=quotas,
        variables={name: value for one in k8s.get("default-env-vars", []) for name, value in one.items()},
    )


def made_of(task: Mapping[str, Any], on: Platform, account: str = "default") -> dict[str, Any]:
    """The object that Flyte creates for a serialized task (JSON of its `TaskTemplate`): a Pod or a PyTorchJob.

    Raises LookupError where no enabled plugin takes the task's type.
    """
    spec, labels = _pod_spec(task, on, account), task["k8sPod"].get("metadata", {}).get("labels", {})
    own = task["metadata"].get("metadata", {}).get("labels", {})  # of `@task(labels=)`
    labels = {**on.k8s.get("default-labels", {}), **labels, **own}
    annotations = task["k8sPod"].get("metadata", {}).get("annotations", {})  # of a template, as its labels
    on_pods = {"labels": labels, "annotations": annotations}
    meta = {"name": "f1a2b3c4", "namespace": "k2-production"}
    plugin = on.plugin_of.get(task["type"], "container")  # the plugin that takes what no other does
    if plugin not in on.plugins or (task["type"] == "pytorch") != (plugin == "pytorch"):
        raise LookupError(f"no plugin takes tasks of type {task['type']}")
    if task["type"] != "pytorch":
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {**meta, **on_pods}, "spec": spec}
    custom = _whole_numbers(task["custom"])
    for container in spec["containers"]:
        if container["name"] == task["config"]["primary_container_name"]:
            container["name"] = "pytorch"
    workers, elastic = custom["workerReplicas"], custom["elasticConfig"]
    restart = {"RESTART_POLICY_ON_FAILURE": "OnFailure", "RESTART_POLICY_ALWAYS": "Always"}
    job = {
        "pytorchReplicaSpecs": {
            "Worker": {
                "replicas": workers["replicas"],
                "restartPolicy": restart.get(workers.get("restartPolicy", ""), "Never"),
                "template": {"metadata": on_pods, "spec": spec},
            }
        },
        "runPolicy": _run_policy(custom.get("runPolicy")),
        "elasticPolicy": {
            "minReplicas": elastic["minReplicas"],
            "maxReplicas": elastic["maxReplicas"],
            "rdzvBackend": elastic["rdzvBackend"],
            "nProcPerNode": elastic["nprocPerNode"],
            "maxRestarts": elastic.get("maxRestarts", 0),
        },
    }
    # A template's labels are the pods' alone; those of the task reach the job as well.
    meta |= {"labels": {**on.k8s.get("default-labels", {}), **own}}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": meta, "spec": job}


def pod_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """The pod of what was made: itself, or one of the job's, as `metadata` and `spec`."""
    if made["kind"] == "Pod":
        return {"metadata": made["metadata"], "spec": made["spec"]}
    template: dict[str, Any] = made["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]
    return template


def _pod_spec(task: Mapping[str, Any], on: Platform, account: str) -> dict[str, Any]:
    spec: dict[str, Any] = copy.deepcopy(_whole_numbers(task["k8sPod"]["podSpec"]))
    primary = task["config"]["primary_container_name"]
    assert any(container["name"] == primary for container in spec["containers"]), "Flyte refuses the task"
    asked: set[str] = set()
    for container in spec["containers"]:
        container["env"] = _environment(container.get("env", []), on)
        container["resources"] = _resources(container.get("resources", {}), on, container["name"] == primary)
        asked |= container["resources"]["requests"].keys() | container["resources"]["limits"].keys()
        if container["name"] == primary and "securityContext" not in container and "default-security-context" in on.k8s:
            container["securityContext"] = on.k8s["default-security-context"]
    tolerations = [one for name in sorted(asked) for one in on.k8s.get("resource-tolerations", {}).get(name, [])]
    spec["tolerations"] = tolerations + on.k8s.get("default-tolerations", []) + spec.get("tolerations", [])
    spec.setdefault("restartPolicy", "Never")
    spec["serviceAccountName"] = spec.get("serviceAccountName") or account
    spec["nodeSelector"] = {**on.k8s.get("default-node-selector", {}), **spec.get("nodeSelector", {})}
    if "default-pod-security-context" in on.k8s:
        spec.setdefault("securityContext", on.k8s["default-pod-security-context"])
    return spec


def _environment(own: list[dict[str, Any]], on: Platform) -> list[dict[str, Any]]:
    """Flyte's come last, and of two of one name Kubernetes takes the last."""
    flyte = {"FLYTE_INTERNAL_EXECUTION_ID": "f1a2b3c4", "FLYTE_ATTEMPT_NUMBER": "0", **on.variables}
    return own + [{"name": name, "value": value} for name, value in flyte.items()]


def _resources(own: Mapping[str, Any], on: Platform, primary: bool) -> dict[str, dict[str, str]]:
    requests, limits = dict(own.get("requests", {})), dict(own.get("limits", {}))
    for name in ("cpu", "memory", "ephemeral-storage", GPU):
        if name in ("cpu", "memory") or name in requests or name in limits:
            request, limit = requests.get(name, "0"), limits.get(name, "0")
            if primary:  # others are only cut down
                request = request if _amount(request) else limit if _amount(limit) else on.defaults.get(name, "0")
                limit = limit if _amount(limit) else request
            request, limit = _at_most(request, on.limits.get(name)), _at_most(limit, on.limits.get(name))
            requests[name], limits[name] = _at_most(request, limit), limit
    return {"requests": requests, "limits": limits}


def _at_most(value: str, limit: str | None) -> str:
    return limit if limit and 0 < _amount(limit) < _amount(value) else value


def _run_policy(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without one the operator's own defaults hold: no pod is removed."""
    if not given:
        return {}
    names = {"CLEANPOD_POLICY_RUNNING": "Running", "CLEANPOD_POLICY_ALL": "All"}
    policy: dict[str, Any] = {"cleanPodPolicy": names.get(given.get("cleanPodPolicy", ""), "None")}
    for name in ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if given.get(name):
            policy[name] = given[name]
    return policy


def _helm_merged(base: Any, over: Any) -> Any:
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return copy.deepcopy(over)
    return {
        key: _helm_merged(base[key], over[key]) if key in base and key in over else copy.deepcopy({**base, **over}[key])
        for key in {**base, **over}
    }


def _resource(name: str) -> str:
    """Kubernetes' name for one of `task_resources`."""
    return {"gpu": GPU, "ephemeralStorage": "ephemeral-storage"}.get(name, name)


def _amount(text: str) -> Any:
    return parse_quantity(text)


def _whole_numbers(value: Any) -> Any:
    """As Go reads the JSON of a protobuf Struct, all of whose numbers are floats."""

    def number(text: str) -> float:
        return int(float(text)) if float(text).is_integer() else float(text)

    return json.loads(json.dumps(value), parse_float=number)
