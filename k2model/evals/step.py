"""The evaluation step: every worker measures its share of the score groups, rank 0 writes them down.

Scores do not depend on the number of workers. Which numbers count as good enough is the gates' business.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.artifacts import ArtifactRef, Identity, JobStep, Store
from k2model.errors import EvaluationError
from k2model.evals.scores import SAMPLES, SCORES, Outcome, write_scores
from k2model.recipe.fields import without_places
from k2model.recipe.schema import AdoptedModel, EvaluationConfig, PhaseConfig
from k2model.recipe.tasks import benchmark_task
from k2model.training.failures import prefixed_stderr, reported
from k2model.training.world import World
from k2model.versions import STEP_VERSIONS

if TYPE_CHECKING:
    import torch

    from k2model.documents.benchmarks import Benchmark, ItemFile
    from k2model.model.transformer import K2Model

_log = logging.getLogger(__name__)


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
) -> JobStep:
    """Score the exported model of `phase`; kind `scores` (`scores.json`, `attachments/samples.jsonl`).

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
    return JobStep(work.identity, work.run)


@dataclass(frozen=True)
class Parent:
    """The model a phase started from, where its RoPE theta was another one."""

    rope_theta: float
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
    def benchmark_files(self) -> "dict[str, tuple[ItemFile, ...]]":
        """The files of every benchmark, as they are when the step is planned."""
        from k2model.documents.benchmarks import benchmark_files

        return {one.name: benchmark_files(one) for one in self.config.benchmarks}

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
        }
        if files := self.benchmark_files:
            read["benchmarks"] = {name: [file.digest for file in own] for name, own in files.items()}
        return Identity("scores", STEP_VERSIONS["scores"], read, self.inputs)

    def run(self) -> ArtifactRef:
        """Finds the scores or measures them, together with the other workers of this job."""
        with joined_workers() as world:
            found = world.broadcast(lambda: self.store.find(self.identity))
            if found is not None:
                return found
            began = time.time()
            outcomes = self.measure(world)
            return world.broadcast(
                lambda: self.store.build(self.identity, lambda folder: write_outcomes(folder, outcomes), started=began)
            )

    def measure(self, world: World) -> list[Outcome]:
        """The outcomes of all groups in their order, on every worker; a worker's error reaches all."""
        from k2model.documents.benchmarks import read_benchmark
        from k2model.evals.groups import groups_of, share

        folders = {name: self.store.fetch(ref) for name, ref in self.inputs.items()}
        extended_to = self.phase.sequence_length if self.parent else None
        own = {one.name: read_benchmark(one, self.benchmark_files[one.name]) for one in self.config.benchmarks}
        sizes = {name: len(benchmark.items) for name, benchmark in own.items()}
        domains = heldout_domains(folders["tokens"])
        groups = groups_of(self.phase.kind, self.config, self.lengths, domains, extended_to, sizes)
        models = _Models(self, folders, own, world.device)

        def measure_share() -> dict[int, Outcome]:
            measured = {}
            for index in share(groups, world.size)[world.rank]:
                measured[index] = groups[index].run(models.of(groups[index].model))
                _log.debug("%s: measured %s", self.phase.name, groups[index].name)
            return measured

        everything = {i: outcome for part in world.all_gather(measure_share) for i, outcome in part.items()}
        return [everything[index] for index in range(len(groups))]


class _Models:
    """The models under evaluation, loaded once each to the worker's device."""

    def __init__(
        self, work: _Work, folders: dict[str, Path], benchmarks: "dict[str, Benchmark]", device: "torch.device"
    ) -> None:
        self.work, self.folders, self.benchmarks, self.device = work, folders, benchmarks, device
        self.loaded: dict[str, Any] = {}

    def of(self, kind: str) -> Any:
        if kind not in self.loaded:
            self.loaded[kind] = self._load(kind)
        return self.loaded[kind]

    def _load(self, kind: str) -> Any:
        from k2model.evals.generation import EvaluatedModel
        from k2model.evals.groups import OWN, RAISED
        from k2model.tokens import K2Tokenizer

        if kind != OWN:
            theta = self.work.phase.rope_theta if kind == RAISED else self.work.parent.rope_theta  # type: ignore[union-attr]
            return replace(self.of(OWN), model=self._model("parent_export", theta))
        return EvaluatedModel(
            phase=self.work.phase.name,
            window=self.work.phase.sequence_length,
            config=self.work.config,
            corpus=self.folders["corpus"],
            tokens=self.folders["tokens"],
            tokenizer=K2Tokenizer.load(self.folders["tokenizer"]),
            model=self._model("export"),
            benchmarks=self.benchmarks,
        )

    def _model(self, export: str, theta: float | None = None) -> "K2Model":
        """In half the memory on an accelerator: fp32 would be rounded again for every product there."""
        import torch

        from k2model.export import load_exported

        dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        return load_exported(self.folders[export], theta, self._positions(), dtype, self.device)

    def _positions(self) -> int:
        """Room for documents that a poor tokenizer makes longer than they aim at, and for chats."""
        return 2 * max(512, self.work.phase.sequence_length, *self.work.lengths, 0)


def write_outcomes(folder: Path, outcomes: Sequence[Outcome]) -> dict[str, float]:
    """`scores.json` and `attachments/samples.jsonl`; the stats are the scores by name."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    write_scores(folder / SCORES, rows)
    lines = [json.dumps(asdict(sample), ensure_ascii=False) for outcome in outcomes for sample in outcome.samples]
    (folder / SAMPLES).parent.mkdir()
    (folder / SAMPLES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {row.score: row.value for row in rows}


def heldout_domains(tokens: Path) -> dict[str, list[str]]:
    """Domain -> its sources that hold documents out, in order."""
    from k2model.tokens.shards import read_counts

    domains: dict[str, list[str]] = {}
    for source, counts in sorted(read_counts(tokens)["heldout"].items()):
        if counts["targets"]:
            domains.setdefault(counts["domain"], []).append(source)
    return domains


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
    return Parent(parent.rope_theta, parent_export)
