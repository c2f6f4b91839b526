"""Registration into a real MLflow on SQLite, read back through MLflow's own client alone."""

import base64
import http.server
import itertools
import json
import os
import re
import sys
import threading
import traceback
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, Identity, Store
from k2model.errors import EvaluationError
from k2model.judges.agreement import Agreement
from k2model.judges.labelled import OURS
from k2model.recipe.schema import GateConfig
from k2model.registry import Registration, RegistryError, metric_name
from k2model.registry.aliases import aliases, moved_by_hand, set_alias
from k2model.registry.gates import GateResult
from k2model.registry.phase_record import allowed
from k2model.registry.tracking import tracking
from k2model.safety.judging import RESULT, SafetyResult
from k2model.safety.rows import SafetyRow
from k2model.training.log import Intervention
from tests.registry.conftest import RECIPE, STEPS, make_phase


@pytest.fixture
def client(tracking_uri: str):
    with tracking(tracking_uri) as opened:
        yield opened


def runs_of(client, recipe_name: str) -> list:
    experiment = client.get_experiment_by_name(f"k2/{recipe_name}")
    return client.search_runs([experiment.experiment_id])


def cells(page: str, title: str) -> list[list[str]]:
    """The rows of the table in a section of a page."""
    [section] = re.findall(rf"(?ms)^### {title}$(.*?)(?=^### |\Z)", page)
    rows = [line.strip("|").replace("&ensp;", "").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_a_line_of_phases_can_be_followed_back_to_its_data(store: Store, tracking_uri: str, client) -> None:
    pretrain = make_phase(store, "pretrain", {"facts/heldout_wording": 0.95})
    mid = make_phase(store, "mid_1", {"arithmetic/think": 0.68, "retrieval/256@new_theta": 0.5})
    first = pretrain.register(tracking_uri, store, "lineage")
    second = mid.register(tracking_uri, store, "lineage", parent=first)

    version = client.get_model_version_by_alias("k2-lineage", "candidate")
    assert (version.version, version.run_id) == (second.version, second.run_id)
    assert version.source == mid.references["checkpoint"].uri
    assert version.tags["k2.checkpoint.digest"] == mid.references["checkpoint"].digest
    assert f"export `{mid.references['export'].uri}`" in version.description
    assert version.tags["k2.tokens_seen"] == str(STEPS * 2048 * 2) == str(second.tokens_seen)
    assert "rows of 128, RoPE theta 10,000" in version.description

    run = client.get_run(version.run_id)
    assert (run.info.run_name, run.info.status) == ("mid_1@2", "FINISHED")
    datasets = {d.dataset.name: d for d in run.inputs.dataset_inputs}
    for part, name in (("sequences", "mid_1/sequences"), ("corpus", "corpus_valid")):
        ref = mid.references[part]
        logged = datasets[name]
        assert ref.digest.startswith(logged.dataset.digest)
        assert {("k2.digest", ref.digest), ("k2.uri", ref.uri)} <= {(tag.key, tag.value) for tag in logged.tags}
        assert json.loads(logged.dataset.source)["uri"].startswith(store.uri)  # of the first with that content
    git = store.record(mid.references["checkpoint"])["provenance"]["git"] or {"commit": None, "dirty": None}
    said = [run.data.tags.get(f"mlflow.source.git.{name}") for name in ("commit", "dirty")]
    assert said == [git["commit"], {True: "true", False: "false", None: None}[git["dirty"]]]
    assert run.data.params["optimizer.lr"] == "0.004"
    assert run.data.params["mixture.arithmetic/think"] == "28.0"
    assert run.data.params["model.n_layers"] == str(RECIPE.model.n_layers)
    assert not any("parallelism" in name for name in run.data.params)

    [parent_model] = run.inputs.model_inputs
    parent = client.get_logged_model(parent_model.model_id)
    assert parent.source_run_id == first.run_id
    assert f"[pretrain@1](#/models/k2-lineage/versions/{first.version})" in run.data.tags["mlflow.note.content"]
    assert parent.tags["k2.checkpoint.uri"] == pretrain.references["checkpoint"].uri
    assert str(parent.status) == "READY"
    assert client.get_run(parent.source_run_id).data.params["mixture.prose"] == "35.0"
    [output] = run.outputs.model_outputs
    assert output.model_id == second.model_id
    assert client.get_model_version_by_alias("k2-lineage", "pretrain").version == first.version


def test_metrics_are_complete_and_equal_to_the_log(store: Store, tracking_uri: str, client) -> None:
    before = make_phase(store, "pretrain", {})
    phase = make_phase(store, "mid_1", {"arithmetic/think": 0.68, "retrieval/256@new_theta": 0.5}, steps=450)
    parent = before.register(tracking_uri, store, "metrics")
    made = phase.register(tracking_uri, store, "metrics", parent=parent)

    def logged(name: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in client.get_metric_history(made.run_id, name))

    for field in ("loss", "lr", "grad_norm", "tokens_per_second", "mfu"):
        assert logged(f"train/{field}") == [(row["step"], row[field]) for row in phase.log]
    for field in ("parameter_norm", "update_ratio"):
        assert logged(f"train/{field}") == [(row["step"], row[field]) for row in phase.log if row[field] is not None]
    for domain, steps in {"code": phase.log, "long_context": phase.log[1:]}.items():
        assert logged(f"train/domain/{domain}") == [(row["step"], row["domains"][domain]) for row in steps]
    seen = client.get_metric_history(made.run_id, "train/tokens_seen")
    offset = STEPS * 2048
    assert sorted((m.step, m.value) for m in seen) == [(row["step"], offset + row["tokens"]) for row in phase.log]
    loss = sorted(client.get_metric_history(made.run_id, "train/loss"), key=lambda m: m.step)
    assert {later.timestamp - earlier.timestamp for earlier, later in itertools.pairwise(loss)} == {250}
    final = client.get_run(made.run_id).data.metrics
    assert final["score/arithmetic/think"] == 0.68
    assert final["score/retrieval/256_at_new_theta"] == 0.5
    on_model = {m.key: m.value for m in client.get_logged_model(made.model_id).metrics}
    assert on_model["score/arithmetic/think"] == 0.68


def test_a_run_tells_what_was_undone_and_why(store: Store, tracking_uri: str, client) -> None:
    wide = Intervention("the losses of 11 steps in a row lay high", 12, 24, 8, 3.21, 0.1, [9.4, None], after=3.19)
    lost = Intervention("the loss stopped being a number at step 40", 38, 40, 32, None, None, [None])
    phase = make_phase(store, "mid_1", {}, interventions=[wide, lost])
    made = phase.register(tracking_uri, store, "undone")
    for told in (
        client.get_run(made.run_id).data.tags["mlflow.note.content"],
        client.get_model_version("k2-undone", str(made.version)).description,
    ):
        first, second = cells(told, "Undone on the way")
        assert first == ["1", (
            "went back to step 8: the losses of 11 steps in a row lay high (loss 3.210 before, up to 9.400 in it, "
            "3.190 after). Steps 12 to 24 are left out"
        )]  # fmt: skip
        assert "Steps 38 to 40 are left out" in second[1]
    calm = make_phase(store, "mid_2", {}).register(tracking_uri, store, "undone")
    assert "### Undone on the way\n\nNothing." in client.get_run(calm.run_id).data.tags["mlflow.note.content"]


def test_a_second_call_does_no_work(store: Store, tracking_uri: str, client, monkeypatch) -> None:
    phase = make_phase(store, "pretrain", {"facts/heldout_wording": 0.95})
    gates = (GateConfig("pretrain", "facts/heldout_wording", 0.7),)
    first = phase.register(tracking_uri, store, "twice", gates)
    from mlflow import MlflowClient

    def refuse(*args, **kwargs):
        raise AssertionError("a second registration wrote to MLflow")

    for method in ("create_run", "log_batch", "set_tag", "create_model_version", "set_registered_model_alias"):
        monkeypatch.setattr(MlflowClient, method, refuse)
    assert phase.register(tracking_uri, store, "twice", gates) == first
    assert len(runs_of(client, "twice")) == 1


@pytest.mark.parametrize("cut", ["log_inputs", "finalize_logged_model", "create_model_version", "set_terminated"])
def test_an_interrupted_registration_is_completed(
    cut: str, store: Store, tracking_uri: str, client, monkeypatch
) -> None:
    phase = make_phase(store, "pretrain", {"facts/heldout_wording": 0.95})
    from mlflow import MlflowClient

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    name = f"cut-{cut}"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, cut, die)
        with pytest.raises(KeyboardInterrupt):
            phase.register(tracking_uri, store, name)
    assert [run.info.status for run in runs_of(client, name)] == ["RUNNING"]

    made = phase.register(tracking_uri, store, name)
    [run] = runs_of(client, name)
    assert (run.info.run_id, run.info.status) == (made.run_id, "FINISHED")
    assert len(client.get_metric_history(made.run_id, "train/loss")) == STEPS
    assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert [v.version for v in client.search_model_versions(f"name = 'k2-{name}'")] == [1]
    assert len(client.get_run(made.run_id).outputs.model_outputs) == 1
    assert len(client.get_run(made.run_id).inputs.dataset_inputs) == 2


