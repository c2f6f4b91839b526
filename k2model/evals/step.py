"""The evaluation step of a phase: its workers make the cells that are missing, rank 0 gathers them in one artifact.

Cells (`k2model.evals.cells`) are artifacts of their own: what a matrix, another recipe or a killed attempt has measured
is found and not asked again. Scores do not depend on the number of workers. Which numbers count as good enough is the
gates' business.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, JobStep, Store
from k2model.errors import EvaluationError
from k2model.evals.cells import Cell, CellFailure, check_failures, make_cells, missing, results_of, rows_of, share
from k2model.evals.items import ITEMS, write_items
from k2model.evals.material import Material
from k2model.evals.measures import measures_of, retrieval
from k2model.evals.references import exported
from k2model.evals.scores import SCORES, write_scores
from k2model.evals.team import team_of
from k2model.recipe.fields import without_places
from k2model.recipe.schema import AdoptedModel, EvaluationConfig, PhaseConfig
from k2model.recipe.tasks import Method, benchmark_task, tasks_of
from k2model.training.failures import prefixed_stderr, reported
from k2model.training.world import World
from k2model.versions import STEP_VERSIONS

CELLS = "cells.json"  # of an artifact of kind `scores`: the cells it was gathered from


@dataclass(frozen=True)
class ScoresStep(JobStep):
    """cells: gives those that the scores are gathered from; where none is missing, no accelerator is needed."""

    cells: Callable[[], list[Cell]]


@contextlib.contextmanager
def joined_workers() -> Iterator[World]:
    """The world of this job, with a gloo process group inside the block when it has several workers, each on its GPU
    where there are any. What workers tell each other is Python objects, which no GPU need send.

    Not `World.joined`, which loads DeepSpeed. The group is taken down again: a process that ends with gloo's threads
    alive may abort.
    """
    import torch
    import torch.distributed as dist

    from k2model.training.rendezvous import form_group

    # One thread a worker: they share the cores, and sums in one order give the same numbers everywhere.
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.from_environment()
    if (device := world.device).type == "cuda":
        torch.cuda.set_device(device)  # what no tensor decides goes to the first GPU otherwise
    if world.size == 1 or dist.is_initialized():
        yield world
        return
    form_group("gloo", world.rank, world.size)
    try:
        with reported(world.rank), prefixed_stderr(world.rank):
            yield world
    finally:
        dist.destroy_process_group()


def scores_step(
    store: Store,
    config: EvaluationConfig,
    phase: PhaseConfig,
    corpus: ArtifactRef,
    tokens: ArtifactRef,
    tokenizer: ArtifactRef,
    export: ArtifactRef,
    parent_export: ArtifactRef | None = None,
    parent_phase: PhaseConfig | AdoptedModel | None = None,
    lengths: Sequence[int] = (),
) -> ScoresStep:
    """Score the exported model of `phase`; kind `scores`: `scores.json`, `items.parquet`, `cells.json`.

    It is run by every worker of a torch-elastic job, or by one process alone; all get the same
    reference. `lengths` are those retrieval is scored at. The parent is read where this phase raised
    RoPE theta, to show what theta alone does. Of `config.benchmarks` those that fit the phase count.

    Raises EvaluationError for a phase that raised theta and comes without its parent's export, CorpusError for a
    benchmark's file that cannot be read; to run it, when the corpus, the tokens or a benchmark lack what a score needs.
    """
    fitting = tuple(one for one in config.benchmarks if benchmark_task(one).fits(phase.kind))
    config = replace(config, benchmarks=fitting)
    parent = _extended_parent(phase, parent_phase, parent_export)
    inputs = {"corpus": corpus, "tokens": tokens, "tokenizer": tokenizer, "export": export}
    if parent is not None:
        inputs["parent_export"] = parent.export
    work = _Work(store, config, phase, tuple(sorted(set(lengths))), inputs, parent)
    return ScoresStep(work.identity, work.run, lambda: [cell for cell, _ in work.cells()])


@dataclass(frozen=True)
class Parent:
    """The model a phase started from, where its RoPE theta was another one: trained with rows of `window` tokens."""

    rope_theta: float
    window: int
    export: ArtifactRef


@dataclass(frozen=True)
class _Work:
    store: Store
    config: EvaluationConfig
    phase: PhaseConfig
    lengths: tuple[int, ...]
    inputs: dict[str, ArtifactRef]
    parent: Parent | None

    @cached_property
    def material(self) -> Material:
        """With the files of every benchmark as they are when the step is planned."""
        material = Material(self.store, self.inputs["corpus"], self.inputs["tokens"])
        for one in self.config.benchmarks:
            material.benchmark_files(one)
        return material

    @cached_property
    def identity(self) -> Identity:
        phase = self.phase
        read: dict[str, Any] = {
            "evaluation": without_places(self.config),
            "phase": {
                "name": phase.name,
                "kind": phase.kind,
                "sequence_length": phase.sequence_length,
                "rope_theta": phase.rope_theta,
            },
            "parent_rope_theta": self.parent.rope_theta if self.parent else None,
            "lengths": self.lengths,
            "cells": STEP_VERSIONS["score"],
        }
        if files := self.material.files:
            read["benchmarks"] = {name: [file.digest for file in own] for name, own in files.items()}
        return Identity("scores", STEP_VERSIONS["scores"], read, self.inputs)

    def run(self) -> ArtifactRef:
        """Finds the scores, or has the workers of this job make the cells that are missing and gathers them."""
        with joined_workers() as world:
            found = world.broadcast(lambda: self.store.find(self.identity))
            if found is not None:
                return found
            began = time.time()
            measure_shares(self.store, [cell for cell, _ in self.cells()], world, self.config.tensor)
            return world.broadcast(lambda: self.store.build(self.identity, self.gather, started=began))

    def cells(self) -> list[tuple[Cell, str]]:
        """Every cell of the phase in the order of its rows, and what goes behind the names of its scores: `@new_theta`
        and `@parent_theta` where the weights are the parent's, before training."""
        phase, inputs = self.phase, self.inputs
        own = exported(inputs["export"], inputs["tokenizer"], self.store, phase.name, phase.sequence_length)
        found = [
            (Cell(own, measure), "")
            for measure in measures_of(self.config, self.material, phase.kind, own.bounds, self.lengths)
        ]
        if self.parent and any(task.method is Method.RECALL for task in tasks_of(self.config, phase.kind)):
            length = phase.sequence_length
            for variant, theta in (("@parent_theta", None), ("@new_theta", phase.rope_theta)):
                subject = exported(
                    self.parent.export, inputs["tokenizer"], self.store, phase.parent, self.parent.window, theta
                )
                measure = retrieval(self.config, self.material, subject.bounds, length)
                found.append((Cell(subject, measure), variant))
        return found

    def gather(self, folder: Path) -> dict[str, float]:
        """The files of the scores, from cells that are all there; the stats are the scores by name."""
        refs = [(cell, variant, self.store.build(cell.identity, _lost)) for cell, variant in self.cells()]
        rows = [row for _, variant, ref in refs for row in rows_of(self.store, ref, self.phase.name, variant)]
        write_scores(folder / SCORES, rows)
        write_items(folder / ITEMS, [one for _, variant, ref in refs for one in results_of(self.store, ref, variant)])
        told = {
            f"{cell.measure.name}{variant}": {"cell": ref.name, "digest": ref.digest} for cell, variant, ref in refs
        }
        (folder / CELLS).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        return {row.score: row.value for row in rows}


