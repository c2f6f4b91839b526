"""Checkpoint and export beside each other: real weights, Hugging Face's own code, and errors put into the export."""

import json
import shutil
from pathlib import Path

import pytest

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.continual.state import Outcome
from k2model.continual.verdict.parity import PIECE, parity_step, pieces, read_parity
from tests.continual import small_line
from tests.promotion.lifecycles import Home, Trained, recipe


def changed(store: Store, export: ArtifactRef, **stated: object) -> ArtifactRef:
    """The same export whose config.json states something else."""

    def produce(folder: Path) -> dict[str, float]:
        shutil.copytree(store.fetch(export), folder, dirs_exist_ok=True)
        for name in ("manifest.json", "artifact.json"):
            (folder / name).unlink(missing_ok=True)
        file = folder / "config.json"
        file.chmod(0o644)
        file.write_text(json.dumps({**json.loads(file.read_text()), **stated}))
        return {}

    return store.build(Identity("export", "1", {"stated": json.dumps(stated)}, {"export": export}), produce)


def apart(home: Home, trained: Trained, export: ArtifactRef) -> float:
    step = parity_step(home.store, small_line.MODEL, trained.refs["checkpoint"], export)
    return read_parity(home.store, make(home.store, step))["difference"]


def test_an_export_says_what_its_checkpoint_says_at_the_end_of_a_long_context(
    home: Home, trained: dict[str, Trained]
) -> None:
    good, export = trained["good"], trained["good"].refs["export"]
    assert apart(home, good, export) < 1e-4
    theta = {"rope_theta": 1.1e4, "rope_parameters": {"rope_theta": 1.1e4, "rope_type": "default"}}
    assert apart(home, good, changed(home.store, export, **theta)) > 0.01, "another theta than it was trained with"
    long = changed(home.store, export, max_position_embeddings=100_000)
    assert apart(home, good, long) < 1e-3
    assert apart(home, good, changed(home.store, long, **theta)) > 0.01


def test_pieces_are_the_beginning_the_middle_and_the_end() -> None:
    assert pieces(200).tolist() == list(range(200))
    found = pieces(100_000).tolist()
    assert len(found) == 3 * PIECE and found[0] == 0 and found[-1] == 99_999 and found[PIECE] == 49_968


def test_an_export_of_other_weights_is_not_promoted(home: Home, trained: dict[str, Trained]) -> None:
    good = trained["good"]
    swapped = Trained(good.phase, {**good.refs, "export": trained["ruined"].refs["export"]})
    found = home.judged(recipe(parity=0.001), swapped, 3)
    (parity,) = (one for one in found.gates if one.gate == "parity")
    assert found.outcome is Outcome.REFUSED and not parity.passed and parity.value > 0.1 and parity.maximum == 0.001


@pytest.mark.parametrize("parity", [0.001])
def test_parity_is_asked_where_the_recipe_says_so(home: Home, trained: dict[str, Trained], parity: float) -> None:
    found = home.judged(recipe(parity=parity), trained["good"], 3)
    (told,) = (one for one in found.gates if one.gate == "parity")
    assert told.passed and "at most 0.001 is allowed" in told.said and found.outcome is Outcome.PROMOTED
