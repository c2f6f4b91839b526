"""A finished lifecycle in MLflow: what its pages say alone, and that they are written once, whoever is killed."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.artifacts.result import LifecycleResult
from k2model.lifecycle.steps import Work, full_name, gate_identities, inputs_of, rows
from k2model.pages import begin_lifecycle, finish_lifecycle
from k2model.pages.steps import KINDS
from k2model.recipe import chosen_recipe, load_recipe
from k2model.registry import Registration, RegistryError, register_phase
from k2model.registry.tracking import tracking
from tests.pages.walker import NOTE, Walker
from tests.smoke import PHASES

WRITES = (
    "create_run", "log_batch", "log_inputs", "log_outputs", "log_artifacts", "set_tag", "set_terminated", "update_run",
    "set_experiment_tag", "create_model_version", "update_model_version", "update_registered_model",
    "set_registered_model_alias",
)  # fmt: skip


class Lifecycle:
    """What a finished lifecycle left in its store, to be told to one MLflow or another."""

    def __init__(self, home: Path) -> None:
        self.store, self.recipe = Store.open(home / "store"), load_recipe("smoke")
        self.made: dict[str, ArtifactRef] = {}
        for row, owner in rows(self.recipe):
            if not row.guards:
                work = Work(self.store, self.recipe, owner, inputs_of(row, owner, self.made))
                found = self.store.find(row.build(work).identity)
                assert found is not None, row.name
                self.made[full_name(row, owner)] = found

    def data(self) -> dict[str, ArtifactRef]:
        names = [name for name in self.made if "/" not in name or name.endswith("/synthesis")]
        return {name: self.made[name] for name in names if name not in ("report", "release")}

    def tell(self, uri: str) -> str:
        """As the tasks of a run do; gives the id of the lifecycle's run."""
        registered: dict[str, Registration] = {}
        for phase in self.recipe.phases:
            own = {part: self.made[f"{phase.name}/{part}"] for part in ("sequences", "checkpoint", "export", "scores")}
            made = self.data() | {f"{phase.name}/sequences": own["sequences"]}
            within = begin_lifecycle(uri, self.store, self.recipe, made)
            registered[phase.name] = register_phase(
                uri, self.store, self.recipe.name, self.recipe.model, phase, self.recipe.gates,
                corpus=self.made["corpus_valid"], parent=registered.get(phase.parent), within=within,
                items=self.made["evaluation_items"], safety=self.made.get(f"{phase.name}/safety"), **own,
            )  # fmt: skip
        result = LifecycleResult(self.recipe, self.made)
        gates = gate_identities(self.store, self.recipe, self.made)
        return finish_lifecycle(uri, self.store, result, [*registered.values()], gates)


@pytest.fixture(scope="module")
def lifecycle(finished) -> Lifecycle:
    return Lifecycle(finished[0])


def test_ten_questions_are_answered_by_mlflow_alone(finished) -> None:
    home, _ = finished
    walker = Walker(f"sqlite:///{home / 'mlflow.db'}", "k2-smoke", "6")
    recipe, told = load_recipe("smoke"), walker.answers()
    sft = recipe.phase("sft")
    # 1 to 4: which data, from which sources, which parent, which settings
    assert sum(told["which data"].values()) == pytest.approx(1.0)
    assert set(told["which data"]) == {entry.source for entry in sft.mixture}
    built = {source.name for source in recipe.corpus.sources if source.job is None}
    written = {f"{source.name}/synthesis" for source in recipe.corpus.sources if source.job}
    assert set(told["from which sources"]) == built | written and all(told["from which sources"].values())
    assert told["which parent"] == [f"{name}@{at}" for at, name in reversed([*enumerate(PHASES[:-1], start=1)])]
    assert told["which settings"]["optimizer.lr"] == str(sft.optimizer.lr)
    # 5 and 6: how good, and beside whom
    on = {name.split("/")[1]: dataset for name, (_, dataset) in told["how good"].items()}
    assert on["facts"] == "evaluation_items" and on["loss"] == "corpus_valid" and on["safety"] == "sft/safety"
    value, _ = told["how good"]["score/code/next_line"]
    assert f"| code/next\\_line&ensp; | 8&ensp; | {value:.3f}" in told["beside whom"]
    assert "parent [mid_4@5](#/models/k2-smoke/versions/5)" in told["beside whom"]
    # 7 and 8: what was undone, who promoted it and why
    assert told["what was undone"] == "Nothing."
    assert told["who promoted it and why"].startswith("**Not promoted**: ")
    assert "The line has no champion." in told["who promoted it and why"]
    # 9: how to make it again
    assert told["how to make it again"]["called"].startswith("pyflyte run workflows/lifecycle.py full_lifecycle")
    assert told["how to make it again"]["by"] and "make lifecycle RECIPE=recipe.py" in walker.version.description
    # 10: what belongs to it
    names = [name.split(" ")[0] for name in told["what else belongs to it"]["runs"]]
    kinds = [name.rpartition("/")[2] for name in names if "@" not in name]
    assert {name.split("@")[0] for name in names if "@" in name} == set(PHASES) and set(kinds) == set(KINDS)
    assert Counter(kinds)["sequences"] == len(PHASES) and len(set(told["what else belongs to it"]["runs"])) == len(
        names
    )
    files = told["what else belongs to it"]["files"]
    assert {"recipe.py", "report/index.html", "report/data_docs/index.html", "plots/training.svg"} <= {*files}
    assert not [name for name in files if name.endswith((".safetensors", ".arrow", ".parquet", ".bin"))]
    assert walker.lifecycle.info.run_name == "lifecycle sft@6"


