"""What `benchmarks.gpu` runs on one device, a GPU where there is one: each function in a process of its own.

Rows count upwards from a random token, so that a model learns something in a few steps; their documents are whole rows
(`dense`) or of lognormal lengths (`documents`).
"""

import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.errors import Preempted
from k2model.recipe.k2_sizes import k2_1b
from k2model.recipe.schema import ModelConfig, PhaseConfig, Precision, Recompute, ScheduleConfig, ScheduleShape

STOPPED_AT = 3  # steps taken when the run that is resumed is told to stop
ROUNDS, WARM = 3, 2
SIGMA = 1.0  # of the lognormal lengths of documents, whose median is a twelfth of a row


Step = Callable[[Any], float]  # on one batch; its mean loss


class Workload(StrEnum):
    DENSE = "dense"
    DOCUMENTS = "documents"


@dataclass(frozen=True)
class Sizes:
    """`model` and `phase` are trained as they are; `shallow` and `short` where a CPU has to keep up, or files are kept.
    `timed`: steps of a round."""

    model: ModelConfig
    phase: PhaseConfig
    shallow: ModelConfig
    short: PhaseConfig
    timed: int


def sizes(tiny: bool) -> Sizes:
    """The shape, precision, recomputation and micro-batch of k2_1b's pre-training, on one worker; two micro-batches."""
    recipe = k2_1b()
    model, first = recipe.model, recipe.phases[0]
    if tiny:
        model = replace(
            model, vocab_size=256, hidden_size=64, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, ffn_size=160
        )
        first = replace(first, sequence_length=192, parallelism=replace(first.parallelism, micro_batch=2))
    layout = replace(first.parallelism, nodes=1, workers_per_node=1, loader_workers=0)
    phase = replace(
        first, parallelism=layout, global_batch=2 * layout.micro_batch, steps=2, norms_every=0,
        schedule=ScheduleConfig(ScheduleShape.CONSTANT), checkpoints=replace(first.checkpoints, save_every=0),
    )  # fmt: skip
    short = replace(
        phase, sequence_length=64 if tiny else 512, global_batch=4, steps=6, norms_every=2,
        parallelism=replace(layout, micro_batch=2),
    )  # fmt: skip
    return Sizes(model, phase, replace(model, n_layers=2), short, timed=2)


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def facts() -> dict[str, Any]:
    """Of the device, torch and what it was built with."""
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu", "cuda": torch.version.cuda}
    card = torch.cuda.get_device_properties(0)
    return {
        "device": card.name,
        "memory": card.total_memory,
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
    }


def rows(store: Store, model: ModelConfig, phase: PhaseConfig, workload: Workload) -> ArtifactRef:
    """Packed rows for `phase.steps` steps, every token but the first of a document a target."""
    from k2model.tokens.rows import Rows, RowsIndex, write_rows

    count, length = phase.steps * phase.global_batch, phase.sequence_length

    def produce(folder: Path) -> dict[str, float]:
        random = np.random.default_rng(phase.seed)
        period = model.vocab_size // 2
        tokens = (random.integers(0, period, (count, 1)) + np.arange(length)) % period
        pieces = [document_lengths(length, workload, random) for _ in range(count)]
        loss_mask = np.ones((count, length), dtype=np.bool_)
        for row, lengths in zip(loss_mask, pieces, strict=True):
            row[np.cumsum([0, *lengths[:-1]])] = False
        packed = Rows(
            tokens=tokens.astype(np.uint32),
            loss_mask=loss_mask,
            pieces=np.array([len(lengths) for lengths in pieces]),
            length=np.concatenate(pieces).astype(np.int32),
            source=np.zeros(sum(map(len, pieces)), dtype=np.uint8),
        )
        index = RowsIndex(count, length, count, 1, ["made"], ["made"], vocab_size=model.vocab_size, pad=0)
        write_rows(folder, [packed], index)
        return {}

    shape = {"rows": count, "length": length, "vocabulary": model.vocab_size, "workload": workload.value}
    return store.build(Identity("sequences", "benchmark", shape), produce)