def test_gates_of_every_phase_are_told_and_decide_nothing_here(store: Store, tracking_uri: str, client) -> None:
    gates = (GateConfig("pretrain", "facts", 0.7), GateConfig("sft", "arithmetic/high", 0.5, minus="arithmetic/low"))

    def line(seed: int, facts: float, high: float, gates: tuple[GateConfig, ...] = gates):
        pretrain = make_phase(store, "pretrain", {"facts": facts}, seed=seed)
        sft = make_phase(store, "sft", {"arithmetic/high": high, "arithmetic/low": 0.25}, seed=seed)
        parent = pretrain.register(tracking_uri, store, "gated", gates)
        return sft.register(tracking_uri, store, "gated", gates, parent)

    weak_end, good, weak_start = line(0, 0.9, 0.74), line(1, 0.7, 0.75), line(2, 0.69, 0.9)
    assert [one.passed for one in (weak_end, good, weak_start)] == [False, True, False]
    assert weak_end.gates == (GateResult(gates[1], 0.49),)
    assert all(gate.passed for gate in weak_start.gates)
    without = line(3, 0.9, 0.0, gates=())
    assert (without.gates_so_far, good.gates_so_far) == (0, 2)
    for one in (weak_end, good, weak_start, without):
        assert one.promotion == "none: it was not held to its gates yet" and one.aliases == ("candidate", "sft")
    assert set(client.get_registered_model("k2-gated").aliases) == {"candidate", "pretrain", "sft"}
    told = client.get_model_version("k2-gated", str(weak_end.version)).description
    assert cells(told, "Gates") == [["arithmetic/high − arithmetic/low", "≥ 0.50", "0.4900", "**failed**"]]


