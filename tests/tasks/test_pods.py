"""What every pod of every recipe really gets, after Flyte's own rules, on both of its charts; and that each of these
checks fails when what it checks is taken away."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from kubernetes.client import ApiClient

from k2model.recipe import load_recipe
from k2model.recipe.catalog import RECIPES
from k2model.settings import SECRETS
from tasks.pods import Kind, judge_keys, notify_keys, pods, template
from tests.smoke import ROOT
from tests.tasks.effective import Effective, all_effective, serialized
from tests.tasks.flyte_rules import CHARTS, our_values, platform
from tests.tasks.pod_checks import CHECKS, passes


@pytest.fixture(scope="module")
def by_recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return serialized(tmp_path_factory.mktemp("serialized"), tuple(RECIPES))


@pytest.fixture(scope="module")
def everything(by_recipe: dict[str, Any]) -> list[Effective]:
    platforms = [platform(chart, our_values(chart)) for chart in CHARTS]
    recipes = {name: load_recipe(name) for name in RECIPES}
    return [e for on in platforms for name in RECIPES for e in all_effective(by_recipe[name], recipes[name], on)]


@pytest.mark.parametrize("name", CHECKS)
def test_every_pod_gets(everything: list[Effective], name: str) -> None:
    check = CHECKS[name]
    asked = [e for e in everything if check.on(e)]
    assert {(e.recipe.name, e.name) for e in asked}, "there is a pod that it is about"
    assert not [(e.recipe.name, e.name, e.on.k8s) for e in asked if not passes(check, e)]


# What is taken away, of the serialized task or of the values, and which check has to see it.

Mutation = Callable[[dict[str, Any]], None]


def drop(*path: Any) -> Mutation:
    def mutate(of: dict[str, Any]) -> None:
        for key in path[:-1]:
            of = of[key]
        del of[path[-1]]

    return mutate


def put(value: Any, *path: Any) -> Mutation:
    def mutate(of: dict[str, Any]) -> None:
        for key in path[:-1]:
            of = of.setdefault(key, {}) if isinstance(of, dict) else of[key]
        of[path[-1]] = value

    return mutate


POD = ("k8sPod", "podSpec")
CONTAINER = (*POD, "containers", 0)


def no_variable(name: str) -> Mutation:
    def mutate(task: dict[str, Any]) -> None:
        container = task["k8sPod"]["podSpec"]["containers"][0]
        left = [one for one in container["env"] if one["name"] != name]
        assert len(left) < len(container["env"]), f"{name} is set"
        container["env"] = left

    return mutate


def no_resource(name: str) -> Mutation:
    def mutate(task: dict[str, Any]) -> None:
        for half in ("requests", "limits"):
            del task["k8sPod"]["podSpec"]["containers"][0]["resources"][half][name]

    return mutate


def resource(name: str, amount: str) -> Mutation:
    def mutate(task: dict[str, Any]) -> None:
        for half in ("requests", "limits"):
            task["k8sPod"]["podSpec"]["containers"][0]["resources"][half][name] = amount

    return mutate


def variable(name: str, value: str) -> Mutation:
    return lambda task: task["k8sPod"]["podSpec"]["containers"][0]["env"].append({"name": name, "value": value})


def no_toleration(key: str) -> Mutation:
    def mutate(task: dict[str, Any]) -> None:
        pod = task["k8sPod"]["podSpec"]
        pod["tolerations"] = [one for one in pod["tolerations"] if one["key"] != key]

    return mutate


def no_volume(name: str) -> Mutation:
    def mutate(task: dict[str, Any]) -> None:
        pod = task["k8sPod"]["podSpec"]
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] != name]

    return mutate


TRAIN, PART, EVALUATE = "training.train_pretrain", "map_make_parts", "steps.evaluate"
TAKEN: list[tuple[str, str, Mutation]] = [
    ("recipe", TRAIN, no_variable("K2_RECIPE")),
    ("recipe", PART, no_variable("K2_RECIPE")),
    ("recipe's digest", TRAIN, no_variable("K2_RECIPE_DIGEST")),
    ("store", TRAIN, no_variable("K2_STORE")),
    ("tracking server", TRAIN, no_variable("MLFLOW_TRACKING_URI")),
    ("S3 endpoint", TRAIN, no_variable("AWS_ENDPOINT_URL")),
    ("S3 region", TRAIN, no_variable("AWS_REGION")),
    ("data of benchmarks", EVALUATE, no_variable("K2_EVAL_DATA")),
    *(("secrets from a Secret", TRAIN, no_variable(name)) for name in SECRETS),
    ("no secret in a plain variable", TRAIN, variable("AWS_SECRET_ACCESS_KEY", "hunter2")),
    ("image with digest", TRAIN, put("registry.example/k2/train:latest", *CONTAINER, "image")),
    ("cpus", TRAIN, no_resource("cpu")),
    ("cpus", PART, no_resource("cpu")),
    ("cpus below the node's", TRAIN, resource("cpu", "96")),
    ("memory", TRAIN, no_resource("memory")),
    ("memory", PART, no_resource("memory")),
    ("memory", TRAIN, drop(*CONTAINER, "resources")),
    ("memory below the node's", TRAIN, resource("memory", "1850Gi")),
    ("ephemeral storage", PART, no_resource("ephemeral-storage")),
    ("room for a process's part", PART, resource("ephemeral-storage", "8Gi")),
    ("gpus", TRAIN, no_resource("nvidia.com/gpu")),
    ("no gpus without need", PART, resource("nvidia.com/gpu", "1")),
    ("rdma", TRAIN, no_resource("rdma/ib")),
    ("rdma only where nodes talk", EVALUATE, resource("rdma/ib", "8")),
    ("shared memory", TRAIN, no_volume("shared-memory")),
    ("shared memory", TRAIN, resource("memory", "64Gi")),
    ("writable K2_HOME", PART, no_variable("K2_HOME")),
    ("writable K2_HOME", PART, no_volume("scratch")),
    ("writable HOME", PART, no_variable("HOME")),
    ("writable TMPDIR", PART, no_volume("tmp")),
    ("writable TMPDIR", PART, no_variable("TMPDIR")),
    ("writable place for the code", PART, drop(*CONTAINER, "workingDir")),
    ("service account", TRAIN, drop(*POD, "serviceAccountName")),
    ("no token of the API", TRAIN, drop(*POD, "automountServiceAccountToken")),
    ("no service variables", TRAIN, drop(*POD, "enableServiceLinks")),
    ("not root", TRAIN, drop(*POD, "securityContext", "runAsNonRoot")),
    ("not root", TRAIN, drop(*POD, "securityContext", "runAsUser")),
    ("not root", TRAIN, drop(*POD, "securityContext", "runAsGroup")),
    ("not root", TRAIN, drop(*POD, "securityContext")),
    ("owner of its volumes", TRAIN, drop(*POD, "securityContext", "fsGroup")),
    ("seccomp", TRAIN, drop(*POD, "securityContext", "seccompProfile")),
    ("no escalation", TRAIN, drop(*CONTAINER, "securityContext", "allowPrivilegeEscalation")),
    ("root file system read-only", TRAIN, drop(*CONTAINER, "securityContext", "readOnlyRootFilesystem")),
    ("no capabilities", TRAIN, drop(*CONTAINER, "securityContext", "capabilities", "drop")),
    ("IPC_LOCK", TRAIN, drop(*CONTAINER, "securityContext", "capabilities", "add")),
    ("tolerates the taint of GPUs", TRAIN, no_toleration("nvidia.com/gpu")),
    ("no GPU node without need", PART, lambda task: task["k8sPod"]["podSpec"]["tolerations"].append(
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"})),
    ("leaves a node that is gone", TRAIN, no_toleration("node.kubernetes.io/unreachable")),
    ("leaves a node that is not ready", TRAIN, no_toleration("node.kubernetes.io/not-ready")),
    ("node selector", TRAIN, drop(*POD, "nodeSelector")),
    ("priority", TRAIN, drop(*POD, "priorityClassName")),
    ("priority", PART, drop(*POD, "priorityClassName")),
    ("queue of the object", TRAIN, drop("metadata", "metadata", "labels")),
    # A label of the template is not one of the job.
    ("queue of the object", TRAIN, lambda task: task["k8sPod"]["metadata"]["labels"].update(
        task["metadata"]["metadata"].pop("labels"))),
    ("nodes near each other", TRAIN, drop("k8sPod", "metadata", "annotations")),
    ("port of its metrics", TRAIN, drop(*CONTAINER, "ports")),
    ("port of its metrics", TRAIN, no_variable("K2_METRICS_PORT")),
    ("port of its metrics", TRAIN, no_variable("K2_METRICS_ADDRESS")),
    ("timeout", TRAIN, drop("metadata", "timeout")),
    ("timeout", PART, drop("metadata", "timeout")),
    ("retries", PART, drop("metadata", "retries", "retries")),
    ("retries", "run.resolve", drop("metadata", "retries", "retries")),
    ("plentiful retries", TRAIN, put(3, "metadata", "retries", "retries")),
    ("never restarted in place", TRAIN, put("RESTART_POLICY_ON_FAILURE", "custom", "workerReplicas", "restartPolicy")),
    ("grace", TRAIN, drop(*POD, "terminationGracePeriodSeconds")),
    ("labels for policies", TRAIN, drop("k8sPod", "metadata", "labels")),
    ("job", TRAIN, put("python-task", "type")),
    ("name of the container", TRAIN, put("python-task", "type")),
    ("all nodes or none", TRAIN, put(1, "custom", "elasticConfig", "minReplicas")),
    ("all nodes or none", TRAIN, put(399, "custom", "workerReplicas", "replicas")),
    ("workers", TRAIN, put(1, "custom", "elasticConfig", "nprocPerNode")),
    ("clean pod policy", TRAIN, drop("custom", "runPolicy")),
    ("clean pod policy", TRAIN, drop("custom", "runPolicy", "cleanPodPolicy")),
    ("time to live", TRAIN, drop("custom", "runPolicy", "ttlSecondsAfterFinished")),
    ("NCCL's devices", TRAIN, no_variable("NCCL_IB_HCA")),
    ("NCCL's interface", TRAIN, no_variable("NCCL_SOCKET_IFNAME")),
    ("Gloo's interface", TRAIN, no_variable("GLOO_SOCKET_IFNAME")),
    ("NCCL heartbeat", TRAIN, no_variable("TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC")),
    ("flight recorder", TRAIN, no_variable("TORCH_NCCL_TRACE_BUFFER_SIZE")),
    ("flight recorder's dump", TRAIN, no_variable("TORCH_NCCL_DUMP_ON_TIMEOUT")),
    ("place of the dump", TRAIN, no_variable("TORCH_NCCL_DEBUG_INFO_TEMP_FILE")),
    ("threads", TRAIN, no_variable("OMP_NUM_THREADS")),
    ("one thread a process", PART, no_variable("OMP_NUM_THREADS")),
    ("no tokenizer threads", PART, no_variable("TOKENIZERS_PARALLELISM")),
    ("no telemetry of MLflow", PART, no_variable("MLFLOW_DISABLE_TELEMETRY")),
    ("no telemetry of Great Expectations", PART, no_variable("GX_ANALYTICS_ENABLED")),
]  # fmt: skip

#: By check: what is taken of the values, by its path below what both charts have (`_place`).
NODES, K8S = ("propeller", "node-config"), ("plugins", "k8s")
TAKEN_VALUES: list[tuple[str, tuple[str, ...]]] = [
    ("cpus", ("resources", "limits", "cpu")),
    ("memory", ("resources", "limits", "memory")),
    ("gpus", ("resources", "limits", "gpu")),
    ("job", ("tasks", "enabled-plugins", "pytorch")),
    ("job", ("tasks", "default-for-task-types", "pytorch")),
    ("retries of the system", (*NODES, "max-node-retries-system-failures")),
    ("no deadline of a node's execution", (*NODES, "default-deadlines", "node-execution-deadline")),
    ("no deadline of a node", (*NODES, "default-deadlines", "node-active-deadline")),
    ("parallelism", ("admin", "maxParallelism")),
    ("no quotas of Flyte's", ("quotas",)),
    ("patience with a registry", (*K8S, "image-pull-backoff-grace-period")),
    ("patience with a container", (*K8S, "create-container-error-grace-period")),
    ("finalizer", (*K8S, "inject-finalizer")),
    ("patience with the operator", ("plugins", "kf-operator", "timeout")),
]
PLACES = {
    "flyte-core": {
        "resources": ("configmap", "task_resource_defaults", "task_resources"),
        "tasks": ("configmap", "enabled_plugins", "tasks", "task-plugins"),
        "propeller": ("configmap", "core", "propeller"),
        "plugins": ("configmap", "k8s", "plugins"),
        "admin": ("configmap", "adminServer", "flyteadmin"),
        "quotas": ("cluster_resource_manager", "enabled"),
    },
    "flyte-binary": {
        "resources": ("configuration", "inline", "task_resources"),
        "tasks": ("enabled_plugins", "tasks", "task-plugins"),
        "propeller": ("configuration", "inline", "propeller"),
        "plugins": ("configuration", "inline", "plugins"),
        "admin": ("configuration", "inline", "flyteadmin"),
        "quotas": ("flyte-core-components", "admin", "disableClusterResourceManager"),
    },
}


def values_without(chart: str, path: tuple[str, ...]) -> dict[str, Any]:
    values: Any = our_values(chart)
    of = values
    *way, last = (*PLACES[chart][path[0]], *path[1:])
    for key in way:
        of = of[key]
    if isinstance(of, list):
        of.remove(last)
    else:
        del of[last]
    return values  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def full_size(everything: list[Effective]) -> Mapping[str, Effective]:
    """The tasks of k2_70b, on the first chart."""
    found = [e for e in everything if e.recipe.name == "k2_70b"]
    return {"map_make_parts" if "map_make_parts" in e.name else e.name: e for e in reversed(found)}


@pytest.mark.parametrize(("name", "task", "mutate"), TAKEN, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(TAKEN)])
def test_a_setting_that_is_missing_is_seen(
    full_size: Mapping[str, Effective], name: str, task: str, mutate: Mutation
) -> None:
    e, check = full_size[task], CHECKS[name]
    assert check.on(e) and passes(check, e)
    mutated = copy.deepcopy(dict(e.task))
    mutate(mutated)
    assert not passes(check, replace(e, task=mutated))


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(("name", "path"), TAKEN_VALUES, ids=["/".join(path) for _, path in TAKEN_VALUES])
def test_a_value_that_is_missing_is_seen(
    full_size: Mapping[str, Effective], name: str, path: tuple[str, ...], chart: str
) -> None:
    e, check = full_size[TRAIN], CHECKS[name]
    assert passes(check, e) and not passes(check, replace(e, on=platform(chart, values_without(chart, path))))


def test_a_short_rendezvous_is_seen(full_size: Mapping[str, Effective]) -> None:
    e, check = full_size[TRAIN], CHECKS["rendezvous"]
    short = {"pretrain": {"timeout": 900, "join_timeout": 900, "read_timeout": 900}}
    assert passes(check, e) and not passes(check, replace(e, waits=short))


def test_every_check_has_been_seen_to_fail() -> None:
    seen = {name for name, *_ in TAKEN} | {name for name, _ in TAKEN_VALUES} | {"rendezvous"}
    assert seen == CHECKS.keys()


def test_each_runs_on_the_image_that_has_what_it_imports(everything: list[Effective]) -> None:
    """Missing cells are found from checkpoints (torch) and graders' versions, so on the image of evaluations."""
    images = {e.name: e.container["image"].split("@")[0].rpartition("/")[2] for e in everything}
    matrix = {name: image for name, image in images.items() if name.startswith("evaluation.")}
    assert set(matrix.values()) == {"eval"} and len(matrix) == 3
    trained = {name: image for name, image in images.items() if name.startswith("training.")}
    assert set(trained.values()) == {images["steps.make_with_model"]} == {"train"}
    assert images["steps.evaluate"] == "eval" and images["steps.make"] == images["run.register"] == "data"