def measure_together(store: Store, cells: Sequence[Cell], tensor: int = 1) -> None:
    """Makes the cells that are missing, by all workers of a job, each its share. Raises as `measure_shares`.

    tensor: how many workers hold a model together and share one share.
    """
    with joined_workers() as world:
        measure_shares(store, cells, world, tensor)


def measure_shares(store: Store, cells: Sequence[Cell], world: World, tensor: int = 1) -> None:
    """The same in a world that is joined. Collective. Raises CellsFailed on every worker, when all others are made,
    with every cell of any that failed; what ends a worker at once ends the others."""
    team = team_of(world, tensor)
    lacking = world.broadcast(lambda: [cell.identity.key for cell in missing(store, cells)])
    by_key = {cell.identity.key: cell for cell in cells}
    mine = share([by_key[key] for key in lacking], team.count)[team.number]

    def work() -> list[CellFailure]:
        done = team.together(lambda: make_cells(store, mine))
        return done[1] if done else []  # the first of a team tells

    failures = world.all_gather(work)
    check_failures([one for own in failures for one in own], len(lacking))


def _lost(_: Path) -> dict[str, float]:
    raise EvaluationError("a cell of these scores was removed while they were gathered; run again")


def _extended_parent(
    phase: PhaseConfig, parent: PhaseConfig | AdoptedModel | None, parent_export: ArtifactRef | None
) -> Parent | None:
    """The parent where it is read: in a phase that changed theta."""
    if parent is None or parent.rope_theta == phase.rope_theta:
        return None
    if parent_export is None:
        raise EvaluationError(
            f"phase '{phase.name}' has theta {phase.rope_theta:g} where its parent '{parent.name}' has "
            f"{parent.rope_theta:g}: scoring needs parent_export to show what theta alone does"
        )
    return Parent(parent.rope_theta, parent.sequence_length, parent_export)
