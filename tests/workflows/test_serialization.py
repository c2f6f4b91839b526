"""What Flyte would be given: each recipe's tasks, sized by its rows, without a cluster."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = ("k2_70b", "laptop", "k2_8b", "k2_1b")
PHASES = ("pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft")

SERIALIZE = """
import json, sys
from collections import OrderedDict
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable
from flytekit.models.task import TaskSpec
from google.protobuf.json_format import MessageToDict
from workflows.evaluation import SCHEDULED, fill_matrix
from workflows.lifecycle import full_lifecycle

images = [Image(name, f"registry/{name}", "1") for name in ("data", "train", "eval")]
settings = SerializationSettings(image_config=ImageConfig(default_image=images[0], images=images))
entities = OrderedDict()
workflow = get_serializable(entities, settings, full_lifecycle)
nodes = {node.id: node.upstream_node_ids for node in workflow.template.nodes}
filled = get_serializable(entities, settings, fill_matrix).template.nodes
matrix = {node.id: node.upstream_node_ids for node in filled}
plan = SCHEDULED and get_serializable(entities, settings, SCHEDULED)
plan = plan and MessageToDict(plan.to_flyte_idl()) | {"active": plan.should_auto_activate}
tasks = {}
for entity in entities.values():
    if isinstance(entity, TaskSpec):
        spec = MessageToDict(entity.to_flyte_idl())["template"]
        tasks[spec["id"]["name"].split(".")[-1]] = spec
heavy = ("torch", "mlflow", "great_expectations", "deepspeed", "transformers", "matplotlib")
found = [m for m in heavy if m in sys.modules]
print(json.dumps({"tasks": tasks, "nodes": nodes, "matrix": matrix, "plan": plan, "heavy": found}))
"""

#: A table with a gate and a step that nobody else knows of.
LONGER_TABLE = """
import json, sys
from k2model.artifacts import Identity, Step
from k2model.lifecycle import steps

def build(name):
    return lambda work: Step(Identity(name, "1", {}, dict(work.inputs)), lambda folder: {})

steps.DATA += (
    steps.StepRow("more_checks", ("tokens",), build("more_checks"), guards="tokens"),
    steps.StepRow("counted", ("tokens",), build("counted")),
)
steps.PHASE += (steps.StepRow("sizes", ("counted", "checkpoint", "parent.sizes"), build("sizes")),)

from click.testing import CliRunner
from k2model.cli.main import main
from workflows.data import prepare_data
from workflows.lifecycle import full_lifecycle

told = lambda node, name: next(
    (b.binding.scalar.primitive.string_value for b in node.bindings if b.var == name and b.binding.scalar), "")
called = lambda node: "/".join(part for part in (told(node, "phase"), told(node, "step")) if part)
above = lambda nodes: {called(node): [called(up) for up in node.upstream_nodes] for node in nodes}
plan = CliRunner().invoke(main, ["plan", "smoke", "--json", "--store", sys.argv[1]], catch_exceptions=False)
print(json.dumps({"lifecycle": above(full_lifecycle.nodes), "data": above(prepare_data.nodes),
                  "plan": [row["step"] for row in json.loads(plan.output)["steps"]]}))
"""


#: Five stages of mid-training, and a second fine-tuning from the same parent.
MORE_PHASES = {
    "phases.mid_4.+": {"like": "mid_4", "name": "mid_5", "parent": "mid_4"},
    "phases.sft.parent": "mid_5",
    "continual.base": "mid_5",
    "phases.+": {"like": "sft", "name": "sft_b", "seed": 3},
}


#: The matrix by itself.
FILLED = {"evaluation.matrix_schedule": "0 */6 * * *", "evaluation.matrix_tasks": ["k2_base"]}


def serialized(recipe: str, overrides: dict | None = None) -> dict:
    return said(SERIALIZE, recipe, overrides=overrides)


def said(script: str, recipe: str, *arguments: str, overrides: dict | None = None) -> dict:
    environment = os.environ | {"K2_RECIPE": recipe, "K2_OVERRIDES": json.dumps(overrides or {})}
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def by_recipe() -> dict[str, dict]:
    """Each takes a process of its own, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(RECIPES, pool.map(serialized, RECIPES, (FILLED, *[None] * 3)), strict=True))


@pytest.fixture
def full_size(by_recipe) -> dict:
    return by_recipe["k2_70b"]


@pytest.fixture
def laptop(by_recipe) -> dict:
    return by_recipe["laptop"]


