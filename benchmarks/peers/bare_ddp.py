"""Our model, loss and optimizer under torch's DistributedDataParallel: what DeepSpeed and the loop add to it."""

from collections.abc import Iterator
from typing import Any

from benchmarks.peers import loop
from benchmarks.peers.job import join
from benchmarks.peers.workload import MODEL, WORKERS, Measured, Trial, rows


def run(trial: Trial) -> Measured:
    import torch
    import torch.distributed as dist

    from k2model.artifacts import Store
    from k2model.model import K2Model
    from k2model.tokens import PackedSequences
    from k2model.training.batch import read_batch
    from k2model.training.engine import Objective
    from k2model.training.layout import Layout
    from k2model.training.optimizers import K2Optimizer
    from k2model.training.world import World

    join()
    phase = trial.phase
    torch.manual_seed(phase.seed)
    model = Objective(K2Model(MODEL, phase.rope_theta, phase.sequence_length), phase.precision, phase.z_loss)
    optimizer = K2Optimizer(model.named_parameters(), phase.optimizer, phase.optimizer.grad_clip)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    layout = Layout.of(World.from_environment(), phase.parallelism)
    sequences = PackedSequences.open(Store.open(trial.store), rows(trial))

    def batches() -> Iterator[tuple[tuple[Any, ...], int]]:
        for step in range(trial.steps):
            batch = read_batch(sequences, step, phase.global_batch, layout)
            targets = torch.tensor(batch.targets)
            dist.all_reduce(targets)
            arguments = (batch.tokens_BT, batch.targets_BT, batch.document_BR, WORKERS / int(targets))
            yield arguments, batch.targets

    def losses(batch: tuple[Any, ...]) -> torch.Tensor:
        *arguments, scale = batch
        return parallel(*arguments)[0] * scale

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad()

    try:
        return loop.run(trial, batches(), losses, update)
    finally:
        dist.destroy_process_group()
