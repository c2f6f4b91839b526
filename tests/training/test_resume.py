"""What a killed phase leaves, taken up by one process: other world sizes, and damage found and named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactError, ArtifactRef, Store
from k2model.artifacts.files import LocalFiles
from k2model.training import checkpoint_step  # noqa: F401  what `run` calls
from k2model.training.checkpoint import list_checkpoints, read_checkpoint
from k2model.training.world import World
from tests.training.conftest import Story
from tests.training.job import Job, metrics, phase, run, sequences

NEWEST = "step-0000008"


@pytest.fixture
def killed(story: Story, tmp_path: Path, world: World) -> Path:
    """A store with a phase killed after step 8, by two workers, its checkpoints at 4 and 8."""
    return Path(shutil.copytree(story.killed_store, tmp_path / "store"))


def checkpoint(store: Path, name: str) -> Path:
    [folder] = Path(store, "checkpoint").glob(f"*/checkpoints/{name}")
    return folder


def resume(store: Path) -> ArtifactRef:
    return run({"store": str(store)})


def test_another_number_of_workers_goes_on_from_the_same_checkpoint(
    killed: Path, story: Story, capfd: pytest.CaptureFixture[str]
) -> None:
    ref = resume(killed)
    assert "going on from step 8 of 12" in capfd.readouterr().err
    calm = metrics(story.undisturbed[0])
    assert [row["step"] for row in metrics(ref)] == list(range(12))
    assert [row["loss"] for row in metrics(ref)] == pytest.approx([row["loss"] for row in calm], rel=2e-3)
    assert [p.name for p in Path(ref.uri, "final").glob("rank*")] == ["rank-00000-of-00001.safetensors"]


def truncate(folder: Path) -> str:
    shard = folder / "rank-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    return f"{NEWEST}/{shard.name}"


def flip_a_bit(folder: Path) -> str:
    shard = folder / "rank-00000-of-00002.safetensors"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    return f"{NEWEST}/{shard.name}"


def lose_a_shard(folder: Path) -> str:
    (folder / "rank-00000-of-00002.safetensors").unlink()
    return f"{NEWEST}/rank-00000-of-00002.safetensors is missing"


def change_the_step(folder: Path) -> str:
    state = folder / "state.json"
    state.write_text(state.read_text().replace('"step": 8', '"step": 9'))
    return f"{NEWEST}/state.json"


def garble_the_manifest(folder: Path) -> str:
    (folder / "manifest.json").write_text("{")
    return f"{NEWEST}/manifest.json"


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, lose_a_shard, change_the_step, garble_the_manifest])
def test_damage_is_refused_by_name_and_the_checkpoint_before_taken(
    killed: Path, story: Story, damage: Callable[[Path], str], capfd: pytest.CaptureFixture[str]
) -> None:
    named = damage(checkpoint(killed, NEWEST))
    ref = resume(killed)
    said = capfd.readouterr().err
    assert "checkpoint refused" in said and named in said
    assert "going on from step 4 of 12" in said
    assert [row["step"] for row in metrics(ref)] == list(range(12))
    calm = [row["loss"] for row in metrics(story.undisturbed[0])]
    assert [row["loss"] for row in metrics(ref)] == pytest.approx(calm, rel=2e-3)


def test_a_checkpoint_without_manifest_never_counts(killed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkpoint(killed, NEWEST) / "manifest.json").unlink()  # killed while it was written
    resume(killed)
    said = capfd.readouterr().err
    assert "going on from step 4 of 12" in said and "refused" not in said


def test_a_half_uploaded_checkpoint_never_counts_and_goes(killed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    half = shutil.copytree(checkpoint(killed, NEWEST), checkpoint(killed, NEWEST).with_name("step-0000010"))
    (half / "manifest.json").unlink()
    (half / "rank-00001-of-00002.safetensors").unlink()
    flip_a_bit(checkpoint(killed, NEWEST))
    resume(killed)
    said = capfd.readouterr().err
    assert "going on from step 4 of 12" in said and said.count("checkpoint refused") == 1
    assert not half.exists()


def test_a_store_that_cannot_be_read_is_no_reason_to_begin_anew(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not reaching a checkpoint says nothing about it: the attempt fails, and every checkpoint is still there."""

    def unreachable(*_: object) -> bytes:
        raise ArtifactError("cannot read the store")

    with monkeypatch.context() as broken:
        broken.setattr("k2model.artifacts.manifest.hash_stored", unreachable)
        with pytest.raises(ArtifactError, match="cannot read the store"):
            resume(killed)
    assert checkpoint(killed, NEWEST).exists() and checkpoint(killed, "step-0000004").exists()


def test_checkpoints_kept_for_good_outlive_the_phase(killed: Path) -> None:
    ref = run({"store": str(killed), "phase": {"checkpoints": {"save_every": 2, "keep_every": 4}}})
    files = LocalFiles(ref.uri)
    assert list_checkpoints(files) == [(4, "checkpoints/step-0000004"), (8, "checkpoints/step-0000008")]
    for step, folder in list_checkpoints(files):
        assert read_checkpoint(files.at(folder)).progress.step == step
    assert Store.open(killed).fetch(ref) == Path(ref.uri), "the artifact verifies beside them"


def test_without_a_good_checkpoint_it_begins_anew(
    killed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("step-0000004", NEWEST):
        flip_a_bit(checkpoint(killed, name))
    ref = resume(killed)
    assert capfd.readouterr().err.count("checkpoint refused") == 2
    fresh = run({"store": str(tmp_path / "fresh")})
    assert ref.digest == fresh.digest
    assert [row["loss"] for row in metrics(ref)] == [row["loss"] for row in metrics(fresh)]


def test_a_final_that_was_written_but_not_adopted_is_enough(killed: Path) -> None:
    ref = resume(killed)
    for name in ("manifest.json", "artifact.json"):
        Path(ref.uri, name).unlink()
    before = Path(ref.uri, "final/rank-00000-of-00001.safetensors").stat().st_mtime_ns
    again = resume(killed)
    assert again.digest == ref.digest
    after = Path(ref.uri, "final/rank-00000-of-00001.safetensors").stat().st_mtime_ns
    assert after == before, "the only copy of a finished state is never rewritten"
    assert len(metrics(again)) == 12


def test_two_workers_then_one_then_four_train_what_one_trains(tmp_path: Path, world: World) -> None:
    """The same phase killed on two workers and on one, finished by four, in fp32."""
    changes = {"precision": "fp32", "optimizer_name": "adamw"}
    spec = {"store": str(tmp_path / "store"), "phase": changes}
    calm = run({"store": str(tmp_path / "calm"), "phase": changes})
    sequences(Store.open(spec["store"]), phase(**changes))
    for workers, saved in ((2, 4), (1, 8)):
        job = Job(tmp_path / f"by-{workers}", [spec | {"pause": 0.05}], workers=workers)
        job.wait_for(f"{spec['store']}/checkpoint/*/checkpoints/step-{saved:07d}/manifest.json")
        job.kill()
    [made] = Job(tmp_path / "by-4", [spec], workers=4).result()
    assert len(list(Path(made.uri, "final").glob("rank-*-of-00004.safetensors"))) == 4
    for name in ("step", "targets", "loss", "grad_norm"):
        assert [row[name] for row in metrics(made)] == pytest.approx([row[name] for row in metrics(calm)], rel=1e-5), (
            name
        )