def test_old_settings_registered_again_are_the_candidate_again(store: Store, tracking_uri: str, client) -> None:
    pretrain = make_phase(store, "pretrain", {})
    old, new = (make_phase(store, "sft", {}, seed=seed) for seed in (0, 1))

    def lifecycle(sft) -> int:
        parent = pretrain.register(tracking_uri, store, "again")
        return sft.register(tracking_uri, store, "again", parent=parent).version

    def held() -> tuple[int, int]:
        found = client.get_registered_model("k2-again").aliases
        return int(found["candidate"]), int(found["sft"])

    first, second = lifecycle(old), lifecycle(new)
    assert held() == (second, second)
    assert pretrain.register(tracking_uri, store, "again").version == 1
    assert held() == (second, second), "what was trained from it stays the candidate"
    assert lifecycle(old) == first and held() == (first, first)
    assert lifecycle(new) == second and held() == (second, second)


def test_an_alias_of_a_phase_that_was_moved_by_hand_stays_and_is_named(
    store: Store, tracking_uri: str, client, caplog
) -> None:
    old, new = (make_phase(store, "sft", {}, seed=seed) for seed in (0, 1))
    first, second = (one.register(tracking_uri, store, "byhand").version for one in (old, new))
    assert moved_by_hand(client, "k2-byhand") == {}
    client.set_registered_model_alias("k2-byhand", "sft", str(first))
    client.set_registered_model_alias("k2-byhand", "candidate", str(first))
    said = moved_by_hand(client, "k2-byhand")
    assert said["sft"] == "alias sft of k2-byhand was moved by hand from version 2 to version 1 in MLflow"
    new.register(tracking_uri, store, "byhand")
    held = client.get_registered_model("k2-byhand").aliases
    assert (int(held["sft"]), int(held["candidate"])) == (first, second)
    assert f"{said['sft']}; it stays there" in caplog.text and f"{said['candidate']}; it is at version 2" in caplog.text
    client.delete_registered_model_alias("k2-byhand", "sft")
    new.register(tracking_uri, store, "byhand")
    assert int(client.get_registered_model("k2-byhand").aliases["sft"]) == second
    client.set_registered_model_alias("k2-byhand", "candidate", str(first))
    assert [*moved_by_hand(client, "k2-byhand")] == ["candidate"], "once more, to where it was moved before"


