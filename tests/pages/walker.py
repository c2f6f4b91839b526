"""Somebody who knows MLflow's public API and nothing else: no store, no recipe, none of this project's modules.

python -m tests.pages.walker sqlite:///outputs/mlflow.db k2-laptop
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

NOTE, PARENT = "mlflow.note.content", "mlflow.parentRunId"


class Walker:
    """Goes by links that MLflow has: from a version to its run, its parent's model, its lifecycle, and from dataset to
    the run that made it."""

    def __init__(self, uri: str, model: str, version: str = "") -> None:
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        found = self.client.get_registered_model(model)
        number = version or found.aliases["candidate"]
        self.model = found
        self.version: ModelVersion = self.client.get_model_version(model, str(number))
        self.run: Run = self.client.get_run(str(self.version.run_id))
        self.lifecycle: Run = self.client.get_run(self.run.data.tags[PARENT])

    def answers(self) -> dict[str, Any]:
        """The ten questions, and what MLflow says to each."""
        return {
            "which data": self.data(self.run),
            "from which sources": self.sources(),
            "which parent": self.parents(),
            "which settings": self.run.data.params,
            "how good": self.scores(),
            "beside whom": self.section(self.run.data.tags[NOTE], "How good"),
            "what was undone": self.section(self.version.description, "Undone on the way"),
            "who promoted it and why": self.section(self.version.description, "Promotion"),
            "how to make it again": self.again(),
            "what else belongs to it": self.family(),
        }

    def data(self, run: Run, context: str = "training") -> dict[str, float]:
        """Real shares by source of what a run was trained on."""
        [profile] = [
            json.loads(one.dataset.profile)
            for one in run.inputs.dataset_inputs
            if ("mlflow.data.context", context) in {(tag.key, tag.value) for tag in one.tags}
        ]
        return {name: one["share"] for name, one in profile["sources"].items()}

    def sources(self) -> dict[str, str]:
        """Name and place of every source that the model goes back to, through the runs that made each dataset."""
        found: dict[str, str] = {}
        left, seen = [self.run], set()
        while left:
            run = left.pop()
            if run.info.run_id in seen:
                continue
            seen.add(run.info.run_id)
            contexts = {
                tag.value for one in run.inputs.dataset_inputs for tag in one.tags if tag.key.endswith("context")
            }
            if contexts == {"output"}:  # made from nothing: what a job of synthesis wrote
                [one] = run.inputs.dataset_inputs
                found[one.dataset.name] = json.loads(one.dataset.source)["uri"]
            for one in run.inputs.dataset_inputs:
                tags = {tag.key: tag.value for tag in one.tags}
                context = tags["mlflow.data.context"]
                if context == "source":
                    found[one.dataset.name] = tags["k2.uri"]
                elif context not in ("output", "safety"):
                    left.append(self.maker(one.dataset.name, one.dataset.digest))
        return found

    def maker(self, name: str, digest: str) -> Run:
        """The run that a dataset came out of."""
        asked = f"dataset.name = '{name}' AND dataset.digest = '{digest}' AND dataset.context = 'output'"
        runs = self.client.search_runs([self.run.info.experiment_id], asked)
        made = [
            run
            for run in runs
            for one in run.inputs.dataset_inputs
            if (one.dataset.name, one.dataset.digest) == (name, digest)
            and ("mlflow.data.context", "output") in {(tag.key, tag.value) for tag in one.tags}
        ]
        [run] = {one.info.run_id: one for one in made}.values()
        return run

    def parents(self) -> list[str]:
        """Names of the runs whose models it descends from, the nearest first."""
        names, run = [], self.run
        while run.inputs.model_inputs:
            [parent] = run.inputs.model_inputs
            run = self.client.get_run(self.client.get_logged_model(parent.model_id).source_run_id)
            names.append(run.info.run_name)
        return names

    def scores(self) -> dict[str, tuple[float, str]]:
        """Value, and the dataset that it is on, of every score of its logged model."""
        [output] = self.run.outputs.model_outputs
        metrics = self.client.get_logged_model(output.model_id).metrics or []
        return {one.key: (one.value, one.dataset_name) for one in metrics if one.key.startswith("score/")}

    def again(self) -> dict[str, str]:
        """Commit, what was called, and the recipe as Python."""
        with tempfile.TemporaryDirectory() as folder:
            file = self.client.download_artifacts(self.lifecycle.info.run_id, "recipe.py", folder)
            recipe = Path(file).read_text()
        tags = self.run.data.tags
        return {
            "commit": tags.get("mlflow.source.git.commit", ""), "called": tags["mlflow.source.name"],
            "by": tags["mlflow.user"], "recipe": recipe,
        }  # fmt: skip

    def family(self) -> dict[str, list[str]]:
        """Names of the runs nested in its lifecycle, and paths of the lifecycle's files."""
        nested = self.client.search_runs(
            [self.run.info.experiment_id], f"tags.`{PARENT}` = '{self.lifecycle.info.run_id}'"
        )
        return {"runs": sorted(run.info.run_name for run in nested), "files": sorted(self.files(""))}

    def files(self, folder: str) -> list[str]:
        found: list[str] = []
        for one in self.client.list_artifacts(self.lifecycle.info.run_id, folder or None):
            found += self.files(one.path) if one.is_dir else [one.path]
        return found

    @staticmethod
    def section(page: str, title: str) -> str:
        found = re.search(rf"(?ms)^### {title}\n(.*?)(?=^### |\Z)", page)
        return found[1].strip() if found else ""


def differing(client: MlflowClient, first: str, second: str) -> dict[str, tuple[str | None, str | None]]:
    """The parameters in which two runs differ, as MLflow's compare view shows them."""
    one, other = (client.get_run(run).data.params for run in (first, second))
    names = sorted(one.keys() | other.keys())
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


if __name__ == "__main__":
    print(json.dumps(Walker(*sys.argv[1:]).answers(), indent=1, ensure_ascii=False))
