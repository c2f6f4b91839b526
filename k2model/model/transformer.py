"""K2's architecture in plain torch: a Llama-shaped decoder, as one readable file.

Pre-norm blocks with zero-centred RMSNorm gains, grouped-query attention with rotary positions,
SwiGLU, untied embeddings, no biases (Megatron flags of K2-V2's pre-training). Every matrix of a
block is a parameter of its own, so that an optimizer can treat each by itself. Parameters stay in
fp32; under bf16 autocast only matrix products run in bf16. Parallelism is left out.

Shape suffixes: B batch, T sequence, S keys, D hidden, H heads, K kv heads, E head dim, F ffn, V vocab.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k2model.model.attention import BlockAttention, FusedAttention
from k2model.model.cache import KVCache
from k2model.recipe.schema import ModelConfig

Attend = BlockAttention | FusedAttention


class ZeroCentredRMSNorm(nn.Module):
    """RMSNorm in fp32 whose stored weight is the gain minus one (Megatron's `--apply-layernorm-1p`).

    Weight decay then pulls the gain to one instead of zero.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.rms_norm(x_BTD.float(), (x_BTD.shape[-1],), self.weight + 1.0, self.eps)


def rope_tables(theta: float, head_dim: int, positions: int) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [positions, E] fp32, of the angles position * theta^(-2i/E).

    Both halves of E hold the same angles: "half rotation", as Hugging Face's Llama lays heads out.
    """
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BHTE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions in fp32; `cos` and `sin` broadcast against x."""
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * cos + torch.cat((-second, first), dim=-1) * sin


@dataclass(frozen=True)
class Context:
    """What all blocks of one forward pass share."""

    cos: Tensor  # broadcasts against [B, H, T, E]
    sin: Tensor
    attend: Attend
    cache: KVCache | None = None


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = config.n_heads, config.n_kv_heads, config.head_dim
        self.query = nn.Linear(config.hidden_size, config.n_heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.hidden_size, config.n_kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.hidden_size, config.n_kv_heads * config.head_dim, bias=False)
        self.output = nn.Linear(config.n_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor, context: Context, layer: int) -> Tensor:
        batch, length, _ = x_BTD.shape
        # One product and one rotation for all of them: 7% of a training step on a CPU.
        weight = torch.cat((self.query.weight, self.key.weight, self.value.weight))
        heads_BHTE = F.linear(x_BTD, weight).view(batch, length, -1, self.head_dim).transpose(1, 2)
        rotating = self.n_heads + self.n_kv_heads
        rotated_BHTE = rotate(heads_BHTE[:, :rotating], context.cos, context.sin).to(heads_BHTE.dtype)
        query_BHTE, key_BKTE = rotated_BHTE[:, : self.n_heads], rotated_BHTE[:, self.n_heads :]
        value_BKTE = heads_BHTE[:, rotating:]
        if context.cache is not None:
            key_BKTE, value_BKTE = context.cache.write(layer, key_BKTE, value_BKTE)
        attended_BHTE = context.attend(query_BHTE, key_BKTE, value_BKTE)
        return self.output(attended_BHTE.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.ffn_size, bias=False)
        self.up = nn.Linear(config.hidden_size, config.ffn_size, bias=False)
        self.down = nn.Linear(config.ffn_size, config.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config)
        self.mlp_norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(self, x_BTD: Tensor, context: Context, layer: int) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), context, layer)
        return x_BTD + self.mlp(self.mlp_norm(x_BTD))


class K2Model(nn.Module):
    """`rope_theta` is an argument, not a part of the architecture: phases raise it (base change, no scaling)."""

    def __init__(self, config: ModelConfig, rope_theta: float, max_positions: int) -> None:
        super().__init__()
        self.config, self.rope_theta, self.max_positions = config, rope_theta, max_positions
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        cos, sin = rope_tables(rope_theta, config.head_dim, max_positions)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Normal(0, init_std); matrices that write to the residual stream scaled by 1/sqrt(2 L) (Megatron).

        Draws from torch's global generator: seed it before.
        """
        std = self.config.init_std
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # gains start at one, stored as zero
            writes_residual = name.endswith(("attention.output.weight", "mlp.down.weight"))
            parameter.normal_(0.0, std / math.sqrt(2 * self.config.n_layers) if writes_residual else std)

    def forward(self, tokens_BT: Tensor, document_BT: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Logits [B, T, V] of the token after each position.

        Args:
            tokens_BT: token ids.
            document_BT: document number of each token, -1 for padding; documents do not see each
                other. None: the row is one document.
            cache: appends the tokens behind those already cached and advances its lengths by T.

        Raises:
            ValueError: a position beyond `max_positions`, or documents together with a cache.
        """
        return self.head(self.hidden(tokens_BT, document_BT, cache))

    def hidden(self, tokens_BT: Tensor, document_BT: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """The normed last hidden states [B, T, D] that `head` turns into logits; arguments as `forward`."""
        context = self._context(tokens_BT, document_BT, cache)
        x_BTD = self.embedding(tokens_BT.long())
        for layer, block in enumerate(self.blocks):
            x_BTD = block(x_BTD, context, layer)
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        return self.norm(x_BTD)

    def _context(self, tokens_BT: Tensor, document_BT: Tensor | None, cache: KVCache | None) -> Context:
        length = tokens_BT.shape[1]
        if cache is not None:
            return self._cached_context(length, document_BT, cache)
        self._check_positions(length)
        if tokens_BT.device.type == "cpu":
            attend: Attend = BlockAttention.causal(length, document_BT, self.compute_dtype())
        else:
            attend = FusedAttention.causal(document_BT)
        return Context(self.cos[:length], self.sin[:length], attend)

    def _cached_context(self, length: int, document_BT: Tensor | None, cache: KVCache) -> Context:
        if document_BT is not None:
            raise ValueError("a cache holds one document a row: pass document_BT=None with a cache")
        positions_BT = cache.next_positions(length)
        self._check_positions(int(positions_BT.max()) + 1)
        cos, sin = self.cos[positions_BT][:, None], self.sin[positions_BT][:, None]
        return Context(cos, sin, BlockAttention.cached(positions_BT, self.compute_dtype()), cache)

    def compute_dtype(self) -> torch.dtype:
        """What matrix products run in on the CPU: autocast's type where it is on, else the parameters'."""
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.head.weight.dtype

    def _check_positions(self, positions: int) -> None:
        if positions > self.max_positions:
            raise ValueError(
                f"{positions} positions asked of a model built for {self.max_positions}: "
                "raise max_positions when building K2Model, or feed shorter rows"
            )
