"""Spikes in real trainings: garbage rows and weights that turn NaN, ridden out, undone, or given up on."""

import json
from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.training import TrainingDiverged
from k2model.training.world import World
from tests.training.job import Job, metrics, phase, run, sequences

STEPS = 60
BASE: dict[str, Any] = {
    "steps": STEPS,
    "global_batch": 8,
    "precision": "fp32",
    "checkpoints": {"save_every": 8},
    "spikes": {"window": 16, "threshold": 6.0, "tolerated": 3, "margin": 1, "max_rollbacks": 2},
}
NARROW, WIDE = (41, 42), (41, 48)


def spec(folder: Path, **more: Any) -> dict[str, Any]:
    sequences(Store.open(folder), phase(**BASE), garbage=more.get("garbage"))
    return {"store": str(folder), "phase": BASE, **more}


def interventions(ref: ArtifactRef) -> list[dict[str, Any]]:
    return json.loads(Path(ref.uri, "final/state.json").read_text())["interventions"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, world: World) -> ArtifactRef:
    return run(spec(tmp_path_factory.mktemp("calm")))


def losses(ref: ArtifactRef) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in metrics(ref)}


def test_a_narrow_spike_is_ridden_out(calm: ArtifactRef, tmp_path: Path, world: World) -> None:
    made = run(spec(tmp_path, garbage=NARROW))
    assert interventions(made) == [] and made.stats["interventions"] == 0
    seen, undisturbed = losses(made), losses(calm)
    assert list(seen) == list(range(STEPS))
    assert all(seen[step] > undisturbed[step] + 0.3 for step in range(NARROW[0], NARROW[1] + 1)), "there was a spike"


def test_a_wide_spike_is_undone_and_its_rows_left_out(calm: ArtifactRef, tmp_path: Path, world: World) -> None:
    made = run(spec(tmp_path, garbage=WIDE))
    [first, *_] = done = interventions(made)
    assert (first["first_step"], first["resumed_from"]) == (WIDE[0] - 1, 40)
    assert first["last_step"] == WIDE[0] + 3, "one more than tolerated"
    assert min(first["losses"]) > first["before"] + 6 * first["deviation"]
    assert len(done) == 2, "the garbage is as wide as two windows"
    left_out = {step for i in done for step in range(i["first_step"], i["last_step"] + 1)}
    assert list(losses(made)) == [step for step in range(STEPS) if step not in left_out]
    assert made.stats["tokens"] == (STEPS - len(left_out)) * 8 * 16 == metrics(made)[-1]["tokens"]
    seen, undisturbed = losses(made), losses(calm)
    assert {s: loss for s, loss in seen.items() if s < 40} == {s: v for s, v in undisturbed.items() if s < 40}
    last = done[-1]
    assert last["after"] == pytest.approx(undisturbed[55], abs=0.5) and last["after"] < min(first["losses"])


def test_a_weight_that_turns_nan_is_undone_from_the_checkpoint_before(
    calm: ArtifactRef, tmp_path: Path, world: World
) -> None:
    made = run(spec(tmp_path, poison=[30]))
    [only] = interventions(made)
    assert (only["first_step"], only["last_step"], only["resumed_from"]) == (29, 30, 24)
    assert only["losses"] == [None] and "stopped being a number at step 30" in only["reason"]
    assert losses(made)[28] == losses(calm)[28]
    assert losses(made)[STEPS - 1] == pytest.approx(losses(calm)[STEPS - 1], abs=0.3)


def test_without_a_checkpoint_before_it_training_begins_anew(tmp_path: Path, world: World) -> None:
    made = run(spec(tmp_path, poison=[3]))
    [only] = interventions(made)
    assert (only["first_step"], only["resumed_from"]) == (2, 0)
    assert list(losses(made)) == [0, 1, *range(4, STEPS)]


def test_what_comes_back_again_and_again_ends_the_phase_with_the_evidence(tmp_path: Path, world: World) -> None:
    with pytest.raises(TrainingDiverged) as raised:
        run(spec(tmp_path, poison=range(30, STEPS)))
    message = str(raised.value)
    assert "phase 'pretrain' diverged at step 32" in message and "rows 248..263" in message
    assert "spikes.max_rollbacks=2, taken for: steps 29..30" in message and "steps 30..31" in message
    assert "lower optimizer.lr" in message
    [folder] = Path(tmp_path, "checkpoint").iterdir()
    assert not (folder / "manifest.json").exists() and not (folder / "final").exists()
    assert (folder / "checkpoints/step-0000024/manifest.json").exists(), "what was good is kept"


def test_all_workers_decide_alike_and_a_killed_job_decides_again(tmp_path: Path) -> None:
    """A worker is killed behind the rollback; the resumed job comes to the weights of an undisturbed one."""
    first, second = tmp_path / "first", tmp_path / "second"
    specs = [spec(first, garbage=WIDE), spec(tmp_path / "poisoned", poison=[30])]
    undisturbed, poisoned = Job(tmp_path / "calm", specs).result()
    assert len(interventions(undisturbed)) == 2 and len(interventions(poisoned)) == 1
    slow = Job(tmp_path / "slow", [spec(second, garbage=WIDE, pause=0.05)])
    slow.wait_for(f"{second}/checkpoint/*/checkpoints/step-0000056/manifest.json")
    slow.kill()
    [resumed] = Job(tmp_path / "again", [spec(second, garbage=WIDE)]).result()
    assert resumed.digest == undisturbed.digest
    assert interventions(resumed) == interventions(undisturbed)
