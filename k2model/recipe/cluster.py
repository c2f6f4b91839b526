"""What a recipe asks of a cluster: nodes, the sizes of pods, and the names under which the cluster knows things.

Nothing of it bears identity. What a pod of each kind gets is made from it by `tasks/pods.py`; names are those of
`infra/`. Figures of GPUs are from their makers' data sheets. Sizes are of one pod: cpus in cores, memory and disk
(Kubernetes' ephemeral storage) in GiB.
"""

import math
import re
from dataclasses import dataclass, fields

from k2model.errors import nearest
from k2model.settings import holds_secret, secret_name


@dataclass(frozen=True)
class Gpu:
    """`memory`: bytes, as the data sheet counts them; `peak`: dense bf16 FLOP/s; `link`: bytes/s each way to the GPUs
    of its node; `network`: bytes/s each way to other nodes, of the adapter usually beside each GPU."""

    name: str
    memory: float
    peak: float
    link: float
    network: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-80GB", 80e9, 312e12, 300e9, 25e9),  # SXM4; NVLink 600 GB/s both ways, HDR InfiniBand
        Gpu("H100-80GB", 80e9, 989e12, 450e9, 50e9),  # SXM5; NVLink 900 GB/s both ways, NDR InfiniBand
        Gpu("H200", 141e9, 989e12, 450e9, 50e9),  # SXM
        Gpu("B200", 180e9, 2_250e12, 900e9, 50e9),  # SXM; NVLink 1,800 GB/s both ways
    )
}


def gpu_problem(name: str) -> str | None:
    """What is wrong with `cluster.gpu`, None when nothing is."""
    if not name or name in GPUS:
        return None
    return f"cluster.gpu='{name}' is no GPU whose figures are known: {nearest(name, GPUS)}"


@dataclass(frozen=True)
class PodSize:
    """One pod, request and limit alike: a pod that may take more than it asked for is the first to be evicted."""

    cpus: int
    memory_gib: int
    disk_gib: int


@dataclass(frozen=True)
class ClusterConfig:
    """The nodes a recipe's pods run on and what they ask for. No GPUs = everything runs on CPUs (a laptop)."""

    gpus_per_node: int = 0
    cpus_per_node: int = 0  # of a node with GPUs, as a whole
    memory_gib_per_node: int = 0
    system_cpus: int = 8  # of these, left to the kubelet, the drivers' daemons, logs and metrics
    system_memory_gib: int = 200
    shared_memory_gib: int = 64  # /dev/shm, for NCCL and data loaders; counts as memory of its pod
    gpu_disk_gib: int = 200  # of a pod with GPUs
    infiniband_devices_per_node: int = 0  # asked for where nodes talk to each other
    infiniband_resource: str = "rdma/ib"  # as the device plugin calls them
    nccl_devices: str = "mlx5"  # NCCL_IB_HCA: which of a node's devices NCCL takes, by the beginning of their names
    network_interface: str = "eth0"  # of a pod, on which NCCL and Gloo find each other
    # Pods without GPUs. `ask` looks something up, `part` makes parts with a process a core, `whole` makes a step of the
    # data at once, `model` holds weights; on a cluster without GPUs `model` is also what trains and evaluates.
    ask: PodSize = PodSize(cpus=1, memory_gib=4, disk_gib=8)
    part: PodSize = PodSize(cpus=1, memory_gib=4, disk_gib=8)
    whole: PodSize = PodSize(cpus=2, memory_gib=8, disk_gib=16)
    model: PodSize = PodSize(cpus=2, memory_gib=8, disk_gib=16)
    # An attempt that failed goes on where the store is: what ends a crash loop is that nothing is added there any more
    # (`k2model.training`), not a number.
    training_retries: int = 1_000
    training_days: float = 30.0  # of one attempt, its wait for nodes included; then the next goes on
    evaluation_hours: float = 48.0
    data_hours: float = 48.0
    join_seconds: int = 900  # from a job's first node that is up to its last
    # What the plan reckons with. `gpu`: a row of `GPUS`; "" = neither memory nor time is estimated.
    gpu: str = ""
    utilisation: float = 0.4  # of the GPUs' peak, by the model's own arithmetic (MFU)
    failures_per_gpu_day: float = 4.74e-4  # Llama 3: 419 in 54 days on 16,384 GPUs (arXiv:2407.21783, section 3.3.4)
    restart_seconds: float = 600.0  # from a failure to the next step: noticed, scheduled, met, loaded
    store_gb_per_second: float = 50.0  # that the store takes from all nodes together
    price_per_gpu_hour: float = 0.0  # of whatever currency; 0 = no price is told
    # Names
    data_image: str = ""  # registry/repository@sha256:...; or `--image data=...` of `make package`
    train_image: str = ""
    eval_image: str = ""
    service_account: str = "k2-jobs"
    secret: str = "k2-secrets"  # a Secret whose keys are `k2model.settings.SECRETS`
    training_queue: str = ""  # Kueue's LocalQueues; "" = not queued
    evaluation_queue: str = ""
    data_queue: str = ""
    topology: str = ""  # a level of Kueue's Topology: the nodes of a training lie in one such place where they can
    training_priority: str = ""  # PriorityClasses; "" = the cluster's default
    evaluation_priority: str = ""
    data_priority: str = ""
    gpu_nodes: tuple[str, ...] = ()  # label=value of the nodes
    cpu_nodes: tuple[str, ...] = ()
    gpu_taints: tuple[str, ...] = ("nvidia.com/gpu",)  # keys of taints that keep other pods off the nodes with GPUs
    user: int = 10_001  # uid and gid of every container
    # A seccomp profile below the kubelet's folder (`profiles/k2-sandbox.json`, of infra/nodes), under which pods that
    # evaluate may make the sandbox for programs of a model; "" = none of them may, so no program is run.
    sandbox_profile: str = ""
    environment: tuple[str, ...] = ()  # NAME=value for every pod, e.g. NCCL_IB_GID_INDEX=3; no secrets
    # Shared disks that every pod reads, claim=/path: a PersistentVolumeClaim of the jobs' namespace, mounted read-only.
    claims: tuple[str, ...] = ()

    @property
    def gpu_pod(self) -> PodSize:
        """A pod that takes a whole node with GPUs, less what the system needs: never all of it, which is at no pod's
        disposal."""
        cpus, memory = self.cpus_per_node - self.system_cpus, self.memory_gib_per_node - self.system_memory_gib
        return PodSize(cpus, memory, self.gpu_disk_gib)


