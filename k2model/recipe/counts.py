"""How large a model is: parameters and arithmetic a token. Formulas, no tensors; memory is in `memory`.

The plan, the report and the model card need these for the 70B model on machines that could never hold it. Of
arithmetic, communication, optimizer and recomputation are left out.
"""

from k2model.recipe.schema import ModelConfig


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
