"""How large a model is: parameters, arithmetic a token, and roughly what training takes of a GPU. Formulas, no tensors.

The plan, the report and the model card need these for the 70B model on machines that could never hold it. Of
arithmetic, communication, optimizer and recomputation are left out.

Memory is an estimate to choose layouts with: weights, gradients, optimizer, and activations under recomputation;
nothing of it has been measured on a GPU. It follows the model and the engine: everything that stays is fp32, products
take and give bf16, a block keeps its input alone (`Recompute.FULL`), tensor parallelism cuts every matrix, context
parallelism every row.
"""

from dataclasses import dataclass

from k2model.recipe.schema import ModelConfig, Parallelism

WEIGHTS, GRADIENTS = 4, 4  # bytes a parameter, fp32
OPTIMIZER = 12  # AdamW's two moments and, under ZeRO, a copy of the weights (ZeRO, arXiv:1910.02054, section 3.1)
RESIDUAL = 4  # bytes: the stream between blocks is fp32
# At its peak the backward pass of one block holds these at once, in bytes for each position: of its width, normed
# inputs, heads, and sums and their gradients in fp32; of its ffn, gate and up, their product and both gradients.
OF_WIDTH, OF_FFN = 36, 14


def count_parameters(config: ModelConfig) -> int:
    """All trained parameters, input and output embedding included."""
    return count_non_embedding_parameters(config) + 2 * config.vocab_size * config.hidden_size


def count_non_embedding_parameters(config: ModelConfig) -> int:
    """Parameters of the blocks and the final norm."""
    hidden, query, key_value = config.hidden_size, config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    # Of a block: q, k, v, o, gate, up, down and two norms.
    block = 2 * hidden * (query + key_value) + 3 * hidden * config.ffn_size + 2 * hidden
    return config.n_layers * block + hidden


def training_flops(config: ModelConfig, tokens: int, attended: int) -> int:
    """Forward and backward floating-point operations for `tokens` that attend to `attended` pairs of positions.

    `6 N tokens + 12 L H E attended` (PaLM, arXiv:2204.02311, appendix B): two operations per weight forward and four
    backward, plus the products of queries with keys and of attention with values over L layers and H heads of size E.
    The convention counts the whole square of a document's length although a causal kernel needs half of it. N leaves
    out the input embedding, which is looked up, not multiplied.
    """
    multiplied = count_parameters(config) - config.vocab_size * config.hidden_size
    return 6 * multiplied * tokens + 12 * config.n_layers * config.n_heads * config.head_dim * attended


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
    held = count_parameters(model) / layout.tensor  # but for the gains, which are few
    replicas = layout.nodes * layout.workers_per_node / layout.tensor
    shared_from = ((OPTIMIZER, 1), (GRADIENTS, 2), (WEIGHTS, 3))  # the first ZeRO stage that shares it out
    return held * sum(size / (replicas if layout.zero_stage >= stage else 1) for size, stage in shared_from)


def training_memory(model: ModelConfig, layout: Parallelism, sequence_length: int) -> Memory:
    """Of a phase with rows of `sequence_length`, `layout.micro_batch` of them at a time."""
    positions = layout.micro_batch * sequence_length / layout.context
    kept = model.n_layers * positions * model.hidden_size * RESIDUAL
    block = positions * (OF_WIDTH * model.hidden_size + OF_FFN * model.ffn_size / layout.tensor)
    return Memory(state_bytes(model, layout), kept, block)
