"""What every contestant trains: one model shape, one set of documents, one global batch.

`dense` has documents of exactly one row, every token a target: no padding for anyone. `documents` has
lengths as in supervised fine-tuning (lognormal, mostly short, a long tail) and a prompt without loss.
Token values are drawn from a seeded Markov chain, so that losses fall and can be compared; their text
means nothing. Each contestant lays the documents out as its users do.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.recipe.schema import (
    CheckpointConfig,
    MixtureEntry,
    ModelConfig,
    OptimizerConfig,
    OptimizerName,
    Packing,
    Parallelism,
    PhaseConfig,
    PhaseKind,
    Precision,
    ScheduleConfig,
    ScheduleShape,
)
from k2model.tokens import sequences_step
from k2model.tokens.shards import SCHEMA, open_shard

WORKERS = 2
MODEL = ModelConfig(
    vocab_size=4096, hidden_size=384, n_layers=6, n_heads=6, n_kv_heads=2, head_dim=64, ffn_size=1024, init_std=0.02
)
SEQUENCE = 512
ROWS = 8  # of a global batch
ROPE_THETA = 1e4
OPTIMIZER = OptimizerConfig(OptimizerName.ADAMW, lr=1e-3)
WORKLOADS = ("dense", "documents")
SHORTEST, MEDIAN, SIGMA = 20, 100, 0.7  # tokens; of the lognormal lengths, cut at SEQUENCE
PROMPT = 0.4  # of a document bears no loss
BRANCHES = 32  # successors a token has


@dataclass(frozen=True)
class Trial:
    """One round of one contestant: which documents, how many steps, and how products are multiplied."""

    workload: str
    store: str
    warmup: int
    timed: int
    precision: Precision
    micro_batch: int = 0
    zero_stage: int = 0

    @property
    def steps(self) -> int:
        return self.warmup + self.timed

    @property
    def phase(self) -> PhaseConfig:
        return PhaseConfig(
            name="sft",
            kind=PhaseKind.SFT,
            parent="",
            sequence_length=SEQUENCE,
            rope_theta=ROPE_THETA,
            global_batch=ROWS,
            steps=self.steps,
            optimizer=OPTIMIZER,
            schedule=ScheduleConfig(ScheduleShape.CONSTANT),
            mixture=(MixtureEntry(self.workload, 1.0),),
            packing=Packing.BEST_FIT,
            precision=self.precision,
            parallelism=Parallelism(workers_per_node=WORKERS, micro_batch=self.micro_batch, zero_stage=self.zero_stage),
            checkpoints=CheckpointConfig(save_every=0),
        )


@dataclass(frozen=True)
class Measured:
    """Of one worker, over all timed steps: `seconds` on the clock and `busy` seconds of the processor, `useful` =
    targets of this worker's share, `loss` in nats per target, a sign that something is learned."""

    seconds: float
    busy: float
    useful: int
    loss: float


class Clock:
    """Reads both clocks whenever a step has ended; what lies between two readings is data, step and logging."""

    def __init__(self) -> None:
        self.readings: list[tuple[float, float]] = []

    def step_ended(self) -> None:
        self.readings.append((time.perf_counter(), time.process_time()))

    def measured(self, trial: Trial, useful: int, loss: float) -> Measured:
        """From the end of the last warm-up step to the end of the last step."""
        assert len(self.readings) == trial.steps, f"{len(self.readings)} steps ended, expected {trial.steps}"
        (began, idle), (ended, busy) = self.readings[trial.warmup - 1], self.readings[-1]
        return Measured(ended - began, busy - idle, useful, loss)


@dataclass(frozen=True)
class Document:
    """`tokens` int64 and `target` bool, both [length]; the first token never is a target."""

    tokens: np.ndarray
    target: np.ndarray


def tokens(store: Store, steps: int) -> ArtifactRef:
    """A tokens artifact with one source a workload, and documents enough for `steps` steps."""

    def produce(folder: Path) -> dict[str, float]:
        counts = {}
        for workload in WORKLOADS:
            lengths = _lengths(workload, int(1.3 * steps * ROWS * SEQUENCE))
            _write_shard(folder / "train" / workload / "00000.arrow", lengths, 0.0 if workload == "dense" else PROMPT)
            counts[workload] = {"documents": len(lengths), "tokens": int(lengths.sum()), "domain": "chat"}
        content = {"vocab_size": MODEL.vocab_size, "bos": 1, "pad": 0, "train": counts, "heldout": {}}
        (folder / "counts.json").write_text(json.dumps(content))
        return {}

    return store.build(Identity("tokens", "benchmark", {"steps": steps}), produce)


def rows(trial: Trial) -> ArtifactRef:
    """The trial's packed rows, as the sequences_step step lays them out."""
    store = Store.open(trial.store)
    return make(store, sequences_step(store, trial.phase, tokens(store, trial.steps)))


def documents(trial: Trial) -> list[Document]:
    """The workload's documents in the order of the shard."""
    store = Store.open(trial.store)
    shard = open_shard(store.fetch(tokens(store, trial.steps)), "train", trial.workload)
    both = (shard.document(index) for index in range(len(shard)))
    return [Document(ids.astype(np.int64), target) for ids, target in both]


def documents_per_step(found: list[Document]) -> int:
    """How many documents a worker takes a step, so that a global batch holds about as many tokens as ours."""
    mean = sum(len(document.tokens) for document in found) / len(found)
    return round(ROWS * SEQUENCE / mean / WORKERS)


def _lengths(workload: str, total: int) -> np.ndarray:
    if workload == "dense":
        return np.full(total // SEQUENCE + 1, SEQUENCE)
    drawn = np.random.default_rng(1).lognormal(np.log(MEDIAN), SIGMA, total // SHORTEST)
    lengths = np.clip(drawn.astype(np.int64), SHORTEST, SEQUENCE)
    return lengths[: int(np.searchsorted(lengths.cumsum(), total)) + 1]


def _write_shard(path: Path, lengths: np.ndarray, prompt: float) -> None:
    random = np.random.default_rng(2)
    size = int(lengths.sum())
    successors = random.integers(1, MODEL.vocab_size, (MODEL.vocab_size, BRANCHES))
    ids, current = np.empty(size, np.uint32), 1
    for position, branch in enumerate(random.integers(0, BRANCHES, size)):
        ids[position] = current = successors[current, branch]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    offset = np.arange(size) - np.repeat(starts[:-1], lengths)
    loss = offset >= np.maximum(1, np.repeat((prompt * lengths).astype(np.int64), lengths))
    names = pa.array([f"document-{index}" for index in range(len(lengths))])
    offsets = pa.array(starts, pa.int32())
    columns = [names] + [
        pa.ListArray.from_arrays(offsets, pa.array(values), type=SCHEMA.field(name).type)
        for name, values in (("tokens", ids), ("loss_mask", loss))
    ]
    columns.append(pa.array(np.ones(len(lengths), np.int32)))
    path.parent.mkdir(parents=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
