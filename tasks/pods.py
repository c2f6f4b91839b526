"""What the pod of each task gets: every pod of the project is made here, from the recipe's `ClusterConfig`.

Flyte changes a pod before Kubernetes sees it, by rules of its own (tests/tasks/flyte_rules.py has them): a container
without memory gets the platform's default, a task's `requests` replace the template's resources as a whole, and what
is above the platform's limits is cut down to them without a word. So everything stands in the pod template, each
request is its limit, and `make package` refuses what our Flyte values would cut.

A pod runs as nobody in particular: no root, no capability (but IPC_LOCK, where InfiniBand pins memory), no token for
the cluster's API, a root file system that cannot be written. /scratch (K2_HOME, HOME, the shipped code) and /tmp can;
both count as its ephemeral storage. Shared disks (`cluster.claims`) are there to be read.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Any

from flytekit import PodTemplate

from k2model.errors import K2Error
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.cluster import ClusterConfig, PodSize, claimed
from k2model.settings import SECRETS

PRIMARY = "primary"  # the container; Flyte calls that of a PyTorchJob `pytorch`, as its operator wants it
SCRATCH, TEMPORARY = "/scratch", "/tmp"
RETRIES = 8  # of what is not training: nodes are lost there too, and a step that is at fault fails the first time
METRICS_PORT = 9464  # of a node at training, called `metrics`; infra/ lets Prometheus in and nobody else
COPIES = 8  # of a part on its pod's disk: fetched, unpacked, cleaned, written, and as much again
GIB = 2**30

#: In every process of ours, here and in pods, unless the environment says otherwise.
DEFAULTS = {
    "OMP_NUM_THREADS": "1",  # one thread a worker: two workers fill two cores
    "TOKENIZERS_PARALLELISM": "false",  # workers are forked; a thread pool would not survive it
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class Kind(Enum):
    """The kinds of pods; the value is their `app.kubernetes.io/component`."""

    ASK = "ask"
    PART = "part"
    WHOLE = "whole"
    MODEL = "model"
    EVALUATION = "evaluation"
    TRAINING = "training"


@dataclass(frozen=True)
class Pod:
    """What one pod gets. `setting` names the fields of the recipe that say its size, for messages."""

    kind: Kind
    cluster: ClusterConfig
    size: PodSize
    setting: str
    gpus: int = 0
    workers: int = 1  # processes that share it
    keys: tuple[str, ...] = ()  # of the cluster's Secret, beside those that every pod gets
    nodes: int = 1  # of the job that it is one of
    grace_seconds: int = 30  # from SIGTERM to SIGKILL
    sandbox_profile: str = ""  # of seccomp, where it runs programs of a model

    @property
    def infiniband(self) -> int:
        """Devices: only where nodes talk to each other."""
        return self.cluster.infiniband_devices_per_node if self.gpus and self.nodes > 1 else 0

    @property
    def shared_memory_gib(self) -> int:
        """Of /dev/shm, a part of its memory; 0 where no workers share tensors."""
        if self.kind not in (Kind.EVALUATION, Kind.TRAINING):
            return 0
        return self.cluster.shared_memory_gib if self.gpus else max(1, self.size.memory_gib // 4)

    @property
    def resources(self) -> dict[str, str]:
        """Request and limit alike, as Kubernetes writes amounts."""
        amounts = {
            "cpu": str(self.size.cpus),
            "memory": f"{self.size.memory_gib}Gi",
            "ephemeral-storage": f"{self.size.disk_gib}Gi",
        }
        if self.gpus:
            amounts["nvidia.com/gpu"] = str(self.gpus)
        if self.infiniband:
            amounts[self.cluster.infiniband_resource] = str(self.infiniband)
        return amounts

    @property
    def environment(self) -> dict[str, str]:
        """Plain variables, those of the recipe last."""
        cluster = self.cluster
        own = {"K2_HOME": f"{SCRATCH}/k2", "HOME": SCRATCH, "TMPDIR": TEMPORARY, **DEFAULTS}
        own["OMP_NUM_THREADS"] = str(max(1, self.size.cpus // self.workers))
        if self.gpus:
            # Without a heartbeat timeout a lost peer leaves NCCL waiting for its default of many minutes. The flight
            # recorder keeps the last collectives of each rank, and what a rank hung in is written when it times out.
            own |= {
                "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "300",
                "TORCH_NCCL_TRACE_BUFFER_SIZE": "2000",
                "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
                "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": f"{SCRATCH}/nccl_rank_",
            }
        if self.kind is Kind.TRAINING:
            own |= {"K2_METRICS_PORT": str(METRICS_PORT), "K2_METRICS_ADDRESS": "0.0.0.0"}
        if self.nodes > 1:
            own |= {"NCCL_SOCKET_IFNAME": cluster.network_interface, "GLOO_SOCKET_IFNAME": cluster.network_interface}
        if self.infiniband:
            own["NCCL_IB_HCA"] = cluster.nccl_devices
        return own | dict(entry.split("=", 1) for entry in cluster.environment)

    @property
    def priority(self) -> str:
        """Its PriorityClass; "" = the cluster's default."""
        cluster = self.cluster
        named = {Kind.TRAINING: cluster.training_priority, Kind.EVALUATION: cluster.evaluation_priority}
        return named.get(self.kind, cluster.data_priority)

    @property
    def queue(self) -> str:
        """Its LocalQueue; "" = it is not queued."""
        cluster = self.cluster
        named = {Kind.TRAINING: cluster.training_queue, Kind.EVALUATION: cluster.evaluation_queue}
        return named.get(self.kind, cluster.data_queue)

    @property
    def options(self) -> dict[str, Any]:
        """What `@task` is told. Labels given there reach the object that is queued, a PyTorchJob or a pod; those of a
        template reach pods alone."""
        cluster = self.cluster
        hours = {Kind.TRAINING: 24 * cluster.training_days, Kind.EVALUATION: cluster.evaluation_hours}
        told: dict[str, Any] = {
            "retries": cluster.training_retries if self.kind is Kind.TRAINING else RETRIES,
            "timeout": timedelta(hours=hours.get(self.kind, cluster.data_hours)),
            "pod_template": template(self),
        }
        if self.queue:
            told["labels"] = {"kueue.x-k8s.io/queue-name": self.queue}
        return told


