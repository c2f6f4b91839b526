"""Workers that hold one model together: what the first asks is answered as by one worker with the whole model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from k2model.errors import EvaluationError
from k2model.evals.backend import Prompt, Sampling
from k2model.evals.references import own_model
from k2model.evals.team import Team, team_of
from k2model.recipe.evaluation import Mode
from k2model.training.world import World
from tests.evals.conftest import World as Made
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