def document_lengths(length: int, workload: Workload, random: np.random.Generator) -> list[int]:
    """Of one row, which they fill."""
    if workload is Workload.DENSE:
        return [length]
    drawn = random.lognormal(np.log(length / 12), SIGMA, length).astype(np.int64).clip(2, length)
    ends = drawn.cumsum()
    whole = drawn[: int(np.searchsorted(ends, length))].tolist()
    return [*whole, length - sum(whole)]


def _batches(folder: str, model: ModelConfig, phase: PhaseConfig, workload: Workload, layout: Any) -> list[Any]:
    from k2model.tokens import PackedSequences
    from k2model.training.batch import read_batch

    store = Store.open(folder)
    found = PackedSequences.open(store, rows(store, model, phase, workload))
    return [read_batch(found, step, phase.global_batch, layout) for step in range(phase.steps)]


def steps(sizes: Sizes, precision: str) -> list[dict[str, float]]:
    """Loss and gradient norm of each step of the shallow model."""
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout
    from k2model.training.world import World

    bf16 = precision == "bf16"
    phase = replace(sizes.short, precision=Precision(precision), bf16_residual=bf16 and sizes.short.bf16_residual)
    with World().joined():
        layout = Layout.of(World(), phase.parallelism)
        batches = _batches(f"{os.environ['K2_HOME']}/rows", sizes.shallow, phase, Workload.DOCUMENTS, layout)
        engine = Engine(sizes.shallow, phase, layout)
        outcomes = [engine.step(batch, phase.optimizer.lr, batch.targets, 1) for batch in batches]
        return [
            {"loss": float(outcome.loss.nats_S.sum()) / batch.targets, "gradient norm": outcome.grad_norm}
            for batch, outcome in zip(batches, outcomes, strict=True)
        ]


def phase(sizes: Sizes, folder: str, stop: bool) -> tuple[list[list[float]] | None, int]:
    """The step that trains a phase, from the store to its metrics: (losses and norms, None where it was told to stop;
    steps this process took)."""
    import json

    from k2model.training import checkpoint_step
    from k2model.training.engine import Engine

    taken, take = [0], Engine.step

    def counted(self: Engine, *arguments: Any, **named: Any) -> Any:
        taken[0] += 1
        if stop and taken[0] == STOPPED_AT:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, *arguments, **named)

    Engine.step = counted  # type: ignore[method-assign]
    store = Store.open(folder)
    made = rows(store, sizes.shallow, sizes.short, Workload.DOCUMENTS)
    try:
        ref = make(store, checkpoint_step(store, sizes.shallow, sizes.short, made))
    except Preempted:
        return None, taken[0]
    lines = [json.loads(line) for line in Path(ref.uri, "attachments/metrics.jsonl").read_text().splitlines()]
    names = ("loss", "grad_norm", "parameter_norm", "update_ratio")
    return [[line[name] for name in names if line[name] is not None] for line in lines], taken[0]


def attention(sizes: Sizes) -> dict[str, Any]:
    """By name (largest error of outputs and gradients over the largest value, seconds forward and backward)."""
    import torch

    from k2model.model.attention import BlockAttention, DocumentAttention

    model, length, on = sizes.model, sizes.phase.sequence_length, device()
    lengths = document_lengths(length, Workload.DOCUMENTS, np.random.default_rng(0))
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))[None].to(on)
    torch.manual_seed(0)
    heads = [torch.randn(1, n, length, model.head_dim, device=on) for n in (model.n_heads, *2 * [model.n_kv_heads])]
    weight = torch.randn(heads[0].shape, device=on)

    def results(attend: Callable[..., Any], dtype: "torch.dtype") -> list[Any]:
        inputs = [x.to(torch.bfloat16).to(dtype).requires_grad_() for x in heads]
        out = attend(*inputs)
        return [out, *torch.autograd.grad(out, inputs, weight.to(torch.bfloat16).to(dtype))]

    exact = results(BlockAttention.causal(length, document), torch.float32)
    ways = {"per document": DocumentAttention.causal(length, document)}
    if on == "cuda":
        ways["in one call"] = DocumentAttention.causal(length, document, in_one_call=True)
    found: dict[str, Any] = {"shape": f"{len(lengths)} documents in {length} tokens, {model.n_heads} heads"}
    for name, attend in ways.items():
        apart = max(
            float((a.detach().float() - b.detach()).abs().max() / b.detach().abs().max())
            for a, b in zip(results(attend, torch.bfloat16), exact, strict=True)
        )
        again = partial(results, attend, torch.bfloat16)
        found[name] = (apart, statistics.median(_seconds(again) for _ in range(10)))
    return found


