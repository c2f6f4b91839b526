"""What Flyte would be given: each recipe's tasks, sized by its rows, without a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SERIALIZE = """
import json, sys
from collections import OrderedDict
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.tools.translator import get_serializable
from flytekit.models.task import TaskSpec
from google.protobuf.json_format import MessageToDict
from workflows.lifecycle import full_lifecycle

images = [Image(name, f"registry/{name}", "1") for name in ("data", "train")]
settings = SerializationSettings(image_config=ImageConfig(default_image=images[0], images=images))
entities = OrderedDict()
workflow = get_serializable(entities, settings, full_lifecycle)
nodes = {node.id: node.upstream_node_ids for node in workflow.template.nodes}
tasks = {}
for entity in entities.values():
    if isinstance(entity, TaskSpec):
        spec = MessageToDict(entity.to_flyte_idl())["template"]
        tasks[spec["id"]["name"].split(".")[-1]] = spec
heavy = ("torch", "mlflow", "great_expectations", "deepspeed", "transformers", "matplotlib")
print(json.dumps({"tasks": tasks, "nodes": nodes, "heavy": [m for m in heavy if m in sys.modules]}))
"""


def serialized(recipe: str) -> dict:
    environment = os.environ | {"K2_RECIPE": recipe}
    result = subprocess.run(
        [sys.executable, "-c", SERIALIZE], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def full_size() -> dict:
    return serialized("k2_70b")


@pytest.fixture(scope="module")
def laptop() -> dict:
    return serialized("laptop")


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


def test_laptop_phases_are_plain_single_node_tasks(laptop):
    for phase in ("pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft"):
        assert laptop["tasks"][f"train_{phase}"]["type"] == "python-task"


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


def test_registering_imports_nothing_heavy(laptop):
    assert laptop["heavy"] == []
