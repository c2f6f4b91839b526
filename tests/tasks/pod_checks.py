"""What a pod must get, as a table: a name, what is looked at, and of which pods it is asked."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from kubernetes.utils.quantity import parse_quantity

from k2model.settings import SECRETS, secret_name
from tests.tasks.effective import DIGEST, SETTINGS, Effective

GIB = 2**30
CPU = {"ask", "part", "whole", "model"}
JOBS = {"training", "evaluation"}


def gib(amount: str) -> float:
    return float(parse_quantity(amount or "0") / GIB)


def seconds(text: str) -> float:
    return float(text.removesuffix("s") or 0)


def tolerates(e: Effective, key: str, effect: str) -> dict[str, Any] | None:
    return next((t for t in e.spec["tolerations"] if t.get("key") == key and t["effect"] == effect), None)


def duration(text: str) -> float:
    """Seconds of Go's `1h30m`."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))


def multi(e: Effective) -> bool:
    return e.nodes > 1


def gpus(e: Effective) -> bool:
    return bool(e.recipe.cluster.gpus_per_node) and e.kind in JOBS


def fast(e: Effective) -> bool:
    """Whether its nodes talk over InfiniBand."""
    return gpus(e) and multi(e) and bool(e.recipe.cluster.infiniband_devices_per_node)


class Check(NamedTuple):
    """One thing that pods get. `on` says which of them."""

    get: Callable[[Effective], bool]
    on: Callable[[Effective], bool] = lambda e: True


def size(e: Effective) -> Any:
    cluster = e.recipe.cluster
    return getattr(cluster, e.kind) if e.kind in CPU else cluster.gpu_pod if gpus(e) else cluster.model


def _plain_secrets(e: Effective) -> list[str]:
    return [one["name"] for one in e.container["env"] if "value" in one and secret_name(one["name"])]


def _from_secret(e: Effective) -> set[str]:
    found = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in e.container["env"] if "valueFrom" in one}
    return {name for name, ref in found.items() if ref["name"] == e.recipe.cluster.secret and ref["key"] == name}


def _writable(e: Effective, path: str) -> bool:
    volume = e.mounted(path)
    return volume is not None and volume.get("emptyDir", {}).get("medium") is None


