"""Phases of one process: what bears identity, what is refused before the start, warm starts, divergence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, CorruptArtifact, LeaseHeld, Store, make
from k2model.errors import K2Error
from k2model.recipe.schema import LongDocuments, MixtureEntry, Packing, Parallelism, ScheduleConfig, ScheduleShape
from k2model.tokens import TokensError
from k2model.training import CheckpointMismatch, InvalidPhase, TrainingDiverged, checkpoint_step
from k2model.training.checkpoint import load_model_state, read_checkpoint
from k2model.training.train import checkpoint_identity
from tests.training.job import MODEL, metrics, phase, sequences

pytestmark = pytest.mark.usefixtures("world")
ROWS = ArtifactRef("sequences", "/nowhere", "d" * 64, "i" * 64, {})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def train(store: Store, parent: ArtifactRef | None = None, model: Any = MODEL, **changes: Any) -> ArtifactRef:
    config = phase(**changes, parent="pretrain" if parent is not None else "")
    return make(store, checkpoint_step(store, model, config, sequences(store, config), parent))


def test_layout_and_checkpoints_bear_no_identity_but_learning_rate_and_parent_do() -> None:
    key = checkpoint_identity(MODEL, phase(), ROWS).key
    same = [
        phase(parallelism=Parallelism(workers_per_node=8, zero_stage=1)),
        phase(checkpoints={"save_every": 7}),
        # These act through the rows alone.
        phase(mixture=(MixtureEntry("other", 1.0),)),
        phase(packing=Packing.CONCATENATE),
        phase(long_documents=LongDocuments.SKIP),
    ]
    assert {checkpoint_identity(MODEL, config, ROWS).key for config in same} == {key}
    others = [
        checkpoint_identity(MODEL, phase(optimizer=replace(phase().optimizer, lr=1e-3)), ROWS),
        checkpoint_identity(MODEL, phase(rope_theta=2e4), ROWS),
        checkpoint_identity(MODEL, phase(precision="fp32"), ROWS),
        checkpoint_identity(replace(MODEL, ffn_size=64), phase(), ROWS),
        checkpoint_identity(MODEL, phase(), ROWS, parent=ROWS),
        checkpoint_identity(MODEL, phase(), replace(ROWS, digest="e" * 64)),
    ]
    assert len({identity.key for identity in others} | {key}) == len(others) + 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tensor": 2}, "1 workers must be a multiple of tensor x context = 2 x 1 = 2"),
        ({"context": 2}, "1 workers must be a multiple of tensor x context = 1 x 2 = 2"),
        ({"zero_stage": 1}, "zero_stage=1 .* optimizer.name=muon"),
        ({"zero_stage": 4, "optimizer_name": "adamw"}, "zero_stage=4"),
        ({"micro_batch": -1}, "micro_batch=-1"),
    ],
)
def test_a_layout_that_cannot_work_is_refused_before_the_start(store: Store, changes: Any, says: str) -> None:
    with pytest.raises(InvalidPhase, match=says):
        train(store, **changes)
    assert not Path(store.uri, "checkpoint").exists()


def test_workers_that_cannot_share_the_batch_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sequences(store, phase())
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "3"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "file:///nowhere")
    with pytest.raises(InvalidPhase, match=r"global_batch=4 .* the 3 data-parallel workers"):
        make(store, checkpoint_step(store, MODEL, phase(), rows))


def test_rows_of_another_phase_are_refused(store: Store) -> None:
    rows = sequences(store, phase())
    with pytest.raises(InvalidPhase, match=r"rows of 16 tokens, but phases\.pretrain\.sequence_length=32"):
        make(store, checkpoint_step(store, MODEL, phase(sequence_length=32), rows))
    with pytest.raises(InvalidPhase, match=r"48 rows, but .* needs 52 \(steps=13 x global_batch=4\)"):
        make(store, checkpoint_step(store, MODEL, phase(steps=13), rows))
    with pytest.raises(TokensError, match="vocab"):
        make(store, checkpoint_step(store, replace(MODEL, vocab_size=32), phase(), rows))


def test_damaged_rows_are_named(store: Store) -> None:
    rows = sequences(store, phase())
    path = Path(rows.uri, "sequences/00000.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifact, match=r"sequences/00000\.arrow"):
        make(store, checkpoint_step(store, MODEL, phase(), rows))


def test_what_is_there_is_not_trained_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = train(store)
    monkeypatch.setattr("k2model.training.engine.Engine.step", None)
    assert train(store) == ref


def test_a_second_job_on_the_same_phase_is_turned_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("k2model.training.train.STALE_SECONDS", 1.0)  # how long it waits for the first one
    with store.lease(checkpoint_identity(MODEL, phase(), sequences(store, phase()))):
        with pytest.raises(LeaseHeld):
            train(store)
    assert train(store).kind == "checkpoint"


def test_divergence_names_step_and_rows_and_saves_nothing_of_it(store: Store) -> None:
    wild = replace(phase().optimizer, lr=1e30)
    schedule = ScheduleConfig(ScheduleShape.CONSTANT)
    with pytest.raises(TrainingDiverged, match=r"diverged at step 1: the gradient norm stopped .* rows 0\.\.7 of "):
        train(store, optimizer=wild, schedule=schedule, checkpoints={"save_every": 1}, spikes={"max_rollbacks": 0})
    saved = sorted(p.name for p in Path(store.uri).glob("checkpoint/*/checkpoints/*"))
    assert saved == ["step-0000001"]
    assert not list(Path(store.uri).glob("checkpoint/*/manifest.json"))


def test_only_the_newest_checkpoints_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise K2Error("stopped before the end")

    monkeypatch.setattr("k2model.training.attempt.Attempt._adopt", stop)
    with pytest.raises(K2Error, match="stopped"):
        train(store, checkpoints={"save_every": 2, "keep_last": 3})
    saved = sorted(p.name for p in Path(store.uri).glob("checkpoint/*/checkpoints/*"))
    assert saved == ["step-0000006", "step-0000008", "step-0000010"]


def test_a_model_of_another_shape_cannot_start_from_the_parent(store: Store) -> None:
    parent = train(store)
    with pytest.raises(CheckpointMismatch) as raised:
        train(store, parent, model=replace(MODEL, vocab_size=80), name="mid_1")
    for part in ("model.embedding.weight", "[64, 16]", "[80, 16]", "'pretrain'", "'mid_1'", "vocab_size"):
        assert part in str(raised.value)


def test_a_parent_that_is_missing_or_not_asked_for_or_of_another_phase_is_refused(store: Store) -> None:
    parent, child = train(store), phase(name="mid_2", parent="mid_1")
    rows = sequences(store, child)
    with pytest.raises(InvalidPhase, match=r"phases.mid_2 starts from phase 'mid_1', whose checkpoint was not given"):
        make(store, checkpoint_step(store, MODEL, child, rows))
    with pytest.raises(InvalidPhase, match=r"phases.pretrain.parent is empty, so it starts from random weights"):
        make(store, checkpoint_step(store, MODEL, phase(seed=1), rows, parent))
    with pytest.raises(InvalidPhase, match="can start from a checkpoint, not from sequences/"):
        make(store, checkpoint_step(store, MODEL, child, rows, rows))
    with pytest.raises(CheckpointMismatch, match=r"of phase 'pretrain', but phases.mid_2.parent='mid_1'"):
        make(store, checkpoint_step(store, MODEL, child, rows, parent))


def test_a_run_that_is_cut_on_the_constant_of_an_infinite_schedule_learns_as_if_it_was_not(store: Store) -> None:
    infinite = ScheduleConfig(ScheduleShape.INFINITE, 2, cooldown_steps=3, constant_fraction=0.5)
    whole = phase(steps=12, schedule=infinite)
    first = phase(steps=7, schedule=infinite)
    # As a turn has it: the same phase, from the checkpoint that it made before, which its parent stands for.
    second = phase(steps=5, parent="champion", schedule=ScheduleConfig(ScheduleShape.INFINITE, constant_fraction=0.5))
    uncut = make(store, checkpoint_step(store, MODEL, whole, sequences(store, whole)))
    begun = make(store, checkpoint_step(store, MODEL, first, sequences(store, first, part=(0, 12))))
    gone_on = make(store, checkpoint_step(store, MODEL, second, sequences(store, second, part=(7, 12)), begun))
    wanted = [(row["loss"], row["lr"]) for row in metrics(uncut)]
    assert [(row["loss"], row["lr"]) for row in (*metrics(begun), *metrics(gone_on))] == wanted
    ends = [load_model_state(one.uri) for one in (uncut, gone_on)]
    assert all(bool((ends[0][name] == ends[1][name]).all()) for name in ends[0])


def test_another_optimizer_cannot_take_the_parents_state_but_its_weights(store: Store) -> None:
    parent = train(store)
    with pytest.raises(CheckpointMismatch, match=r"optimizer\.blocks\.0.*exp_avg.*keep_optimizer_state=false"):
        train(store, parent, name="mid_1", optimizer_name="adamw")
    child = train(store, parent, name="mid_1", optimizer_name="adamw", keep_optimizer_state=False)
    progress = read_checkpoint(store_files(child)).progress
    assert progress.optimizer_steps == progress.step == 12
    assert metrics(child)[0]["loss"] < metrics(parent)[0]["loss"] - 0.2


def test_a_warm_start_begins_with_exactly_the_parents_weights(store: Store) -> None:
    parent = train(store)
    frozen = replace(phase().optimizer, lr=1e-30)
    child = train(store, parent, name="mid_1", optimizer=frozen)
    ours, theirs = load_model_state(child.uri), load_model_state(parent.uri)
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


def test_an_object_store_gets_the_same_artifact(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", str(tmp_path / "home"))
    remote = Store.open(f"memory://{tmp_path.name}")
    there = train(remote)
    here = train(store)
    assert there.digest == here.digest
    folder = remote.fetch(there)
    rows = (folder / "attachments/metrics.jsonl").read_text().splitlines()
    assert len(rows) == 12 and not (folder / "checkpoints").exists()


def store_files(ref: ArtifactRef) -> Any:
    from k2model.artifacts.files import files_at

    return files_at(f"{ref.uri}/final")