def _seconds(*work: Callable[[], Any]) -> float:
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    for one in work:
        one()
    wait()
    return time.perf_counter() - began


def speed(sizes: Sizes, limit: float) -> dict[str, Any]:
    """Ours alone for its memory, then ours, transformers' Llama and ours with deterministic kernels in turn, in one
    process so that all see the same card. At least one round each, and up to ROUNDS while `limit` seconds last."""
    import torch

    from k2model.export.hugging_face import to_llama
    from k2model.model import training_flops
    from k2model.recipe.memory import training_memory
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout
    from k2model.training.progress import machine_peak
    from k2model.training.world import World

    ends, model, phase, on = time.monotonic() + limit, sizes.model, sizes.phase, device()
    with World().joined():
        layout = Layout.of(World(), phase.parallelism)
        home = f"{os.environ['K2_HOME']}/rows"
        batches = {workload: _batches(home, model, phase, workload, layout) for workload in Workload}
        peak = machine_peak(World(), phase.precision)
        engine = Engine(model, phase, layout)

        def ours(batch: Any) -> float:
            return float(engine.step(batch, phase.optimizer.lr, batch.targets, 1).loss.nats_S.sum()) / batch.targets

        if on == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for batch in batches[Workload.DENSE][:WARM]:
            ours(batch)
        memory = torch.cuda.max_memory_allocated() if on == "cuda" else None
        contestants: dict[str, Step] = {"ours": ours}
        missing: dict[str, str] = {}
        first: dict[str, dict[str, float]] = {workload.value: {} for workload in Workload}
        llama, used = None, ""
        try:
            llama, contestants["transformers"], used = _llama(model, phase, on)
        except ImportError as error:
            missing["transformers"] = f"transformers is not here ({error})"
        except torch.OutOfMemoryError:
            missing["transformers"] = "it does not fit beside ours"
        contestants["deterministic"] = partial(_deterministic, ours)
        rates = {}
        for workload in Workload:
            if llama is not None:  # so that both have the same loss to begin with, if they do the same work
                llama.load_state_dict(to_llama(engine.deepspeed.module.model.state_dict(), model))
            told = missing, first[workload.value]
            rates[workload.value] = _rates(contestants, batches[workload], sizes, ends, *told)
        flops = {
            workload.value: training_flops(model, phase.tokens_per_step, found[0].attended) / phase.tokens_per_step
            for workload, found in batches.items()
        }
        return {
            "memory": (memory, training_memory(model, phase).peak), "peak": peak, "flops": flops, "rates": rates,
            "missing": missing, "first": first, "attention": used,
        }  # fmt: skip


def _rates(
    contestants: dict[str, Step], batches: list[Any], sizes: Sizes, ends: float,
    missing: dict[str, str], first: dict[str, float],
) -> dict[str, list[float]]:  # fmt: skip
    """By contestant tokens/s, one a round; they alternate and change their order. Who fails is noted in `missing`, the
    loss of each one's first step in `first`."""
    import torch

    rates: dict[str, list[float]] = {}
    for name, step in contestants.items():
        try:
            first[name] = step(batches[0])  # kernels of these shapes are loaded and chosen
            rates[name] = []
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if name == "ours":
                raise
            missing[name] = str(error).splitlines()[0]
    until = time.monotonic() + (ends - time.monotonic()) / 2
    for turn in range(ROUNDS):
        began = time.monotonic()
        for name in [*rates] if turn % 2 == 0 else [*rates][::-1]:
            timed = [partial(contestants[name], batches[step % len(batches)]) for step in range(sizes.timed)]
            rates[name].append(sizes.timed * sizes.phase.tokens_per_step / _seconds(*timed))
        if 2 * time.monotonic() - began > until:
            break
    return rates


def _deterministic(step: Step, batch: Any) -> float:
    """As under K2_DETERMINISTIC."""
    import torch

    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        return step(batch)
    finally:
        torch.use_deterministic_algorithms(False)


