"""K2's weights in Hugging Face's Llama form and back: names, the norms' +1, and the config files.

A Llama gain is stored whole, ours as gain minus one; forgetting the one is the classic way to break
such an export. Heads need no permutation: both sides rotate halves. The files of weights are `shards`', those of an
artifact `step`'s; tokenizer files are only copied there.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from k2model.errors import K2Error
from k2model.recipe.schema import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

_OUTSIDE = {
    "embedding.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
_INSIDE = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.down.weight": "mlp.down_proj.weight",
}  # fmt: skip


class ExportError(K2Error):
    """An exported model, or the checkpoint it should be made of, has not the agreed form."""


def llama_names(config: ModelConfig) -> dict[str, str]:
    """Our parameter name -> Llama's, for every parameter of the model."""
    names = dict(_OUTSIDE)
    for layer in range(config.n_layers):
        names |= {f"blocks.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in _INSIDE.items()}
    return names


def to_llama(state: Mapping[str, "Tensor"], config: ModelConfig) -> dict[str, "Tensor"]:
    """A state dict of ours in Llama's names, gains whole: of a model that is in memory as it is."""
    return {theirs: to_llama_tensor(ours, state[ours]) for ours, theirs in llama_names(config).items()}


def to_llama_tensor(name: str, tensor: "Tensor") -> "Tensor":
    """Our parameter `name`, or a part of it, as Llama's: gains whole."""
    return _whole_gain(name, tensor, 1.0)


def from_llama_tensor(name: str, tensor: "Tensor") -> "Tensor":
    """A tensor of Llama's, or a part of it, as ours, whose parameter `name` is."""
    return _whole_gain(name, tensor, -1.0)


def llama_config(
    config: ModelConfig, rope_theta: float, max_positions: int, ids: Mapping[str, Any], dtype: str = "float32"
) -> dict[str, Any]:
    """`config.json` for LlamaForCausalLM; `ids` holds bos, eos and pad, None for one that there is not. `dtype` is
    what the weights are stored in.

    Two fields are written twice: transformers 5 reads `rope_parameters` and `dtype`, version 4 `rope_theta` and
    `torch_dtype`.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids["bos"],
        "dtype": dtype,
        "eos_token_id": ids["eos"],
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.init_std,
        "intermediate_size": config.ffn_size,
        "max_position_embeddings": max_positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": config.n_heads,
        "num_hidden_layers": config.n_layers,
        "num_key_value_heads": config.n_kv_heads,
        "pad_token_id": ids["pad"],
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": {"rope_theta": rope_theta, "rope_type": "default"},
        "rope_theta": rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _whole_gain(name: str, tensor: "Tensor", offset: float) -> "Tensor":
    return tensor + offset if name.endswith("norm.weight") else tensor