def test_pods_that_evaluate_may_make_a_sandbox_where_nodes_have_its_profile_and_others_may_not() -> None:
    import kubernetes_validate

    profile = "profiles/k2-sandbox.json"
    assert (ROOT / "infra" / "nodes" / Path(profile).name).exists()
    for pod in pods(load_recipe("k2_70b", {"cluster.sandbox_profile": profile})):
        made = template(pod)
        evaluates = pod.kind is Kind.EVALUATION
        spec = ApiClient().sanitize_for_serialization(made.pod_spec)
        held = spec["securityContext"]["seccompProfile"]
        assert held == ({"type": "Localhost", "localhostProfile": profile} if evaluates else {"type": "RuntimeDefault"})
        # By the field, and by the annotation for a Flyte whose release of Kubernetes' API does not have it.
        assert spec["securityContext"].get("appArmorProfile") == ({"type": "Unconfined"} if evaluates else None)
        annotation = {"container.apparmor.security.beta.kubernetes.io/primary": "unconfined"}
        assert (annotation.items() <= (made.annotations or {}).items()) == evaluates
        whole = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": spec | {"restartPolicy": "Never"},
        }
        kubernetes_validate.validate(whole, "1.37", strict=True)


def test_every_pod_reads_the_shared_disks_and_writes_to_none_of_them() -> None:
    import kubernetes_validate

    for pod in pods(load_recipe("k2_70b", {"cluster.claims": ["datasets=/data/evals", "corpora=/corpora"]})):
        spec = ApiClient().sanitize_for_serialization(template(pod).pod_spec)
        claims = {one["name"]: one["persistentVolumeClaim"] for one in spec["volumes"] if "emptyDir" not in one}
        mounts = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] in claims]
        found = {one["mountPath"]: (claims[one["name"]]["claimName"], one["readOnly"]) for one in mounts}
        assert found == {"/data/evals": ("datasets", True), "/corpora": ("corpora", True)}
        assert all(one["readOnly"] for one in claims.values())
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
        kubernetes_validate.validate(whole | {"spec": spec | {"restartPolicy": "Never"}}, "1.37", strict=True)