def _llama(model: ModelConfig, phase: PhaseConfig, on: str) -> tuple[Any, Step, str]:
    """(the model, a step on one of our batches, how it attends): fp32 weights under autocast, fused AdamW, clipping,
    the same rows in the same micro-batches. Documents are told apart by positions that start anew."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import is_flash_attn_2_available

    used = "flash_attention_2" if on == "cuda" and is_flash_attn_2_available() else "sdpa"
    config = LlamaConfig(
        vocab_size=model.vocab_size, hidden_size=model.hidden_size, intermediate_size=model.ffn_size,
        num_hidden_layers=model.n_layers, num_attention_heads=model.n_heads, num_key_value_heads=model.n_kv_heads,
        head_dim=model.head_dim, max_position_embeddings=phase.sequence_length, rms_norm_eps=model.rms_norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": phase.rope_theta}, initializer_range=model.init_std,
        tie_word_embeddings=False, use_cache=False, attn_implementation=used,
    )  # fmt: skip
    with torch.device(on):
        torch.manual_seed(phase.seed)
        llama = LlamaForCausalLM(config).train()
    if phase.parallelism.recompute is Recompute.FULL:
        llama.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(
        llama.parameters(), lr=phase.optimizer.lr, betas=(phase.optimizer.beta1, phase.optimizer.beta2),
        eps=phase.optimizer.eps, weight_decay=phase.optimizer.weight_decay, fused=True,
    )  # fmt: skip

    def step(batch: Any) -> float:
        nats = torch.zeros((), device=on)
        inputs = _inputs(batch)
        whole = int(inputs[2][:, -1].min()) == phase.sequence_length - 1
        for micro in zip(*(x.to(on).split(phase.parallelism.micro_batch) for x in inputs), strict=True):
            tokens, labels, positions = micro
            packed = {} if whole else {"position_ids": positions}
            with torch.autocast(on, torch.bfloat16, enabled=phase.precision is Precision.BF16):
                out = llama(input_ids=tokens, labels=labels, num_items_in_batch=batch.targets, **packed)
            out.loss.backward()
            nats += out.loss.detach()
        torch.nn.utils.clip_grad_norm_(llama.parameters(), phase.optimizer.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        return nats.item()

    return llama, step, used


def _inputs(batch: Any) -> tuple[Any, Any, Any]:
    """Tokens, labels (the token itself where it is a target) and positions in the document."""
    import torch

    from k2model.model.attention import document_starts
    from k2model.model.loss import IGNORED

    labels = torch.full_like(batch.targets_BT, IGNORED)
    labels[:, 1:] = batch.targets_BT[:, :-1]
    positions = torch.arange(labels.shape[1]) - document_starts(batch.document_BR)
    return batch.tokens_BT.long(), labels, positions


def evaluation(sizes: Sizes) -> dict[str, Any]:
    """By name what came out, or as text what was raised: fp32, the shallow model with weights drawn on the CPU."""
    import torch

    from k2model.generation import Engine, Request
    from k2model.model import K2Model

    length = sizes.short.sequence_length
    torch.manual_seed(0)
    model = K2Model(sizes.shallow, sizes.short.rope_theta, length).to(device()).eval()
    tokens = torch.randint(0, sizes.shallow.vocab_size, (2, length // 2), generator=torch.Generator().manual_seed(1))
    ids = tokens.tolist()
    engine = Engine(model)

    def nats(pairs: list[tuple[list[int], list[int]]]) -> float:
        found = [nat for score in engine.score(pairs) for nat in score.log_probabilities]
        return sum(found) / len(found)

    def choices() -> float:
        (head, other), sizes_of_tails = ids, (2, 3, 7)
        return nats([(head, other[:n]) for n in sizes_of_tails] + [(other, head[:n]) for n in sizes_of_tails])

    def written() -> list[list[int]]:
        found = dict(engine.run([Request(row, 8) for row in ids]))
        return [found[number].tokens for number in sorted(found)]

    return {
        "likelihood of texts": _or_said(lambda: nats([(row[:1], row[1:]) for row in ids])),
        "likelihood of choices": _or_said(choices),
        "generation": _or_said(written),
    }


def _or_said(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
