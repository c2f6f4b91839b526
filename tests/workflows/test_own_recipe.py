"""docs/own_recipe.md, followed to the letter in a folder that looks like the project's: own text and chats, phases of
other names, a branch added by a row, what a cluster is given."""

import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest
from flyteidl.admin import task_pb2
from google.protobuf.json_format import MessageToDict

from k2model.recipe import load_recipe
from tests.smoke import ROOT, environment, made

POD = """
import dataclasses, json
from flytekit.core.python_auto_container import default_task_resolver
import k2model
from tasks import _platform

task = default_task_resolver.load_task(["task-module", "tasks.training", "task-name", "train_flower"])
print(json.dumps({"recipe": dataclasses.asdict(_platform.RECIPE), "task": task.name, "code": k2model.__file__}))
"""
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Followed(NamedTuple):
    home: Path
    said: dict[str, str]  # what a block printed, by the block


def project(home: Path) -> Path:
    """The project as after `make setup`: its files, and an environment that need not be made."""
    for name in ("Makefile", "infra", "k2model", "tasks", "workflows", "pyproject.toml", "requirements.lock"):
        (home / name).symlink_to(ROOT / name)
    (home / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if not entry.name.startswith("."):
            (home / ".venv" / entry.name).symlink_to(entry)
    (home / ".venv" / ".ready").touch()
    return home


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    home = project(tmp_path_factory.mktemp("garden"))
    own = environment(home) | {"PATH": "/usr/bin:/bin", "K2_HOME": str(home / "outputs"), "PYTHONPATH": str(home)}
    own["MLFLOW_TRACKING_URI"] = own["K2_RECIPE"] = ""
    said = {}
    for language, block in BLOCK.findall((ROOT / "docs" / "own_recipe.md").read_text()):
        if language == "python":
            file = block.splitlines()[0].removeprefix("# ")
            (home / file).write_text(block)
            continue
        block = block.replace("/tmp/", f"{home}/")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=home, env=own, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        said[block] = done.stdout + done.stderr
    return Followed(home, said)


def told(followed: Followed, command: str) -> str:
    (found,) = (text for block, text in followed.said.items() if command in block)
    return found


def test_every_phase_is_trained_scored_and_registered_by_its_own_name(followed):
    trained = [r["config"]["phase"] for r in made(followed.home / "outputs").values() if r["step"] == "checkpoint"]
    assert sorted((phase["name"], phase["parent"]) for phase in trained) == [
        ("flower", "graft"), ("fruit", "graft"), ("graft", "roots"), ("roots", ""),
    ]  # fmt: skip
    assert "promotion none" in told(followed, "make lifecycle")
    from mlflow import MlflowClient

    versions = MlflowClient(f"sqlite:///{followed.home / 'outputs/mlflow.db'}").search_model_versions(
        "name='k2-garden'"
    )
    assert {version.tags["k2.phase"] for version in versions} == {"flower", "fruit", "graft", "roots"}


def test_report_and_release_tell_of_the_phases_there_are(followed):
    pages = (followed.home / "outputs/store/report").glob("*/attachments/index.html")
    html = max(pages, key=lambda page: page.stat().st_mtime).read_text()
    assert "fruit" in html and "quiz" in html.lower() and "mid_1" not in html and "notes" in html
    for card in (followed.home / "outputs/store/release").glob("*/MODEL_CARD.md"):
        assert "flower" in card.read_text() and "pretrain" not in card.read_text().replace("from_pretrained", "")


class Package(NamedTuple):
    tasks: dict[str, dict[str, str]]  # the environment of each
    code: Path  # as it is unpacked in a pod


@pytest.fixture(scope="module")
def packaged(followed, tmp_path_factory) -> Package:
    home = tmp_path_factory.mktemp("pod")
    with tarfile.open(followed.home / "outputs" / "workflows-garden.tgz") as archive:
        archive.extractall(home, filter="data")
    (code,) = home.glob("fast*.tar.gz")
    with tarfile.open(code) as archive:
        archive.extractall(home / "code", filter="data")
    specs = [task_pb2.TaskSpec.FromString(path.read_bytes()).template for path in home.glob("*_1.pb")]
    pods = {spec.id.name: MessageToDict(spec.k8s_pod)["podSpec"]["containers"][0]["env"] for spec in specs}
    tasks = {name: {one["name"]: one.get("value", "") for one in variables} for name, variables in pods.items()}
    return Package(tasks, home / "code")


def in_pod(packaged: Package) -> subprocess.CompletedProcess[str]:
    """A process with what is unpacked and with the environment of a task of the package, and nothing else."""
    own = {"PYTHONPATH": str(packaged.code), "PATH": os.environ["PATH"], "HOME": str(packaged.code)}
    told = packaged.tasks["tasks.training.train_flower"]
    own |= {name: value for name, value in told.items() if name.startswith(("K2_RECIPE", "K2_OVERRIDES"))}
    return subprocess.run([sys.executable, "-c", POD], cwd="/", env=own, capture_output=True, text=True, check=False)


def test_a_pod_has_the_recipe_and_the_code_of_the_package_alone(followed, packaged):
    for told in packaged.tasks.values():
        assert told["K2_RECIPE"] == "own_recipe:garden" and {"K2_OVERRIDES", "K2_RECIPE_DIGEST"} < told.keys()
        assert told["K2_STORE"] == "s3://bucket/store" and told["MLFLOW_TRACKING_URI"].startswith("http://mlflow")
    there_is = json.loads(in_pod(packaged).stdout)
    there = {f"corpus.sources.{name}.location": f"s3://bucket/{name}.jsonl" for name in ("notes", "talks")}
    there["evaluation.benchmarks.quiz.location"] = "s3://bucket/quiz.jsonl"
    garden = load_recipe(str(followed.home / "own" / "garden.py"), there)
    assert there_is["recipe"] == json.loads(json.dumps(asdict(garden)))
    assert there_is["task"] == "tasks.training.train_flower" and there_is["code"].startswith(str(packaged.code))
    on_board = {str(file.relative_to(packaged.code)) for file in packaged.code.rglob("*") if file.is_file()}
    assert {"own_recipe.py", "k2model/recipe/k2_data/pretrain_mixture.csv", "workflows/lifecycle.py"} <= on_board
    assert not [file for file in on_board if file.startswith(("tests", "outputs", "own/"))]


def test_a_recipe_that_has_changed_since_is_an_error_of_the_pod(packaged):
    file = packaged.code / "own_recipe.py"
    before = file.read_text()
    file.write_text(before.replace("4e-3", "5e-3"))
    done = in_pod(packaged)
    file.write_text(before)
    assert done.returncode == 1
    assert "RecipeChanged: recipe 'own_recipe:garden' is not what was registered" in done.stderr
