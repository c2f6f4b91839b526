"""What a killed phase leaves, taken up by one process: other world sizes, and damage found and named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef
from k2model.training import train_phase  # noqa: F401  what `run` calls
from k2model.training.world import World
from tests.training.conftest import Story
from tests.training.job import metrics, run

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
