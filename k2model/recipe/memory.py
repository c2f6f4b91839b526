"""What training takes of a GPU's memory, roughly: weights, gradients, optimizer, and activations under recomputation.

An estimate by formula, to choose layouts with; nothing of it has been measured on a GPU. It follows the model and the
engine of this project: everything that stays is fp32, matrix products take and give bf16, a block keeps its input alone
(`activation_checkpointing`), tensor parallelism cuts every matrix but the embedding, context parallelism every row.
"""

from dataclasses import dataclass

from k2model.recipe.counts import count_parameters
from k2model.recipe.schema import ModelConfig, Parallelism

WEIGHTS, GRADIENTS = 4, 4  # bytes a parameter, fp32
OPTIMIZER = 12  # AdamW's two moments and, under ZeRO, a copy of the weights (ZeRO, arXiv:1910.02054, section 3.1)
RESIDUAL = 4  # bytes: the stream between blocks is fp32
# At its peak the backward pass of one block holds these at once, in bytes for each position: of its width, normed
# inputs, heads, and sums and their gradients in fp32; of its ffn, gate and up, their product and both gradients.
OF_WIDTH, OF_FFN = 36, 14


@dataclass(frozen=True)
class Memory:
    """Bytes on one worker. `states`: weights, gradients, optimizer; `inputs`: what all blocks keep; `block`: one
    block's backward pass."""

    states: float
    inputs: float
    block: float

    @property
    def total(self) -> float:
        return self.states + self.inputs + self.block

    def __str__(self) -> str:
        parts = (self.states, self.inputs, self.block)
        named = zip(("weights, gradients, optimizer", "inputs of blocks", "one block backward"), parts, strict=True)
        return " + ".join(f"{size / 1e9:.1f} GB {name}" for name, size in named) + f" = {self.total / 1e9:.0f} GB"


def state_bytes(model: ModelConfig, layout: Parallelism) -> float:
    """Of weights, gradients and optimizer; ZeRO shares out the last (1), the last two (2) or all (3) over the workers
    of one tensor rank."""
    embedding = model.vocab_size * model.hidden_size
    held = embedding + (count_parameters(model) - embedding) / layout.tensor
    replicas = layout.nodes * layout.workers_per_node / layout.tensor
    shared_from = ((OPTIMIZER, 1), (GRADIENTS, 2), (WEIGHTS, 3))  # the first ZeRO stage that shares it out
    return held * sum(size / (replicas if layout.zero_stage >= stage else 1) for size, stage in shared_from)


def training_memory(model: ModelConfig, layout: Parallelism, sequence_length: int) -> Memory:
    """Of a phase with rows of `sequence_length`, `layout.micro_batch` of them at a time."""
    positions = layout.micro_batch * sequence_length / layout.context
    kept = model.n_layers * positions * model.hidden_size * RESIDUAL
    block = positions * (OF_WIDTH * model.hidden_size + OF_FFN * model.ffn_size / layout.tensor)
    return Memory(state_bytes(model, layout), kept, block)
