"""What somebody deleted or moved in MLflow by hand is there again after the next run, and nothing is there twice."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import Store, lease
from k2model.errors import LeaseLost
from k2model.registry import Registration
from k2model.registry.live import LiveRun, begin_run, training_tag
from k2model.registry.tracking import tracking
from k2model.registry.versions import registration_of
from tests.registry.conftest import Phase
from tests.registry.writers import GATES, check_line, line_of, register_line

NAME = "line"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Phase]]:
    store = Store.open(tmp_path_factory.mktemp("line") / "store")
    return store, line_of(store)


@pytest.fixture(scope="module")
def complete(line, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database without anything, and one in which the line is registered."""
    store, phases = line
    empty, full = (tmp_path_factory.mktemp("mlflow") / f"{name}.db" for name in ("empty", "full"))
    with tracking(f"sqlite:///{empty}"):
        pass
    shutil.copy(empty, full)
    register_line(f"sqlite:///{full}", store, phases, NAME)
    check_line(f"sqlite:///{full}", NAME)
    return empty, full


@pytest.fixture
def uri(complete: tuple[Path, Path], tmp_path: Path) -> str:
    """A copy of one's own of the registered line."""
    return f"sqlite:///{shutil.copy(complete[1], tmp_path / 'mlflow.db')}"


@pytest.fixture
def fresh(complete: tuple[Path, Path], tmp_path: Path) -> str:
    """An empty one."""
    return f"sqlite:///{shutil.copy(complete[0], tmp_path / 'mlflow.db')}"


def ids(client) -> tuple[list[str], dict[str, int]]:
    """Active runs, and versions by phase."""
    experiment = client.get_experiment_by_name("k2/line").experiment_id
    runs = client.search_runs([experiment])
    versions = client.search_model_versions("name = 'k2-line'")
    return sorted(run.info.run_id for run in runs), {one.tags["k2.phase"]: int(one.version) for one in versions}


def purge(client, run_id: str) -> None:
    """As `mlflow gc` does."""
    client.delete_run(run_id)
    client._tracking_client.store._hard_delete_run(run_id)


def of(client, phase: str) -> Registration:
    version = next(one for one in client.search_model_versions("name = 'k2-line'") if one.tags["k2.phase"] == phase)
    found = registration_of(client, version)
    assert found is not None
    return found


DELETED: dict[str, Callable] = {
    "the registered model": lambda client: client.delete_registered_model("k2-line"),
    "the first version": lambda client: client.delete_model_version("k2-line", "1"),
    "the last version": lambda client: client.delete_model_version("k2-line", "3"),
    "the last run": lambda client: client.delete_run(of(client, "sft").run_id),
    "the first run, for good": lambda client: purge(client, of(client, "pretrain").run_id),
    "the last run, for good": lambda client: purge(client, of(client, "sft").run_id),
    "the experiment": lambda client: client.delete_experiment(client.get_experiment_by_name("k2/line").experiment_id),
    "candidate": lambda client: client.delete_registered_model_alias("k2-line", "candidate"),
    "the phase's alias": lambda client: client.delete_registered_model_alias("k2-line", "sft"),
    "a logged model": lambda client: client.delete_logged_model(of(client, "mid_1").model_id),
}
MADE_ANEW = {
    "the first version": {"pretrain": 4}, "the first run, for good": {"pretrain": 4},
    "the last version": {"sft": 4}, "the last run, for good": {"sft": 4},
}  # fmt: skip


@pytest.mark.parametrize("what", DELETED)
def test_what_was_deleted_is_made_again(what: str, line, uri: str) -> None:
    store, phases = line
    with tracking(uri) as client:
        runs, versions = ids(client)
        DELETED[what](client)
        register_line(uri, store, phases, NAME)
        check_line(uri, NAME, models_made_anew=what == "a logged model")
        again, numbers = ids(client)
        assert len(set(runs) - set(again)) == what.endswith("for good"), "a run in the trash is restored"
        assert numbers == versions | MADE_ANEW.get(what, {})
        before = client.get_registered_model("k2-line").last_updated_timestamp
        register_line(uri, store, phases, NAME)
        assert client.get_registered_model("k2-line").last_updated_timestamp == before, "all is done"


def test_a_phase_that_is_registered_anew_is_not_the_newest(line, uri: str) -> None:
    """`candidate` would point at pre-training until somebody runs the rest."""
    store, phases = line
    with tracking(uri) as client:
        for what in ("the first version", "candidate", "the first run, for good"):
            DELETED[what](client)
            phases[0].register(uri, store, NAME, GATES)
            assert client.get_model_version_by_alias("k2-line", "candidate").tags["k2.phase"] == "sft", what


def test_what_was_asked_for_twice_is_there_once(line, fresh: str, monkeypatch) -> None:
    """MLflow's client repeats a request whose answer got lost."""
    from mlflow import MlflowClient

    def twice(once: Callable) -> Callable:
        def called(*args, **kwargs):
            once(*args, **kwargs)
            return once(*args, **kwargs)

        return called

    with monkeypatch.context() as patch:
        for what in ("create_run", "create_logged_model", "create_model_version"):
            patch.setattr(MlflowClient, what, twice(getattr(MlflowClient, what)))
        register_line(fresh, *line, NAME)
    check_line(fresh, NAME)


@pytest.mark.parametrize("what", ["create_run", "create_logged_model", "create_model_version"])
def test_who_wakes_when_another_has_registered_leaves_nothing(what: str, line, fresh: str, monkeypatch) -> None:
    """As a process does that was stopped between a look at its lease and a request, for longer than a lease lasts."""
    from mlflow import MlflowClient

    store, phases = line
    real = getattr(MlflowClient, what)

    def asleep(*args, **kwargs):
        monkeypatch.setattr(MlflowClient, what, real)
        with monkeypatch.context() as patch:
            patch.setattr(lease, "_is_free", lambda *_: True)  # whoever holds one is taken for dead
            register_line(fresh, store, phases, NAME)
        return real(*args, **kwargs)

    monkeypatch.setattr(MlflowClient, what, asleep)
    with pytest.raises(LeaseLost, match="another one took over"):
        phases[0].register(fresh, store, NAME, GATES)
    check_line(fresh, NAME)


def test_a_training_that_goes_on_restores_its_run(line, uri: str) -> None:
    live = LiveRun("k2/live", "pretrain", training_tag(line[1][0].references["checkpoint"]), {}, {}, 0)
    with tracking(uri) as client:
        first = begin_run(client, uri, live)
        client.delete_run(first.info.run_id)
        assert begin_run(client, uri, live).info.run_id == first.info.run_id
        client.delete_experiment(first.info.experiment_id)
        assert begin_run(client, uri, live).info.run_id == first.info.run_id
        assert client.get_run(first.info.run_id).info.lifecycle_stage == "active"


def test_a_version_whose_run_is_gone_for_good_has_no_registration(uri: str) -> None:
    with tracking(uri) as client:
        DELETED["the last run, for good"](client)
        assert registration_of(client, client.get_model_version("k2-line", "3")) is None