def test_pods_that_judge_get_the_judges_keys_from_the_secret_and_others_do_not() -> None:
    exam = {
        "name": "exam", "location": "s3://ours/exam.jsonl", "licence": "MIT", "check": "judge",
        "judge": "https://judge.example/v1#judge", "api_key_env": "EXAM_JUDGE_KEY",
    }  # fmt: skip
    judge = {"model": "judge", "url": "https://judge.example/v1", "api_key_env": "SAFETY_JUDGE_KEY"}
    changes = {f"safety.judge.{name}": value for name, value in judge.items()} | {"evaluation.benchmarks": [exam]}
    recipe = load_recipe("smoke", changes)
    for pod in pods(recipe):
        (container,) = template(pod).pod_spec.containers
        own = [one for one in container.env if one.name in ("EXAM_JUDGE_KEY", "SAFETY_JUDGE_KEY")]
        judges = pod.kind in (Kind.EVALUATION, Kind.WHOLE)
        assert [one.name for one in own] == (["EXAM_JUDGE_KEY", "SAFETY_JUDGE_KEY"] if judges else [])
        for one in own:
            ref = one.value_from.secret_key_ref
            assert one.value is None and (ref.name, ref.key) == (recipe.cluster.secret, one.name)
    assert judge_keys(load_recipe("smoke")) == ()


