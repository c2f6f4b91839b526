"""Every task of every recipe as Flyte would run it: serialized, then joined with our Helm values (`flyte_rules`)."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from k2model.recipe import Recipe, recipe_digest
from tests.smoke import ROOT
from tests.tasks.flyte_rules import Platform, made_of, pod_of

#: What whoever packages has in the environment.
SETTINGS = {
    "K2_STORE": "s3://k2/store",
    "MLFLOW_TRACKING_URI": "http://mlflow.k2-services.svc.cluster.local:5000",
    "AWS_ENDPOINT_URL": "http://s3.storage.svc:8333",
    "AWS_REGION": "us-east-1",
    "K2_EVAL_DATA": "/data/evals",
}
DIGEST = "sha256:" + "0123456789abcdef" * 4

#: One process for all recipes, which a recipe must be chosen for before the tasks are imported: each in a fork of what
#: has imported all else. Writes `RECIPE.json` for each into the folder it is told.
SERIALIZE = """
import functools, json, os, sys
from collections import OrderedDict
from pathlib import Path
import flytekitplugins.kfpytorch
import k2model.continual.candidate, k2model.lifecycle.steps, k2model.registry, k2model.reporting
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.models.task import TaskSpec
from flytekit.tools.translator import get_serializable
from google.protobuf.json_format import MessageToDict
from flytekit.core.type_engine import TypeEngine
from k2model.lifecycle import LifecyclePlan

# The schema of a recipe's type is the same for all of them, and takes seconds.
plain = TypeEngine._DATACLASS_TRANSFORMER
plain.get_literal_type = functools.cache(plain.get_literal_type)
TypeEngine.to_literal_type(LifecyclePlan)

def serialize(recipe, digest):
    os.environ["K2_RECIPE"] = recipe
    from k2model.settings import handed_on
    from tasks._platform import RECIPE
    from tasks.package import chosen_in_pods
    from tasks.training import TRAIN_TASKS
    from workflows import continual
    from workflows.evaluation import fill_matrix
    from workflows.lifecycle import full_lifecycle

    images = [Image(name, f"registry.example/k2/{name}", digest=digest) for name in ("data", "train", "eval")]
    settings = SerializationSettings(
        image_config=ImageConfig(default_image=images[0], images=images),
        env=chosen_in_pods(RECIPE, recipe) | handed_on(),
    )
    entities = OrderedDict()
    workflow = get_serializable(entities, settings, full_lifecycle)
    get_serializable(entities, settings, fill_matrix)
    for name in ("continual_arrivals", "continual_turn", "champion_evaluation", "release_candidate"):
        get_serializable(entities, settings, getattr(continual, name))
    tasks = {}
    for entity in entities.values():
        if isinstance(entity, TaskSpec):
            spec = MessageToDict(entity.to_flyte_idl())["template"]
            spec.pop("interface")
            tasks[spec["id"]["name"].removeprefix("tasks.")] = spec
    waits = {name: task.task_config.rdzv_configs for name, task in TRAIN_TASKS.items()}
    nodes = {node.id: node.upstream_node_ids for node in workflow.template.nodes}
    return {"tasks": tasks, "waits": waits, "nodes": nodes}

folder, digest, *recipes = sys.argv[1:]
children = {}
for recipe in recipes:
    child = os.fork()
    if child == 0:
        Path(folder, f"{recipe}.json").write_text(json.dumps(serialize(recipe, digest)))
        os._exit(0)
    children[child] = recipe
    if len(children) == 2:
        children.pop(os.wait()[0])
while children:
    children.pop(os.wait()[0])
"""


def serialized(folder: Path, recipes: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """By recipe: `tasks` by name (JSON of `TaskTemplate`), `waits` (rendezvous by phase), `nodes` with those before."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "AWS_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-c", SERIALIZE, str(folder), DIGEST, *recipes],
        cwd=ROOT,
        env=kept | SETTINGS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and len([*folder.glob("*.json")]) == len(recipes), done.stderr
    return {recipe: json.loads((folder / f"{recipe}.json").read_text()) for recipe in recipes}


@dataclass(frozen=True)
class Effective:
    """A task with what it is run as: `made` is a Pod or a PyTorchJob."""

    name: str
    recipe: Recipe
    task: Mapping[str, Any]
    on: Platform
    kind: str  # of the pod, as it was meant
    digest: str  # of the recipe
    waits: Mapping[str, Any]  # rendezvous by phase

    @cached_property
    def made(self) -> dict[str, Any]:
        return made_of(self.task, self.on)

    @property
    def pod(self) -> dict[str, Any]:
        return pod_of(self.made)

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.pod["spec"]
        return spec

    @property
    def container(self) -> dict[str, Any]:
        (only,) = self.spec["containers"]
        return dict(only)

    @property
    def environment(self) -> dict[str, str]:
        """Plain variables; of two of one name the last holds."""
        return {one["name"]: one["value"] for one in self.container["env"] if "value" in one}

    def gets(self, resource: str) -> str:
        """Of a resource: its limit, when that is its request too; "" otherwise."""
        given = self.container["resources"]
        limit = given["limits"].get(resource, "")
        return limit if given["requests"].get(resource) == limit else ""

    @property
    def nodes(self) -> int:
        return self.recipe.phase(self.phase).parallelism.nodes if self.phase else 1

    @property
    def phase(self) -> str:
        return self.name.partition("train_")[2]

    def mounted(self, path: str) -> dict[str, Any] | None:
        """The volume that `path` lies on; None where it is the image's."""
        for mount in self.container.get("volumeMounts", []):
            if path == mount["mountPath"] or path.startswith(mount["mountPath"] + "/"):
                found = [one for one in self.spec.get("volumes", []) if one["name"] == mount["name"]]
                return found[0] if found else None
        return None


def kind_of(task: Mapping[str, Any]) -> str:
    return str(task["k8sPod"]["metadata"]["labels"]["app.kubernetes.io/component"])


def all_effective(found: Mapping[str, Any], recipe: Recipe, on: Platform) -> Iterator[Effective]:
    digest = recipe_digest(recipe)
    for name, task in found["tasks"].items():
        yield Effective(name, recipe, task, on, kind_of(task), digest, found["waits"])
