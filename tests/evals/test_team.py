"""Workers that hold one model together: what the first asks is answered as by one worker with the whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.artifacts import CorruptArtifact
from k2model.artifacts.files import LocalFiles
from k2model.errors import EvaluationError
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.references import _by_all, _kept_loaded, own_model
from k2model.evals.team import Team, team_of
from k2model.recipe.evaluation import Mode
from k2model.recipe.schema import ModelConfig
from k2model.training.checkpoint import step_folder
from k2model.training.world import World
from tests.evals.conftest import MODEL
from tests.evals.conftest import World as Made
from tests.evals.test_references import write_checkpoint
from tests.model.workers import together

ASKED = [
    (Prompt.of("Compute 1+2=", Mode.THINK), Sampling(20)),
    (Prompt.of("The capital of Peru is"), Sampling(12, stop=("im",))),
    (Prompt.of("Compute 7-2=", Mode.HIGH), Sampling(20, thinking_budget=2)),
    (Prompt.of("The capital of Cuba is"), Sampling(12, temperature=0.8, seed=3)),
]


def answers(folders: dict[str, str]) -> list[Any]:
    model = own_model(Path(folders["export"]), Path(folders["tokenizer"]), "m", 256)
    with pytest.raises(ValueError, match="positions of a model built for 256"):
        list(model.generate([(Prompt.of("a"), Sampling(300))]))
    next(iter(model.generate(ASKED)))  # and no more of it: the others stay with the first all the same
    said = sorted(model.generate(ASKED), key=lambda one: one[0])
    likely = model.likelihoods([(ASKED[1][0], " Lima"), (ASKED[1][0], " Rome")])
    (rolled,) = model.rolling(["The capital of Peru is Lima"])
    return [[one.text for _, one in said], [one.nats for one in (*likely, rolled)]]


def kept(folder: str, config: ModelConfig, theta: float, tokenizer: str) -> list[Any]:
    model = _by_all(_kept_loaded, folder, config, theta, Path(tokenizer), "m", 256)
    said = sorted(model.generate(ASKED[:2]), key=lambda one: one[0])
    (likely,) = model.likelihoods([(ASKED[1][0], " Lima")])
    return [[one.text for _, one in said], likely.nats, sum(p.numel() for p in model.model.parameters())]


def work_on_kept(rank: int, *arguments: Any) -> list[Any]:
    world = World(rank, 2, rank)
    team = team_of(world, 2)
    found = team.together(lambda: kept(*arguments))
    return [found]


def test_a_kept_checkpoint_is_read_in_parts(world: Made, tmp_path: Path) -> None:
    write_checkpoint(LocalFiles(tmp_path / "training"), world, 2)
    folder = str(tmp_path / "training" / step_folder(2))
    arguments = (folder, MODEL, world.phase.rope_theta, str(world.tokenizer))
    torch.set_num_threads(1)
    texts, nats, whole = kept(*arguments)
    (first,), (other,) = together(tmp_path / "team", 2, work_on_kept, *arguments)
    assert other is None and first[0] == texts and first[1] == pytest.approx(nats, abs=0.05)
    assert first[2] < 0.6 * whole  # gains are everybody's
    next(Path(folder).glob("*.safetensors")).write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact):
        kept(*arguments)


def failing(folders: dict[str, str]) -> None:
    answers(folders)
    raise EvaluationError("no items")


def work(rank: int, folders: dict[str, str], size: int) -> list[Any]:
    world = World(rank, size, rank)
    team = team_of(world, 2)
    found = team.together(lambda: answers(folders))
    try:
        failed = world.all_gather(lambda: team.together(lambda: failing(folders)))
    except EvaluationError as error:
        failed = str(error)
    return [team.number, team.count, found, failed, Team.current() is None]


def test_two_teams_of_two(world: Made, tmp_path: Path) -> None:
    folders = {"export": str(world.export), "tokenizer": str(world.tokenizer)}
    torch.set_num_threads(1)
    texts, nats = answers(folders)
    for rank, (number, count, found, failed, left) in enumerate(together(tmp_path, 4, work, folders, 4)):
        assert (number, count, left) == (rank // 2, 2, True)
        assert "no items" in failed  # of the first's failure every worker hears
        if rank % 2:
            assert found is None
            continue
        assert found[0] == texts
        assert found[1] == pytest.approx(nats, abs=0.05)  # in bf16


def test_workers_that_cannot_be_shared_out() -> None:
    with pytest.raises(EvaluationError, match=r"evaluation\.tensor=2 does not divide the job's 3 workers"):
        team_of(World(0, 3, 0), 2)