def test_pods_that_ask_a_teacher_get_its_key_from_the_secret() -> None:
    endpoint = {"base_url": "https://host/v1", "model": "m", "api_key_env": "TEACHER_KEY"}
    job = {"name": "t", "kind": "thinking", "count": 20, "teacher": "endpoint", "endpoint": endpoint}
    recipe = load_recipe("smoke", {"corpus.sources.+": {"name": "synth/t", "job": job}})
    named = {pod.kind for pod in pods(recipe) if "TEACHER_KEY" in pod.keys}
    assert named == {Kind.WHOLE}, "the step of the calls runs there, and the key is nobody else's"


def test_small_pods_get_the_addresses_of_webhooks_from_the_secret_and_others_do_not() -> None:
    changes = {"continual.notify.slack_env": "OUR_SLACK", "continual.notify.webhook_env": "OUR_HOOK"}
    recipe = load_recipe("smoke", changes)
    for pod in pods(recipe):
        (container,) = template(pod).pod_spec.containers
        own = {one.name: one for one in container.env if one.name in ("OUR_SLACK", "OUR_HOOK")}
        assert [*own] == (["OUR_HOOK", "OUR_SLACK"] if pod.kind is Kind.ASK else [])
        for name, one in own.items():
            ref = one.value_from.secret_key_ref
            assert one.value is None and (ref.name, ref.key, ref.optional) == (recipe.cluster.secret, name, True)
    assert notify_keys(load_recipe("smoke")) == ()