@pytest.mark.parametrize(
    ("phase", "nodes"), [("pretrain", 400), ("mid_1", 400), ("mid_2", 200), ("mid_3", 200), ("mid_4", 200), ("sft", 64)]
)
def test_full_size_phases_are_pytorch_jobs_of_their_rows_size(full_size, phase, nodes):
    spec = full_size["tasks"][f"train_{phase}"]
    assert spec["type"] == "pytorch"
    assert spec["custom"]["workerReplicas"]["replicas"] == nodes
    assert spec["custom"]["elasticConfig"]["nprocPerNode"] == 8
    container = spec["k8sPod"]["podSpec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert container["resources"]["limits"]["rdma/ib"] == "8"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert container["image"] == "registry/train:1"


@pytest.mark.parametrize("phase", PHASES)
def test_smaller_sizes_are_jobs_of_eight_nodes_and_of_one_without_a_network(by_recipe, phase):
    eight, one = (by_recipe[name]["tasks"][f"train_{phase}"] for name in ("k2_8b", "k2_1b"))
    assert (eight["type"], eight["custom"]["workerReplicas"]["replicas"]) == ("pytorch", 8)
    assert one["type"] == "python-task"
    limits = one["k8sPod"]["podSpec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "8" and "rdma/ib" not in limits


def test_laptop_phases_are_plain_single_node_tasks(laptop):
    for phase in PHASES:
        assert laptop["tasks"][f"train_{phase}"]["type"] == "python-task"


def test_any_phases_are_tasks_that_wait_for_their_parents():
    found = serialized("smoke", MORE_PHASES)
    assert {"train_mid_5", "train_sft_b"} <= found["tasks"].keys()
    parents = {phase: found["nodes"][f"{phase}-checkpoint-ask"] for phase in ("mid-5", "sft", "sft-b")}
    above = {phase: set(nodes) - {f"{phase}-sequences-checks"} for phase, nodes in parents.items()}
    assert above["sft"] == above["sft-b"] != above["mid-5"]


def test_the_store_is_the_only_cache(laptop):
    assert not [name for name, spec in laptop["tasks"].items() if spec["metadata"].get("discoverable")]


def test_nodes_are_called_as_their_steps_and_accelerators_wait_for_the_store(laptop):
    nodes = laptop["nodes"]
    assert {"corpus-raw-list", "corpus-raw-parts", "corpus-raw", "tokenizer", "mid-1-sequences", "sft-export"} <= set(
        nodes
    )
    asked = set(nodes["mid-1-checkpoint-ask"])
    assert {"mid-1-sequences-checks"} < asked, "the rows that have passed their gate, and the parent's weights"
    jobs = [node for node, waits_for in nodes.items() if waits_for == ["mid-1-checkpoint-ask"]]
    assert len(jobs) == 1 and set(jobs) < set(nodes["mid-1-export"])


def test_the_matrix_is_filled_by_a_map_over_checkpoints_that_lack_something(full_size):
    matrix = full_size["matrix"]
    (first,) = (node for node, waits_for in matrix.items() if not waits_for)
    (listed,) = set(matrix["checkpoints"]) - {first}
    assert matrix[listed] == [first] and [node for node, waits_for in matrix.items() if "checkpoints" in waits_for]
    (mapped,) = (name for name in full_size["tasks"] if name.startswith("map_measure"))
    measured = full_size["tasks"][mapped]["k8sPod"]["podSpec"]["containers"][0]
    assert measured["image"] == full_size["tasks"]["list_missing"]["k8sPod"]["podSpec"]["containers"][0]["image"]
    assert measured["resources"]["limits"]["nvidia.com/gpu"] == "8" and "rdma/ib" not in measured["resources"]["limits"]


def test_the_matrix_is_filled_by_itself_where_a_recipe_says_when(full_size, laptop):
    assert laptop["plan"] is None
    plan = full_size["plan"]
    assert plan["active"] and plan["spec"]["entityMetadata"]["schedule"]["cronSchedule"]["schedule"] == "0 */6 * * *"
    inputs = plan["spec"]["fixedInputs"]["literals"]
    asked = [one["scalar"]["primitive"]["stringValue"] for one in inputs["tasks"]["collection"]["literals"]]
    assert asked == ["k2_base"] and {*inputs} == {"tasks", "checkpoints", "overrides"}
    assert plan["spec"]["concurrencyPolicy"]["max"] == 1


def test_safety_tests_are_asked_on_the_nodes_of_evaluations_and_judged_without_one(laptop):
    nodes = laptop["nodes"]
    asked = set(nodes["sft-safety-answers-ask"])
    jobs = [node for node, waits_for in nodes.items() if waits_for == ["sft-safety-answers-ask"]]
    assert "sft-export" in asked and set(jobs) < set(nodes["sft-safety"])
    assert set(nodes["evaluation-items"]) and "overlap" in nodes["sft-items-seen"]


def test_registering_imports_nothing_heavy(laptop):
    assert laptop["heavy"] == []


def test_a_row_of_the_table_is_in_the_workflows_and_in_the_plan(tmp_path):
    found = said(LONGER_TABLE, "smoke", str(tmp_path / "store"))
    for dag in ("lifecycle", "data"):
        assert {"more_checks", "counted"} <= found[dag].keys()
        assert "more_checks" in found[dag]["counted"], "what follows a gate waits for it"
    assert "more_checks" in found["lifecycle"]["pretrain/sequences"]
    assert {"counted", "pretrain/sizes"} <= set(found["lifecycle"]["mid_1/sizes"])
    new = ["more_checks", "counted", "pretrain/sizes", "mid_1/sizes"]
    assert [step for step in found["plan"] if step in new] == new