def test_who_is_killed_while_an_alias_is_moved_is_not_taken_for_a_person(
    store: Store, tracking_uri: str, client, monkeypatch
) -> None:
    from mlflow import MlflowClient

    old, new = (make_phase(store, "sft", {}, seed=seed) for seed in (0, 1))
    first = old.register(tracking_uri, store, "midway").version
    second = new.register(tracking_uri, store, "midway").version
    real, calls = MlflowClient.set_registered_model_tag, []

    def dies(self, name, key, value):
        if ">" not in value:
            raise KeyboardInterrupt
        calls.append(value)
        return real(self, name, key, value)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "set_registered_model_tag", dies)
        set_alias(client, "k2-midway", "sft", first)
    assert calls == [f"{second}>{first}"] and aliases(client, "k2-midway")["sft"] == first
    assert moved_by_hand(client, "k2-midway") == {}
    assert set_alias(client, "k2-midway", "sft", second) == ""


def test_a_changed_gate_is_judged_anew_on_the_same_run(store: Store, tracking_uri: str, client) -> None:
    phase = make_phase(store, "pretrain", {"facts": 0.6})
    strict = phase.register(tracking_uri, store, "regated", (GateConfig("pretrain", "facts", 0.7),))
    loose = phase.register(tracking_uri, store, "regated", (GateConfig("pretrain", "facts", 0.5),))
    assert (strict.passed, loose.passed) == (False, True)
    assert (loose.run_id, loose.version) == (strict.run_id, strict.version)
    told = client.get_run(loose.run_id).data.tags["mlflow.note.content"]
    assert cells(told, "Gates") == [["facts", "≥ 0.50", "0.6000", "passed"]]
    assert len(client.get_metric_history(loose.run_id, "train/loss")) == STEPS
    client.set_tag(loose.run_id, "k2.registration", '{"gates": [{"phase": "pretrain"}]}')  # of another version
    assert phase.register(tracking_uri, store, "regated", (GateConfig("pretrain", "facts", 0.5),)) == loose
    assert Registration.from_json(client.get_run(loose.run_id).data.tags["k2.registration"]) == loose


def test_a_gate_on_an_unknown_score_says_which_was_meant(store: Store, tracking_uri: str) -> None:
    phase = make_phase(store, "pretrain", {"facts/heldout_wording": 0.95})
    with pytest.raises(RegistryError, match="did you mean 'facts/heldout_wording'"):
        phase.register(tracking_uri, store, "unknown", (GateConfig("pretrain", "fact/heldout_wording", 0.7),))
    with pytest.raises(RegistryError, match="the chance level of 'facts/heldout_wording', which its row"):
        gate = GateConfig("pretrain", "facts/heldout_wording", 0.7, minus="chance")
        phase.register(tracking_uri, store, "unknown", (gate,))