CHECKS: dict[str, Check] = {
    # Which recipe, and where things are
    "recipe": Check(lambda e: e.environment.get("K2_RECIPE") == e.recipe.name),
    "recipe's digest": Check(lambda e: e.environment.get("K2_RECIPE_DIGEST") == e.digest),
    "store": Check(lambda e: e.environment.get("K2_STORE") == SETTINGS["K2_STORE"]),
    "tracking server": Check(lambda e: e.environment.get("MLFLOW_TRACKING_URI") == SETTINGS["MLFLOW_TRACKING_URI"]),
    "S3 endpoint": Check(lambda e: e.environment.get("AWS_ENDPOINT_URL") == SETTINGS["AWS_ENDPOINT_URL"]),
    "S3 region": Check(lambda e: e.environment.get("AWS_REGION") == SETTINGS["AWS_REGION"]),
    "data of benchmarks": Check(lambda e: e.environment.get("K2_EVAL_DATA") == SETTINGS["K2_EVAL_DATA"]),
    "secrets from a Secret": Check(lambda e: _from_secret(e) == set(SECRETS)),
    "no secret in a plain variable": Check(lambda e: not _plain_secrets(e)),
    "image with digest": Check(
        lambda e: re.fullmatch(rf"registry\.example/k2/(data|train|eval)@{DIGEST}", e.container["image"]) is not None
    ),
    # Resources, after Flyte has cut them
    "cpus": Check(lambda e: float(e.gets("cpu") or 0) >= size(e).cpus),
    "cpus below the node's": Check(lambda e: float(e.gets("cpu")) <= e.recipe.cluster.cpus_per_node - 4, gpus),
    "memory": Check(lambda e: gib(e.gets("memory")) >= max(4, size(e).memory_gib)),
    "memory below the node's": Check(
        lambda e: gib(e.gets("memory")) <= 0.95 * e.recipe.cluster.memory_gib_per_node, gpus
    ),
    "ephemeral storage": Check(lambda e: gib(e.gets("ephemeral-storage")) >= max(8, size(e).disk_gib)),
    "room for a process's part": Check(
        lambda e: (
            gib(e.gets("ephemeral-storage")) * GIB
            >= 8 * int(e.gets("cpu")) * max(e.recipe.corpus.part_bytes, e.recipe.validation.part_bytes)
        ),
        lambda e: e.kind == "part",
    ),
    "gpus": Check(lambda e: e.gets("nvidia.com/gpu") == str(e.recipe.cluster.gpus_per_node), gpus),
    "no gpus without need": Check(
        lambda e: not e.container["resources"]["requests"].get("nvidia.com/gpu"), lambda e: not gpus(e)
    ),
    "rdma": Check(lambda e: e.gets("rdma/ib") == str(e.recipe.cluster.infiniband_devices_per_node), fast),
    "rdma only where nodes talk": Check(
        lambda e: "rdma/ib" not in e.container["resources"]["limits"], lambda e: not fast(e)
    ),
    "shared memory": Check(
        lambda e: (
            (volume := e.mounted("/dev/shm")) is not None
            and volume["emptyDir"].get("medium") == "Memory"
            and 0 < gib(volume["emptyDir"].get("sizeLimit", "")) < gib(e.gets("memory")) / 2
        ),
        lambda e: e.kind in JOBS,
    ),
    "writable K2_HOME": Check(lambda e: _writable(e, e.environment.get("K2_HOME", "/nowhere"))),
    "writable HOME": Check(lambda e: _writable(e, e.environment.get("HOME", "/nowhere"))),
    "writable TMPDIR": Check(lambda e: _writable(e, e.environment.get("TMPDIR", "/nowhere"))),
    "writable place for the code": Check(lambda e: _writable(e, e.container.get("workingDir", "/nowhere"))),
    # Who it is
    "service account": Check(lambda e: e.spec["serviceAccountName"] == e.recipe.cluster.service_account),
    "no token of the API": Check(lambda e: e.spec.get("automountServiceAccountToken") is False),
    "no service variables": Check(lambda e: e.spec.get("enableServiceLinks") is False),
    "not root": Check(
        lambda e: (
            e.spec["securityContext"].get("runAsNonRoot") is True
            and e.spec["securityContext"].get("runAsUser", 0) > 0
            and e.spec["securityContext"].get("runAsGroup", 0) > 0
        )
    ),
    "owner of its volumes": Check(
        lambda e: e.spec["securityContext"].get("fsGroup") == e.spec["securityContext"].get("runAsGroup", -1)
    ),
    "seccomp": Check(lambda e: e.spec["securityContext"].get("seccompProfile") == {"type": "RuntimeDefault"}),
    "no escalation": Check(lambda e: e.container["securityContext"].get("allowPrivilegeEscalation") is False),
    "root file system read-only": Check(lambda e: e.container["securityContext"].get("readOnlyRootFilesystem") is True),
    "no capabilities": Check(
        lambda e: (
            e.container["securityContext"]["capabilities"].get("drop") == ["ALL"]
            and set(e.container["securityContext"]["capabilities"].get("add", [])) <= {"IPC_LOCK"}
        )
    ),
    "IPC_LOCK": Check(lambda e: e.container["securityContext"]["capabilities"].get("add") == ["IPC_LOCK"], fast),
    # Where and when
    "tolerates the taint of GPUs": Check(lambda e: tolerates(e, "nvidia.com/gpu", "NoSchedule") is not None, gpus),
    "no GPU node without need": Check(
        lambda e: tolerates(e, "nvidia.com/gpu", "NoSchedule") is None, lambda e: not gpus(e)
    ),
    "leaves a node that is gone": Check(
        lambda e: (tolerates(e, "node.kubernetes.io/unreachable", "NoExecute") or {}).get("tolerationSeconds") == 30
    ),
    "leaves a node that is not ready": Check(
        lambda e: (tolerates(e, "node.kubernetes.io/not-ready", "NoExecute") or {}).get("tolerationSeconds") == 30
    ),
    "node selector": Check(lambda e: e.spec["nodeSelector"] == {"nvidia.com/gpu.present": "true"}, gpus),
    "priority": Check(
        lambda e: (
            e.spec.get("priorityClassName")
            == {"training": "k2-training", "evaluation": "k2-evaluation"}.get(e.kind, "k2-data")
        ),
        lambda e: bool(e.recipe.cluster.gpus_per_node),
    ),
    "queue of the object": Check(
        lambda e: (
            e.made["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")
            == {"training": "k2-training", "evaluation": "k2-evaluation"}.get(e.kind, "k2-data")
        ),
        lambda e: bool(e.recipe.cluster.gpus_per_node),
    ),
    "nodes near each other": Check(
        lambda e: e.pod["metadata"]["annotations"].get("kueue.x-k8s.io/podset-preferred-topology") == "k2-rack", fast
    ),
    "port of its metrics": Check(
        lambda e: (
            {"name": "metrics", "containerPort": int(e.environment["K2_METRICS_PORT"])}.items()
            <= next(port for port in e.container["ports"] if port["name"] == "metrics").items()
            and e.environment["K2_METRICS_ADDRESS"] == "0.0.0.0"
        ),
        lambda e: e.kind == "training",
    ),
    "timeout": Check(
        lambda e: (
            12 * 3600
            <= seconds(e.task["metadata"].get("timeout", ""))
            <= (30 if e.kind == "training" else 4) * 24 * 3600
        )
    ),
    "retries": Check(lambda e: e.task["metadata"]["retries"].get("retries", 0) >= 5, lambda e: e.kind != "training"),
    # 419 interruptions in 54 days on 16,384 GPUs (Llama 3, arXiv:2407.21783): 74 in pre-training, and ten times that.
    "plentiful retries": Check(
        lambda e: e.task["metadata"]["retries"].get("retries", 0) >= 740, lambda e: e.kind == "training"
    ),
    "never restarted in place": Check(
        lambda e: (
            e.spec["restartPolicy"] == "Never"
            and (not multi(e) or e.made["spec"]["pytorchReplicaSpecs"]["Worker"]["restartPolicy"] == "Never")
        )
    ),
    "grace": Check(
        lambda e: (
            e.spec.get("terminationGracePeriodSeconds", 30)
            >= max(phase.checkpoints.preemption_seconds for phase in e.recipe.phases) + 15
        ),
        lambda e: e.kind == "training",
    ),
    "labels for policies": Check(
        lambda e: (
            e.pod["metadata"]["labels"].get("app.kubernetes.io/part-of") == "k2"
            and e.pod["metadata"]["labels"].get("app.kubernetes.io/component") == e.kind
        )
    ),
    # Jobs of several nodes
    "job": Check(lambda e: (e.made["kind"] == "PyTorchJob") == multi(e)),
    "name of the container": Check(lambda e: e.container["name"] == ("pytorch" if multi(e) else "primary")),
    "all nodes or none": Check(
        lambda e: (
            e.nodes
            == e.made["spec"]["pytorchReplicaSpecs"]["Worker"]["replicas"]
            == e.made["spec"]["elasticPolicy"]["minReplicas"]
            == e.made["spec"]["elasticPolicy"]["maxReplicas"]
        ),
        multi,
    ),
    "workers": Check(
        lambda e: (
            e.made["spec"]["elasticPolicy"]["nProcPerNode"] == e.recipe.phase(e.phase).parallelism.workers_per_node
        ),
        multi,
    ),
    "clean pod policy": Check(lambda e: e.made["spec"]["runPolicy"].get("cleanPodPolicy") == "Running", multi),
    "time to live": Check(
        lambda e: 3600 <= e.made["spec"]["runPolicy"].get("ttlSecondsAfterFinished", 0) <= 7 * 86_400, multi
    ),
    "rendezvous": Check(
        lambda e: min(e.waits[e.phase].get(name, 0) for name in ("timeout", "join_timeout", "read_timeout")) >= 3600,
        multi,
    ),
    "NCCL's devices": Check(lambda e: e.environment.get("NCCL_IB_HCA") == "mlx5", fast),
    "NCCL's interface": Check(lambda e: e.environment.get("NCCL_SOCKET_IFNAME") == "eth0", multi),
    "Gloo's interface": Check(lambda e: e.environment.get("GLOO_SOCKET_IFNAME") == "eth0", multi),
    "NCCL heartbeat": Check(lambda e: 60 <= int(e.environment.get("TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC", 0)) <= 600, gpus),
    "flight recorder": Check(lambda e: int(e.environment.get("TORCH_NCCL_TRACE_BUFFER_SIZE", 0)) >= 1000, gpus),
    "flight recorder's dump": Check(lambda e: e.environment.get("TORCH_NCCL_DUMP_ON_TIMEOUT") == "1", gpus),
    "place of the dump": Check(
        lambda e: _writable(e, e.environment.get("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "/nowhere")), gpus
    ),
    "threads": Check(
        lambda e: (
            1
            <= int(e.environment.get("OMP_NUM_THREADS", 0))
            <= int(e.gets("cpu")) / (e.recipe.cluster.gpus_per_node if gpus(e) else 1)
        )
    ),
    "one thread a process": Check(lambda e: e.environment.get("OMP_NUM_THREADS") == "1", lambda e: e.kind == "part"),
    "no tokenizer threads": Check(lambda e: e.environment.get("TOKENIZERS_PARALLELISM") == "false"),
    "no telemetry of MLflow": Check(lambda e: e.environment.get("MLFLOW_DISABLE_TELEMETRY") == "true"),
    "no telemetry of Great Expectations": Check(lambda e: e.environment.get("GX_ANALYTICS_ENABLED") == "false"),
    # The platform
    "retries of the system": Check(lambda e: e.on.nodes["max-node-retries-system-failures"] >= 50),
    "no deadline of a node's execution": Check(
        lambda e: e.on.nodes.get("default-deadlines", {}).get("node-execution-deadline") == "0s"
    ),
    "no deadline of a node": Check(
        lambda e: e.on.nodes.get("default-deadlines", {}).get("node-active-deadline") == "0s"
    ),
    "parallelism": Check(lambda e: e.on.parallelism >= 50),
    "no quotas of Flyte's": Check(lambda e: not e.on.quotas_by_flyte),
    "patience with a registry": Check(lambda e: duration(e.on.k8s.get("image-pull-backoff-grace-period", "")) >= 900),
    "patience with a container": Check(
        lambda e: duration(e.on.k8s.get("create-container-error-grace-period", "")) >= 600
    ),
    "finalizer": Check(lambda e: e.on.k8s.get("inject-finalizer") is True),
    "patience with the operator": Check(lambda e: duration(e.on.operator.get("timeout", "")) >= 600),
}


def passes(check: Check, e: Effective) -> bool:
    try:
        return check.get(e)
    except (LookupError, TypeError, AttributeError, ValueError):  # what is looked at is not there at all
        return False