def test_who_tells_people_runs_in_a_pod_that_has_their_addresses(everything: list[Effective]) -> None:
    telling = {"enter_arrivals", "commit", "end_idle", "promote_held", "tell_failed", "tell_evaluation"}
    found = {e.name.partition(".")[2]: e for e in everything if e.name.startswith(("continual.", "champion."))}
    assert {"enter_arrivals", "end_idle", "tell_failed", "tell_evaluation"} <= found.keys()
    assert {e.kind for name, e in found.items() if name in telling} == {"ask"}


def test_both_charts_are_told_the_same() -> None:
    core, binary = (platform(chart, our_values(chart)) for chart in CHARTS)
    assert core == binary


def distinct(everything: list[Effective]) -> Iterator[Effective]:
    """Of tasks that differ in name and arguments alone, one."""
    seen = set()
    for e in everything:
        made = copy.deepcopy(e.made)
        for container in pod_spec(made)["containers"]:
            container["args"] = []
        if (text := json.dumps(made, sort_keys=True)) not in seen:
            seen.add(text)
            yield e


def pod_spec(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (
        made["spec"] if made["kind"] == "Pod" else made["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]
    )
    return found


def test_what_is_made_is_what_kubernetes_takes(everything: list[Effective]) -> None:
    """No field that the API or the operator does not know, and none of another type."""
    import kubernetes_validate

    schema = json.loads((ROOT / "infra" / "schemas" / "pytorchjob.json").read_text(encoding="utf-8"))
    job = Draft202012Validator(schema)
    kinds = set()
    for e in distinct(everything):
        kinds.add(e.made["kind"])
        if e.made["kind"] == "PyTorchJob":
            assert not [f"{e.name}: {error.json_path} {error.message:.200}" for error in job.iter_errors(e.made)]
        pod = {"apiVersion": "v1", "kind": "Pod", **e.pod, "metadata": {"name": "x", **e.pod["metadata"]}}
        kubernetes_validate.validate(pod, "1.37", strict=True)
    assert kinds == {"Pod", "PyTorchJob"}
    misspelled = copy.deepcopy(next(e.made for e in everything if e.made["kind"] == "PyTorchJob"))
    misspelled["spec"]["runPolicy"]["cleanPodsPolicy"] = "Running"
    assert [*job.iter_errors(misspelled)]


def test_no_accelerator_starts_before_the_store_was_asked(everything: list[Effective], by_recipe: dict) -> None:
    """A finished phase would otherwise start all its nodes only to find its checkpoint."""
    asks = {e.kind for e in everything if e.name == "steps.is_made"}
    assert asks == {"ask"}
    for name, found in by_recipe.items():
        for phase in load_recipe(name).phases:
            called = phase.name.replace("_", "-")
            assert found["nodes"][f"{called}-checkpoint-ask"]
            assert [n for n, before in found["nodes"].items() if before == [f"{called}-checkpoint-ask"]]


def test_a_map_over_any_number_of_parts_is_bounded(tmp_path: Path) -> None:
    """12.3T tokens are 384,000 parts of 128 MB."""
    from k2model.artifacts import Identity, Part, PartedStep, Store, shared_out
    from tasks.steps import MOST_ITEMS

    def parted(count: int) -> PartedStep:
        identity = Identity("corpus_raw", "1", {"count": count}, {})
        parts = [Part(f"train/prose/{index:06d}", "{}") for index in range(count)]
        return PartedStep(lambda: identity, lambda: parts, lambda part, folder: {}, lambda records, folder: {})

    assert MOST_ITEMS == 4_000
    store = Store.open(tmp_path)
    shares = shared_out(store, parted(3_840), 8, MOST_ITEMS // 100)
    assert len(set(shares)) == len(shares) == 40
    files = [*(tmp_path / "_listed" / "corpus_raw").glob("*/*.json")]
    listed = [name for file in files for name, _ in json.loads(file.read_text())]
    assert sorted(listed) == [f"train/prose/{index:06d}" for index in range(3_840)]
    assert len(shared_out(store, parted(17), 8, MOST_ITEMS)) == 3, "a pod's processes have a part each"
