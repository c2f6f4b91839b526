"""The matrix filled by Flyte on the store of a lifecycle: what is missing and nothing else, a checkpoint a pod."""

import json
import shutil
import subprocess
from pathlib import Path

from k2model.artifacts import Store
from tests.smoke import PYFLYTE, ROOT, environment


def filled(home: Path, **inputs: object) -> str:
    command = [str(PYFLYTE), "run", "workflows/evaluation.py", "fill_matrix"]
    command += [part for name, value in inputs.items() for part in (f"--{name}", json.dumps(value))]
    done = subprocess.run(command, cwd=ROOT, env=environment(home), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_only_missing_cells_are_measured_a_checkpoint_a_pod(finished, tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "store", tmp_path / "store")
    store = Store.open(tmp_path / "store")
    before = {record["identity"] for record in store.records("score")}
    (tmp_path / "exam.jsonl").write_text('{"prompt": "The capital of Peru is", "answer": "Lima"}\n')
    task = f"name: exam\nlocation: {tmp_path / 'exam.jsonl'}\nlicence: CC0-1.0\nmax_new_tokens: 4\n"
    (tmp_path / "exam.yaml").write_text(task)
    asked = {"tasks": ["loss/prose", str(tmp_path / "exam.yaml")], "checkpoints": ["mid_1", "sft"]}
    told = filled(tmp_path, **asked)
    added = [record for record in store.records("score") if record["identity"] not in before]
    assert [record["config"]["name"] for record in added] == ["exam", "exam"]  # losses were there
    assert "4 of 4 cells of 2 checkpoints measured, 2 checkpoints anew" in told