def test_a_damaged_log_is_named_before_anything_is_written(store: Store, tracking_uri: str, client) -> None:
    phase = make_phase(store, "pretrain", {})
    (Path(phase.references["checkpoint"].uri) / "attachments" / "metrics.jsonl").write_text('{"step": 0}\n')
    with pytest.raises(CorruptArtifact, match=r"attachments/metrics\.jsonl"):
        phase.register(tracking_uri, store, "damaged")
    assert client.get_experiment_by_name("k2/damaged") is None


@pytest.mark.parametrize("reason", ["refused", "no database", "no folder"])
def test_an_unusable_server_is_named_and_the_remedy_given(
    reason: str, store: Store, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (tmp_path / "file").write_text("this is text, and long enough not to be taken for an empty database" * 20)
    uri = {
        "refused": "http://127.0.0.1:9",
        "no database": f"sqlite:///{tmp_path}/file",
        "no folder": f"sqlite:///{tmp_path}/file/below/mlflow.db",
    }[reason]
    phase = make_phase(store, "pretrain", {})
    with pytest.raises(RegistryError) as failure:
        phase.register(uri, store, "unusable")
    message = str(failure.value)
    assert f"MLflow at {uri} did not take the registration" in message
    assert "safe in the store" in message and "run again" in message


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://CANARY:CA@NA:RY@127.0.0.1:9", "MLflow at http://***@127.0.0.1:9 did not take the registration"),
        ("postgresql+nodriver://CANARY:CANARY@host/db", "MLflow at postgresql+nodriver://***@host/db needs a database"),
        ("htps://user:CANARY@host", "MLflow at htps://***@host did not take the registration"),
        ("postgresql://user:CA@NARY@host/db", "MLFLOW_TRACKING_URI=postgresql://*** is no address"),
        ("https://user:CA/NARY@host", "MLFLOW_TRACKING_URI=https://*** is no address"),
        ("https://user:12/CANARY@host", "special characters percent-encoded"),
        ("https:/user:CANARY@host", "MLFLOW_TRACKING_URI=*** is no address"),
        ("https://us/er:CANARY@host", "special characters percent-encoded"),
        ("https://host/mlflow?token=CANARY", "login is given by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_no_error_tells_a_password(uri: str, words: str, store: Store, monkeypatch, capfd, caplog) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    phase = make_phase(store, "pretrain", {})
    with pytest.raises(RegistryError, match=re.escape(words)) as failure:
        phase.register(uri, store, "unusable")
    told = "".join(traceback.format_exception(failure.value)) + caplog.text + "".join(capfd.readouterr())
    assert not re.search("CA|NARY", told), told


@pytest.mark.parametrize(
    ("address", "lacking", "remedy"),
    [
        ("postgresql+psycopg2", "psycopg2", "uv pip install 'psycopg2-binary'"),
        ("postgresql", "psycopg", "write postgresql+psycopg2:// for the one that is there"),
        ("mysql", "MySQLdb", "uv pip install 'mysqlclient'"),
    ],
)
def test_a_driver_that_is_not_there_is_named_in_a_sentence(
    address: str, lacking: str, remedy: str, store: Store, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, lacking, None)  # as if it were not installed
    phase = make_phase(store, "pretrain", {})
    with pytest.raises(RegistryError) as failure:
        phase.register(f"{address}://user:CANARY@127.0.0.1:9/db", store, "driver")
    told = str(failure.value)
    assert told.startswith(f"MLflow at {address}://***@127.0.0.1:9/db needs a database driver") and remedy in told
    assert "CANARY" not in told and "\n" not in told


def test_the_login_of_a_server_reaches_it_and_nobody_else(store: Store, monkeypatch, capfd) -> None:
    """MLflow is given the address without it, since it prints addresses."""
    seen = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_error(403)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    canary = "CANARY"  # not in the lines that a traceback shows
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody else")
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        with pytest.raises(RegistryError, match=re.escape(f"MLflow at http://***@{host} did not take")) as failure:
            with tracking(f"http://me%40work:{canary}%2F@{host}") as client:
                assert canary not in client.tracking_uri
                client.search_experiments()
        server.shutdown()
    assert [base64.b64decode(found.removeprefix("Basic ")) for found in seen] == [b"me@work:CANARY/"]
    assert os.environ["MLFLOW_TRACKING_USERNAME"] == "somebody else" and "MLFLOW_TRACKING_PASSWORD" not in os.environ
    assert canary not in "".join(traceback.format_exception(failure.value)) + "".join(capfd.readouterr())


def test_nothing_is_written_but_the_database(store: Store, tracking_uri: str, tmp_path: Path, monkeypatch) -> None:
    """Model versions are by reference: no files of MLflow's own, neither here nor beside the database."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    make_phase(store, "pretrain", {}).register(tracking_uri, store, "files")
    assert list(work.iterdir()) == []
    assert [p.name for p in Path(tracking_uri.removeprefix("sqlite:///")).parent.iterdir()] == ["mlflow.db"]


def test_metric_names_are_taken_by_mlflow() -> None:
    from mlflow.utils.validation import _validate_metric_name

    odd = ("odd,name(1)", "odd;name(1)", "mixture.prose[2-5]", "mixture.prose[2+5]", "a//b", "../up", "/at", "x" * 400)
    names = [metric_name(score) for score in ("loss/prose", "retrieval/1024@parent_theta", *odd)]
    names += [allowed(name) for name in odd]
    for name in names:
        _validate_metric_name(name)
        assert len(name) <= 250
    assert len({*names}) == len(names), "two names never become one"
    assert metric_name("retrieval/1024@parent_theta") == "score/retrieval/1024_at_parent_theta"


def test_a_registration_survives_json(store: Store) -> None:
    result = GateResult(GateConfig("sft", "a", 0.3, minus="b"), 0.1 + 0.2)
    made = Registration("k", "sft", "u", "r", "m", "n", 3, ("candidate",), (result,), 7, True)
    assert Registration.from_json(made.to_json()) == made


def safety_of(store: Store, judge: str, kappa: float) -> ArtifactRef:
    """The safety scores of a phase: it refuses nine in ten, says a judge whose kappa ends at `kappa`."""
    agreement = [Agreement(f"answer {one}", 0.95, kappa, 0.99, 0.97, 0.4, 492, 0) for one in ("refuses", "harmful")]
    rows = [SafetyRow("safety/correct_refusal", 0.9, 0.85, 0.94, 160, 40)]
    content = json.dumps(SafetyResult({"name": judge}, {OURS: agreement}, {"malformed": 0}, rows).to_dict())

    def produce(folder: Path) -> dict[str, float]:
        (folder / RESULT).write_text(content)
        return {}

    return store.build(Identity("safety", "1", {"judge": judge, "kappa": kappa}, {}), produce)


def test_safety_scores_are_logged_and_gated_where_their_judge_may_decide(store: Store, tracking_uri, client) -> None:
    gates = (GateConfig("sft", "safety/correct_refusal", 0.85),)
    phase = make_phase(store, "sft", {"tools/exact": 0.5})
    phase.references["safety"] = safety_of(store, "some-model (plain)", 0.81)
    registered = phase.register(tracking_uri, store, "safe", gates)
    assert registered.gates == (GateResult(gates[0], 0.9),) and registered.gates[0].passed
    metrics = client.get_run(registered.run_id).data.metrics
    assert metrics[metric_name("safety/correct_refusal")] == 0.9

    phase.references["safety"] = safety_of(store, "careless-model (plain)", 0.79)
    with pytest.raises(EvaluationError, match=r"careless-model.*at least 0\.80 at the lower end"):
        phase.register(tracking_uri, store, "unsafe", gates)
    assert phase.register(tracking_uri, store, "ungated").gates == ()  # what no gate is on is only logged
    phase.references["safety"] = safety_of(store, "rules", 0.3)
    assert phase.register(tracking_uri, store, "by_rules", gates).gates[0].passed