_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_CLAIM = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?)=((?:/(?!\.\.?(?:/|$))[^/\s:]+)+)")
_POD_OWN = ("/scratch", "/tmp", "/dev", "/proc", "/sys", "/etc", "/opt/venv")  # what a pod has there already
_BELOW = re.compile(r"(?!(.*/)?\.\.?(/|$))[^/\s]+(/[^/\s]+)*")
_LABEL = re.compile(r"[A-Za-z0-9./_-]+=[A-Za-z0-9._-]*")


def cluster_problem(cluster: ClusterConfig) -> str | None:
    """The first thing that is wrong with the settings of a cluster, field and remedy named; None when nothing is."""
    for field in fields(cluster):
        value = getattr(cluster, field.name)
        named = value if isinstance(value, PodSize) else None
        for name in ("cpus", "memory_gib", "disk_gib") if named else ():
            if getattr(named, name) < 1:
                return f"cluster.{field.name}.{name}={getattr(named, name)} must be at least 1: every pod says its size"
        if isinstance(value, int | float) and not (value >= 0 and math.isfinite(value)):
            return f"cluster.{field.name}={value} must be a number, 0 or above"
    if cluster.user < 1:
        return f"cluster.user={cluster.user} is root, which no pod runs as; name another uid, e.g. 10001"
    if not 0 < cluster.utilisation <= 1:
        return f"cluster.utilisation={cluster.utilisation} must be a share of the GPUs' peak, above 0 to 1"
    if not cluster.store_gb_per_second > 0:
        return f"cluster.store_gb_per_second={cluster.store_gb_per_second} must be above 0"
    if cluster.sandbox_profile and not _BELOW.fullmatch(cluster.sandbox_profile):
        return (
            f"cluster.sandbox_profile='{cluster.sandbox_profile}' must be a path below the kubelet's folder of seccomp "
            "profiles (/var/lib/kubelet/seccomp), e.g. profiles/k2-sandbox.json"
        )
    for name in ("gpu_nodes", "cpu_nodes"):
        for label in getattr(cluster, name):
            if not _LABEL.fullmatch(label):
                return f"cluster.{name} has {label!r}, expected label=value, e.g. nvidia.com/gpu.present=true"
    return (
        gpu_problem(cluster.gpu)
        or _environment_problem(cluster)
        or _claims_problem(cluster)
        or (_node_problem(cluster) if cluster.gpus_per_node else None)
    )


def _environment_problem(cluster: ClusterConfig) -> str | None:
    for entry in cluster.environment:
        name, _, value = entry.partition("=")
        if not _ASSIGNED.fullmatch(entry):
            return f"cluster.environment has {entry!r}, expected NAME=value"
        if secret_name(name) or holds_secret(value):
            return (
                f"cluster.environment sets {name}, which is or holds a secret: everyone who may look at a pod or a "
                f"release would read it. Put it into the Secret that cluster.secret names ('{cluster.secret}')"
            )
    return None


def claimed(cluster: ClusterConfig) -> dict[str, str]:
    """The claim that is mounted at each path."""
    return {path: claim for claim, _, path in (entry.partition("=") for entry in cluster.claims)}


def _claims_problem(cluster: ClusterConfig) -> str | None:
    for entry in cluster.claims:
        if not (found := _CLAIM.fullmatch(entry)):
            return f"cluster.claims has {entry!r}, expected the name of a claim and a path, e.g. datasets=/data"
        for taken in (*_POD_OWN, *(path for path in claimed(cluster) if path != found[2])):
            if f"{found[2]}/".startswith(f"{taken}/") or f"{taken}/".startswith(f"{found[2]}/"):
                return f"cluster.claims has {entry!r}, and a pod has something else at {taken}; choose another path"
    if len(claimed(cluster)) < len(cluster.claims):
        return f"cluster.claims={list(cluster.claims)} has two claims at one path; choose another one"
    return None


def _node_problem(cluster: ClusterConfig) -> str | None:
    pod = cluster.gpu_pod
    for name, whole, left in (("cpus", cluster.cpus_per_node, pod.cpus),
                              ("memory_gib", cluster.memory_gib_per_node, pod.memory_gib)):  # fmt: skip
        if left < 1:
            return (
                f"cluster.{name}_per_node={whole} less cluster.system_{name}={whole - left} leaves nothing for a pod; "
                f"say what a node with GPUs has"
            )
    if cluster.shared_memory_gib >= pod.memory_gib:
        return (
            f"cluster.shared_memory_gib={cluster.shared_memory_gib} is as much as a pod's memory "
            f"({pod.memory_gib} GiB), of which it is a part; lower it"
        )
    return None
