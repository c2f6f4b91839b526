"""The whole DAG, run as a user runs it, with the `smoke` recipe: every part is the real one."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.pages.walker import Walker, differing
from tests.smoke import CANARY, PHASES, PYFLYTE, ROOT, command, environment, lifecycle, losses, made


def test_ends_with_the_scores_and_the_places_of_what_it_made(finished):
    home, result = finished
    assert "Scores per phase" in result.stdout and "ERROR" not in result.stderr
    places = dict(
        line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith(("report ", "release "))
    )
    page = Path(places["report"]).read_text(encoding="utf-8")
    assert "<html" in page and "mid_4" in page
    assert (Path(places["release"]) / "model" / "model.safetensors").is_file()
    assert (home / "mlflow.db").is_file()


def test_a_secret_of_the_tracking_uri_is_nowhere(finished):
    home, result = finished
    assert f"tracking  sqlite:///{home / 'mlflow.db'}?password=***" in result.stdout
    files = [path for path in home.rglob("*") if path.is_file()]
    places = {path.relative_to(home).parts[0] for path in files}
    assert places >= {"store", "mlflow.db", "decks"}
    assert not list((home / "tmp").iterdir()), "nothing temporary is left"
    assert not [path for path in files if CANARY.encode() in path.read_bytes() or CANARY in str(path)]
    assert CANARY not in result.stdout + result.stderr
    shown = result.watch.commands
    assert shown and not [command for command in shown if CANARY in command]


def test_no_process_of_a_run_listens_beyond_the_loopback_interface(finished):
    _, result = finished
    assert result.watch.addresses, "workers that train together do listen"
    assert result.watch.addresses <= {"127.0.0.1", "::1"}


def test_a_source_whose_address_holds_a_secret_is_refused_and_told_nowhere(tmp_path):
    source = {"name": "web", "location": f"https://user:{CANARY}@data.example/rows.jsonl?sig={CANARY}"}
    result = lifecycle(tmp_path, {"corpus.sources.+": source})
    said = result.stdout + result.stderr
    assert result.returncode != 0 and CANARY not in said and "data.example" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_every_phase_is_trained_scored_and_registered_with_its_parent(finished):
    home, _ = finished
    records = made(home)
    trained = {records[name]["config"]["phase"]["name"]: len(curve) for name, curve in losses(home).items()}
    assert trained == dict.fromkeys(PHASES, 6)
    steps = [record["step"] for record in records.values() if record["step"] != "score"]  # a cell each, of every phase
    counted = {step: steps.count(step) for step in set(steps)}
    assert counted.pop("safety") in (1, 2), "one of equal answers, which six steps may give"
    assert counted == {
        "synthesis": 1, "corpus_raw": 1, "raw_checks": 1, "corpus_clean": 1, "signature_ranges": 1,
        "signature_matches": 1, "sketch_ranges": 1, "near_duplicate_pairs": 1, "duplicates": 1, "corpus": 1,
        "corpus_valid": 1, "tokenizer": 1, "tokens": 1, "tokens_checks": 1,
        "evaluation_items": 1, "overlap": 1, "sequences": 6, "sequences_checks": 6, "checkpoint": 6, "items_seen": 6,
        "export": 6, "scores": 6, "parity": 1, "safety_answers": 2, "report": 1, "release": 1,
    }  # fmt: skip
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    versions = client.search_model_versions("name='k2-smoke'")
    assert len(versions) == 6


def test_a_second_run_does_no_work(finished):
    home, _ = finished
    before = made(home)
    result = lifecycle(home)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "Scores per phase" in result.stdout
    assert made(home) == before
    assert "making" not in result.stderr and "step" not in result.stderr


def test_the_data_dag_finds_what_the_lifecycle_made(finished):
    home, _ = finished
    before = made(home)
    run = [str(PYFLYTE), "run", "workflows/data.py", "prepare_data"]
    result = subprocess.run(
        run, cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert made(home) == before and "making" not in result.stderr
    tokens = next(record for record in before.values() if record["step"] == "tokens")
    assert f"{tokens['stats']['tokens']:,.0f} tokens" in result.stdout


def fresh(home, before):
    """The steps of what was made since, but for the cells of scores, and for what is said of answers: models that have
    learned nothing may give the same."""
    made_now = sorted(name.split("/")[0] for name in set(made(home)) - before)
    return [step for step in made_now if step not in ("score", "safety")]


def test_a_changed_sft_setting_runs_sft_and_what_follows_it(finished):
    home, _ = finished
    before = set(made(home))
    result = lifecycle(home, {"phases.sft.optimizer.lr": 5e-4})
    assert result.returncode == 0, result.stderr[-3000:]
    assert fresh(home, before) == [
        "checkpoint", "export", "items_seen", "parity", "release", "report", "safety_answers", "scores",
    ]  # fmt: skip
    uri = f"sqlite:///{home / 'mlflow.db'}"
    new, old = Walker(uri, "k2-smoke"), Walker(uri, "k2-smoke", "6")
    assert differing(new.client, old.run.info.run_id, new.run.info.run_id) == {"optimizer.lr": ("0.0015", "0.0005")}
    lifecycles = old.lifecycle.info.run_id, new.lifecycle.info.run_id
    assert differing(new.client, *lifecycles) == {"sft.optimizer.lr": ("0.0015", "0.0005")}
    told = new.section(new.version.description, "Parent and settings")
    assert "| `optimizer.lr`&ensp; | `0.0015`&ensp; | `0.0005` |" in told


def test_longer_sft_trains_sft_alone(finished):
    home, _ = finished
    before = set(made(home))
    result = lifecycle(home, {"phases.sft.steps": 8})
    assert result.returncode == 0, result.stderr[-3000:]
    assert fresh(home, before) == [
        "checkpoint", "corpus_valid", "export", "items_seen", "parity", "release", "report", "safety_answers",
        "scores", "sequences", "sequences_checks",
    ]  # fmt: skip


def test_two_empty_stores_get_the_same_digests_and_losses(finished, tmp_path):
    home, _ = finished
    result = lifecycle(tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = made(home), made(tmp_path)
    assert set(second) <= set(first)
    assert {name: record["digest"] for name, record in second.items()} == {
        name: first[name]["digest"] for name in second
    }
    curves = losses(home)
    assert losses(tmp_path) == {name: curves[name] for name in losses(tmp_path)}


def test_an_interrupted_run_goes_on_where_it_was(finished, tmp_path):
    home, _ = finished
    for how, checkpoints in ((signal.SIGINT, 1), (signal.SIGKILL, 3)):
        process = subprocess.Popen(
            command(), cwd=ROOT, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if len(list((tmp_path / "store").glob("checkpoint/*/manifest.json"))) >= checkpoints:
                break
            time.sleep(0.2)
        os.killpg(process.pid, how)
        assert process.wait(60) != 0
    kept = made(tmp_path)
    assert any(name.startswith("checkpoint/") for name in kept)
    result = lifecycle(tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    after = made(tmp_path)
    assert all(after[name] == record for name, record in kept.items())
    first = made(home)
    assert all(first[name]["digest"] == record["digest"] for name, record in after.items() if name in first
               and not name.startswith(("report", "release")))  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"phases.sft.optimizer.lrr": 1e-4}, "did you mean 'lr'"),
        ({"phases.sft.steps": "many"}, "expected int"),
    ],
)
def test_wrong_overrides_stop_the_run_with_a_hint(finished, overrides, words):
    result = lifecycle(finished[0], overrides)
    assert result.returncode != 0
    assert words in " ".join((result.stdout + result.stderr).split())


def test_an_unknown_recipe_is_named(tmp_path):
    result = subprocess.run(
        command(),
        cwd=ROOT,
        env=environment(tmp_path) | {"K2_RECIPE": "smok"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert "did you mean 'smoke'" in " ".join((result.stdout + result.stderr).split())


def test_a_damaged_artifact_is_named_by_file(finished, tmp_path):
    home, _ = finished
    copy = tmp_path / "home"
    shutil.copytree(home / "store", copy / "store")
    record = next(r for r in made(home).values() if r["step"] == "tokens")
    shard = next((copy / "store" / "tokens" / record["identity"][:16] / "train").glob("*/*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    result = lifecycle(copy, {"phases.pretrain.seed": 1})
    assert result.returncode != 0
    said = "".join((result.stdout + result.stderr).split())
    assert shard.name in said and "CorruptArtifact" in said
