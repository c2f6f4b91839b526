"""What Flyte would be given: each recipe's tasks, sized by its rows, without a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from k2model.versions import STEP_VERSIONS
from tasks._platform import TASK_VERSION
from tests.lifecycle import PHASES

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
get_serializable(entities, settings, full_lifecycle)
tasks = {}
for entity in entities.values():
    if isinstance(entity, TaskSpec):
        spec = MessageToDict(entity.to_flyte_idl())["template"]
        tasks[spec["id"]["name"].split(".")[-1]] = spec
print(json.dumps({"tasks": tasks, "heavy": [m for m in ("torch", "mlflow", "great_expectations", "deepspeed",
                                                          "transformers", "matplotlib") if m in sys.modules]}))
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
    spec = full_size["tasks"][phase]
    assert spec["type"] == "pytorch"
    assert spec["custom"]["workerReplicas"]["replicas"] == nodes
    assert spec["custom"]["elasticConfig"]["nprocPerNode"] == 8
    container = spec["k8sPod"]["podSpec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert container["resources"]["limits"]["rdma/ib"] == "8"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert container["image"] == "registry/train:1"


def test_laptop_phases_are_plain_single_node_tasks(laptop):
    for phase in PHASES:
        assert laptop["tasks"][phase]["type"] == "python-task"


def test_every_step_is_cached_and_what_watches_the_world_is_not(laptop):
    uncached = {name for name, spec in laptop["tasks"].items() if not spec["metadata"].get("discoverable")}
    parts = {name for name in uncached if name.startswith("map_make_one_")}  # the store knows them, and what is gone
    assert len(parts) == 1
    assert uncached - parts == {"resolve", "list_parts", "train_tokenizer", "register", "assemble", "summarize"}


def test_a_raised_version_of_a_step_reaches_the_cache_of_its_task_and_of_no_other(laptop):
    """Steps made in parts are cached by identity, which holds the version."""
    of_task = {
        "find_duplicates": "duplicates", "pack": "sequences", "validate_sequences": "sequences_checks",
        "export": "export", "evaluate": "scores", "report": "report", "release": "release",
        **dict.fromkeys(PHASES, "checkpoint"),
    }  # fmt: skip
    versions = {
        name: spec["metadata"]["discoveryVersion"]
        for name, spec in laptop["tasks"].items()
        if spec["metadata"].get("discoverable")
    }
    by_identity = {"gather_parts", "pass_gate", "publish_checked"}
    assert versions == {
        **{name: f"{TASK_VERSION}.{STEP_VERSIONS[step]}" for name, step in of_task.items()},
        **dict.fromkeys(by_identity, TASK_VERSION),
    }
    made_in_parts = {"corpus_raw", "raw_checks", "corpus_clean", "exact_links", "band_links", "corpus", "corpus_valid",
                     "tokens", "tokens_checks"}  # fmt: skip
    assert set(of_task.values()) | made_in_parts | {"tokenizer"} == set(STEP_VERSIONS)


def test_registering_imports_nothing_heavy(laptop):
    assert laptop["heavy"] == []
