"""The matrix filled by Flyte on the store of a lifecycle: what is missing and nothing else, a checkpoint a pod."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from k2model.artifacts import Store
from tests.smoke import PYFLYTE, ROOT, environment

#: What the image of data has not, blocked, while everything that runs there is made once more of a finished lifecycle.
ON_DATA_IMAGE = """
import sys, tempfile
from importlib.machinery import PathFinder
from pathlib import Path

class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise ImportError(f"the image of data has no {name}")

sys.meta_path.insert(0, Absent)
from k2model.artifacts import Store
from k2model.lifecycle import steps
from k2model.lifecycle.plan import known_artifacts
from k2model.recipe import load_recipe

store, recipe = Store.open(sys.argv[1]), load_recipe("smoke")
made = known_artifacts(store, recipe).made
wanted = ("evaluation_items", "overlap", "items_seen", "safety", "report")
for row, owner in steps.rows(recipe):
    if row.runs_on is steps.RunsOn.DATA and row.name in wanted:
        step = row.build(steps.Work(store, recipe, owner, steps.inputs_of(row, owner, made)))
        assert step.identity.key
        if not row.parted:
            with tempfile.TemporaryDirectory() as folder:
                step.produce(Path(folder))
        print(steps.full_name(row, owner))
"""
ABSENT = ("torch", "deepspeed", "lm_eval", "datasets", "math_verify", "latex2sympy2_extended", "pyseccomp")


def test_what_runs_on_the_image_of_data_imports_nothing_that_it_has_not(finished, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ON_DATA_IMAGE, str(finished[0] / "store"), ",".join(ABSENT)]
    told = environment(tmp_path) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert {"evaluation_items", "overlap", "sft/items_seen", "mid_4/safety", "report"} <= set(done.stdout.split())


def filled(home: Path, code: int = 0, **inputs: object) -> str:
    """What is told, on both streams. code: the exit status that is expected."""
    command = [str(PYFLYTE), "run", "workflows/evaluation.py", "fill_matrix"]
    command += [part for name, value in inputs.items() for part in (f"--{name}", json.dumps(value))]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=900)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_only_missing_cells_are_measured_a_checkpoint_a_pod(finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "store", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    before = {record["identity"] for record in store.records("score")}
    (tmp_path / "exam.jsonl").write_text('{"prompt": "The capital of Peru is", "answer": "Lima"}\n')
    task = f"name: exam\nlocation: {tmp_path / 'exam.jsonl'}\nlicence: CC0-1.0\nmax_new_tokens: 4\n"
    (tmp_path / "exam.yaml").write_text(task)
    asked = {"tasks": ["loss/prose", str(tmp_path / "exam.yaml")], "checkpoints": ["mid_1", "sft"]}
    told = filled(tmp_path, 1, **asked | {"tasks": ["needle/16", *asked["tasks"]]})
    added = [record for record in store.records("score") if record["identity"] not in before]
    assert [record["config"]["name"] for record in added] == ["exam", "exam"]  # losses were there
    assert "4 of 6 cells of 2 checkpoints measured, 2 checkpoints anew" in told
    for one in asked["checkpoints"]:  # each is told, and keeps no other task and no other checkpoint
        assert f"{one} needle/16: EvaluationError: 'needle' at 16" in told
    assert "4 of 4 cells of 2 checkpoints measured, 0 checkpoints anew" in filled(tmp_path, **asked)