def template(pod: Pod) -> PodTemplate:
    """A pod as Flyte takes it; its labels are for selectors of policies and monitors."""
    labels = {"app.kubernetes.io/part-of": "k2", "app.kubernetes.io/component": pod.kind.value}
    annotations = {}
    if pod.nodes > 1 and pod.queue and pod.cluster.topology:
        annotations["kueue.x-k8s.io/podset-preferred-topology"] = pod.cluster.topology
    if pod.sandbox_profile:  # the field of `_spec` in its older form: Flyte drops fields that its release does not know
        annotations[f"container.apparmor.security.beta.kubernetes.io/{PRIMARY}"] = "unconfined"
    return PodTemplate(
        pod_spec=_spec(pod), primary_container_name=PRIMARY, labels=labels, annotations=annotations or None
    )


def _spec(pod: Pod) -> Any:
    from kubernetes import client as k8s

    cluster = pod.cluster
    volumes = {"scratch": (SCRATCH, k8s.V1EmptyDirVolumeSource()), "tmp": (TEMPORARY, k8s.V1EmptyDirVolumeSource())}
    if pod.shared_memory_gib:
        memory = k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=f"{pod.shared_memory_gib}Gi")
        volumes["shared-memory"] = ("/dev/shm", memory)
    mounts = [k8s.V1VolumeMount(name=name, mount_path=path) for name, (path, _) in volumes.items()]
    sources = [k8s.V1Volume(name=name, empty_dir=source) for name, (_, source) in volumes.items()]
    for number, (path, claim) in enumerate(claimed(cluster).items()):
        mounts.append(k8s.V1VolumeMount(name=f"claim-{number}", mount_path=path, read_only=True))
        # Read-only of the source as well: the kubelet then does not give each of its files to the pod's group.
        source = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=claim, read_only=True)
        sources.append(k8s.V1Volume(name=f"claim-{number}", persistent_volume_claim=source))
    secrets = [
        k8s.V1EnvVar(
            name=name,
            value_from=k8s.V1EnvVarSource(
                secret_key_ref=k8s.V1SecretKeySelector(name=cluster.secret, key=name, optional=True)
            ),
        )
        for name in (*SECRETS, *pod.keys)  # one by one: older releases of Flyte drop a template's `envFrom`
    ]
    container = k8s.V1Container(
        name=PRIMARY,
        working_dir=SCRATCH,  # where Flyte unpacks the shipped code
        resources=k8s.V1ResourceRequirements(requests=pod.resources, limits=pod.resources),
        volume_mounts=mounts,
        ports=[k8s.V1ContainerPort(name="metrics", container_port=METRICS_PORT)] if pod.kind is Kind.TRAINING else None,
        env=[*(k8s.V1EnvVar(name=name, value=value) for name, value in pod.environment.items()), *secrets],
        security_context=k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"], add=["IPC_LOCK"] if pod.infiniband else None),
        ),
    )
    # A sandbox takes user namespaces and mounts in them, which the runtime's own profiles refuse (docs/sandbox.md).
    seccomp = k8s.V1SeccompProfile(type="RuntimeDefault")
    if pod.sandbox_profile:
        seccomp = k8s.V1SeccompProfile(type="Localhost", localhost_profile=pod.sandbox_profile)
    return k8s.V1PodSpec(
        containers=[container],
        volumes=sources,
        security_context=k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=cluster.user,
            run_as_group=cluster.user,
            fs_group=cluster.user,
            seccomp_profile=seccomp,
            app_armor_profile=k8s.V1AppArmorProfile(type="Unconfined") if pod.sandbox_profile else None,
        ),
        service_account_name=cluster.service_account,
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=pod.grace_seconds,
        priority_class_name=pod.priority or None,
        node_selector=dict(label.split("=", 1) for label in (cluster.gpu_nodes if pod.gpus else cluster.cpu_nodes)),
        tolerations=[
            # A node that is gone: 30 s instead of five minutes, in which 399 others would wait for it.
            *(
                k8s.V1Toleration(key=f"node.kubernetes.io/{gone}", operator="Exists", effect="NoExecute",
                                 toleration_seconds=30)
                for gone in ("unreachable", "not-ready")
            ),
            *(
                k8s.V1Toleration(key=key, operator="Exists", effect="NoSchedule")
                for key in (cluster.gpu_taints if pod.gpus else ())
            ),
        ],
    )  # fmt: skip