def test_the_recipe_of_a_lifecycle_is_the_one_that_was_run(finished, tmp_path: Path) -> None:
    home, _ = finished
    again = Walker(f"sqlite:///{home / 'mlflow.db'}", "k2-smoke", "6").again()["recipe"]
    (tmp_path / "recipe.py").write_text(again)
    assert chosen_recipe(str(tmp_path / "recipe.py"), {}) == load_recipe("smoke")


@pytest.mark.parametrize("cut", ["log_inputs", "log_artifacts"])
def test_pages_that_were_cut_short_are_completed_and_written_once(
    cut: str, lifecycle: Lifecycle, tmp_path: Path, monkeypatch
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    theirs = foreign(uri, tmp_path)
    monkeypatch.setenv("K2_HOME", str(tmp_path))

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, cut, die)
        with pytest.raises(KeyboardInterrupt):
            lifecycle.tell(uri)
    run_id = lifecycle.tell(uri)
    with tracking(uri) as client:
        experiment = client.get_experiment_by_name("k2/smoke")
        runs = client.search_runs([experiment.experiment_id])
        steps = Counter(run.data.tags.get("k2.step") for run in runs)
        assert steps == {None: 6, "lifecycle": 1, "sequences": 6, **{kind: 1 for kind in KINDS if kind != "sequences"}}
        assert {run.info.status for run in runs} == {"FINISHED"} and all(NOTE in run.data.tags for run in runs)
        assert all(len(run.data.tags[NOTE]) <= 8000 for run in runs)
        nested = {run.data.tags.get("mlflow.parentRunId") for run in runs if run.info.run_id != run_id}
        assert nested == {run_id}
        shown = max(sum(not name.startswith("mlflow.") for name in run.data.tags) for run in runs)
        assert shown <= 6, "tags are few"
        curve = client.get_metric_history(run_id, "over_tokens/loss")
        total = sum(phase.tokens for phase in lifecycle.recipe.phases)
        assert max(one.step for one in curve) == total and len(curve) == sum(p.steps for p in lifecycle.recipe.phases)
        assert client.get_metric_history(run_id, "over_tokens/loss/prose")
        assert "[lifecycle sft@6](" in experiment.tags[NOTE]
        assert all(len(one.description) <= 5000 for one in client.search_model_versions("name = 'k2-smoke'"))
    for method in WRITES:
        monkeypatch.setattr(MlflowClient, method, refused)
    assert lifecycle.tell(uri) == run_id
    assert foreign_state(uri) == theirs


def refused(*_: Any, **__: Any) -> None:
    raise AssertionError("what is there already was written to MLflow again")


def foreign(uri: str, folder: Path) -> list[Any]:
    """Another project's experiment, run and model on the same server, and a run of somebody's in our experiment."""
    with tracking(uri) as client:
        for name in ("theirs", "k2/smoke"):
            experiment = client.create_experiment(name, artifact_location=(folder / "files").as_uri())
            run = client.create_run(experiment, run_name="sft", tags={"k2.recipe": "smoke", NOTE: "my own"})
            client.log_param(run.info.run_id, "lr", "1")
            if name == "k2/smoke":
                client.set_terminated(run.info.run_id)
                client.delete_run(run.info.run_id)
        client.create_registered_model("theirs", description="Checkpoints of theirs")
        client.create_model_version("theirs", "s3://theirs/model", description="theirs")
        client.set_registered_model_alias("theirs", "champion", "1")
    return foreign_state(uri)


def foreign_state(uri: str) -> list[Any]:
    from mlflow.entities import ViewType

    with tracking(uri) as client:
        experiments = [client.get_experiment_by_name(name).experiment_id for name in ("theirs", "k2/smoke")]
        runs = [client.search_runs([one], "params.lr = '1'", ViewType.ALL)[0].to_dictionary() for one in experiments]
        model = dict(client.get_registered_model("theirs"))
        return [json.dumps(runs, sort_keys=True), str(model["description"]), str(model["aliases"]),
                str(dict(client.get_model_version("theirs", "1"))["description"]),
                client.get_experiment(experiments[0]).tags]  # fmt: skip


def test_a_server_that_refuses_or_is_away_is_named_with_its_setting(lifecycle: Lifecycle, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for port in (server.server_port, 9):
            with pytest.raises(
                RegistryError, match=r"Check MLFLOW_TRACKING_URI and that the server runs and takes your"
            ):
                begin_lifecycle(f"http://127.0.0.1:{port}", lifecycle.store, lifecycle.recipe, lifecycle.made)
        server.shutdown()