def cpu_pod(recipe: Recipe, kind: Kind) -> Pod:
    """A pod of the data, or one for a model's weights without accelerators."""
    size: PodSize = getattr(recipe.cluster, kind.value)
    if kind is Kind.PART:
        part_bytes = max(recipe.corpus.part_bytes, recipe.validation.part_bytes)
        disk = max(size.disk_gib, math.ceil(size.cpus * COPIES * part_bytes / GIB))
        size = replace(size, disk_gib=disk)
    workers = size.cpus if kind is Kind.PART else 1
    # Language models are asked in the one, people are told of a line's turns in the other.
    keys = {Kind.WHOLE: endpoint_keys, Kind.ASK: notify_keys}.get(kind, lambda _: ())(recipe)
    return Pod(kind, recipe.cluster, size, f"cluster.{kind.value}", workers=workers, keys=keys)


def endpoint_keys(recipe: Recipe) -> tuple[str, ...]:
    """Names of the variables that hold keys of language models: of judges, and of those that write documents."""
    teachers = {source.job.endpoint.api_key_env for source in recipe.corpus.synthesised if source.job}
    return tuple(sorted({*judge_keys(recipe), *teachers} - {"", *SECRETS}))


def judge_keys(recipe: Recipe) -> tuple[str, ...]:
    """Names of the variables that hold keys of the language models which judge what a recipe's phases answer."""
    named = {recipe.safety.judge.api_key_env, *(one.api_key_env for one in recipe.evaluation.benchmarks)}
    return tuple(sorted(named - {"", *SECRETS}))


def notify_keys(recipe: Recipe) -> tuple[str, ...]:
    """Names of the variables that hold the addresses of webhooks, which are secrets."""
    told = recipe.continual.notify
    return tuple(sorted({told.slack_env, told.webhook_env} - {"", *SECRETS}))


def training_pod(recipe: Recipe, phase: PhaseConfig) -> Pod:
    """One node of a phase's job."""
    layout = phase.parallelism
    size, setting = _job_size(recipe, layout.workers_per_node)
    return Pod(
        Kind.TRAINING, recipe.cluster, size, setting,
        gpus=recipe.cluster.gpus_per_node,
        workers=layout.workers_per_node,
        nodes=layout.nodes,
        grace_seconds=shutdown_seconds(recipe) + 10,  # the agent waits for its workers, the pod for its agent
    )  # fmt: skip


def evaluation_pod(recipe: Recipe) -> Pod:
    """One node whose workers share an evaluation."""
    workers = recipe.cluster.gpus_per_node or recipe.evaluation.workers
    size, setting = _job_size(recipe, workers)
    return Pod(
        Kind.EVALUATION, recipe.cluster, size, setting,
        gpus=recipe.cluster.gpus_per_node, workers=workers, keys=judge_keys(recipe),
        sandbox_profile=recipe.cluster.sandbox_profile,
    )  # fmt: skip


def _job_size(recipe: Recipe, workers: int) -> tuple[PodSize, str]:
    cluster = recipe.cluster
    if cluster.gpus_per_node:
        return cluster.gpu_pod, "cluster.cpus_per_node, memory_gib_per_node, gpu_disk_gib"
    return PodSize(max(cluster.model.cpus, workers), cluster.model.memory_gib, cluster.model.disk_gib), "cluster.model"


def shutdown_seconds(recipe: Recipe) -> int:
    """What workers have between SIGTERM and SIGKILL: their last checkpoint's time, and a little to end in."""
    return math.ceil(max(phase.checkpoints.preemption_seconds for phase in recipe.phases)) + 5


def check_gpus(pod: Pod) -> None:
    """Raises K2Error in a pod whose torch does not see the GPUs it asked for: it would work on its CPUs, for years."""
    if not pod.gpus:
        return
    import torch

    if (seen := torch.cuda.device_count()) < pod.gpus:
        raise K2Error(
            f"torch {torch.__version__} sees {seen} of the {pod.gpus} GPUs that a node has. In a pod: is torch a build "
            "for CUDA (`images/build.py --torch-args`; the CPU's by default), are the node's driver and device plugin "
            "at work? On a machine without them: choose a recipe for CPUs, or set cluster.gpus_per_node to 0"
        )


def pods(recipe: Recipe) -> Iterator[Pod]:
    """One of each kind, and one of each phase."""
    yield from (cpu_pod(recipe, kind) for kind in (Kind.ASK, Kind.PART, Kind.WHOLE, Kind.MODEL))
    yield evaluation_pod(recipe)
    yield from (training_pod(recipe, phase) for phase in recipe.phases)
