"""K2's architecture in plain torch: a Llama-shaped decoder, as one readable file.

Pre-norm blocks with zero-centred RMSNorm gains, grouped-query attention with rotary positions,
SwiGLU, untied embeddings, no biases (Megatron flags of K2-V2's pre-training). Every matrix of a
block is a parameter of its own, so that an optimizer can treat each by itself. Parameters stay in
fp32; under bf16 autocast matrix products run in bf16 and, where a phase says so, the residual stream. A model may be
cut over workers: every matrix with the residual stream between them (tensor parallelism) and every row of tokens
(context parallelism), see `parallel`.

Shape suffixes: B batch, T sequence (a context worker's slice), t a tensor worker's slice of that, S keys, D hidden,
H heads, K kv heads, E head dim, F ffn, V vocab.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from k2model.model.attention import BlockAttention, DocumentAttention
from k2model.model.fused import recomputed, rms_norm, split_and_rotate, swiglu
from k2model.model.loss import Head
from k2model.model.parallel import (
    WHOLE,
    ContextParallelAttention,
    Shard,
    check_divides,
    copy_to_group,
    sum_to_slices,
    tensor_dim,
)
from k2model.model.products import Embedding, Linear, Products, linear
from k2model.recipe.schema import ModelConfig, Recompute

Attend = BlockAttention | DocumentAttention | ContextParallelAttention
Again = Callable[[], Tensor] | None  # makes a product's operand once more in backward


class ZeroCentredRMSNorm(nn.Module):
    """RMSNorm in fp32 whose stored weight is the gain minus one (Megatron's `--apply-layernorm-1p`).

    Weight decay then pulls the gain to one instead of zero. What it gives is read by matrix products alone, so
    it is in their type. Each worker of `tensor` has the whole gain and norms its slice of the positions.
    """

    def __init__(self, size: int, eps: float, tensor: Shard = WHOLE) -> None:
        super().__init__()
        self.eps, self.tensor = eps, tensor
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x_BtD: Tensor) -> Tensor:
        gain_D = copy_to_group(self.weight, self.tensor)
        return rms_norm(x_BtD, gain_D, self.eps, Products.of(x_BtD, self.weight).dtype)


def rope_tables(theta: float, head_dim: int, positions: int) -> tuple[Tensor, Tensor]:
    """(cos, sin), each [positions, E] fp32, of the angles position * theta^(-2i/E).

    Both halves of E hold the same angles: "half rotation", as Hugging Face's Llama lays heads out.
    """
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


@dataclass(frozen=True)
class Context:
    """What all blocks of one forward pass share."""

    cos: Tensor  # broadcasts against [B, H, T, E]
    sin: Tensor
    attend: Attend


class Attention(nn.Module):
    """A worker's share of the heads; whole groups of query heads with their kv head."""

    def __init__(self, config: ModelConfig, tensor: Shard) -> None:
        super().__init__()
        self.tensor, self.head_dim = tensor, config.head_dim
        self.n_heads, self.n_kv_heads = config.n_heads // tensor.size, config.n_kv_heads // tensor.size
        self.query = Linear(config.hidden_size, self.n_heads * config.head_dim)
        self.key = Linear(config.hidden_size, self.n_kv_heads * config.head_dim)
        self.value = Linear(config.hidden_size, self.n_kv_heads * config.head_dim)
        self.output = Linear(self.n_heads * config.head_dim, config.hidden_size)

    def forward(self, x_BtD: Tensor, context: Context, again: Again) -> Tensor:
        weights = (self.query.weight, self.key.weight, self.value.weight)
        heads_BTNE = linear(x_BtD, *weights, tensor=self.tensor, again=again).unflatten(-1, (-1, self.head_dim))
        query_BHTE, key_BKTE, value_BKTE = split_and_rotate(
            heads_BTNE, context.cos, context.sin, self.n_heads, self.n_kv_heads
        )
        attended_BHTE = context.attend(query_BHTE, key_BKTE, value_BKTE)
        return sum_to_slices(self.output(attended_BHTE.transpose(1, 2).flatten(2)), self.tensor)


class FeedForward(nn.Module):
    """A worker's share of the ffn dimension."""

    def __init__(self, config: ModelConfig, tensor: Shard) -> None:
        super().__init__()
        self.tensor, ffn_size = tensor, config.ffn_size // tensor.size
        self.gate = Linear(config.hidden_size, ffn_size)
        self.up = Linear(config.hidden_size, ffn_size)
        self.down = Linear(ffn_size, config.hidden_size)

    def forward(self, x_BtD: Tensor, again: Again) -> Tensor:
        gate_and_up = linear(x_BtD, self.gate.weight, self.up.weight, tensor=self.tensor, again=again)
        product_again = partial(swiglu, gate_and_up.detach()) if again else None
        return sum_to_slices(self.down(swiglu(gate_and_up), product_again), self.tensor)


class Block(nn.Module):
    """Attention and feed-forward, each on the normed residual stream [B, t, D] and added to it, in its type.

    `selective`: keep the stream, heads, gate and up for backward, and compute the norms' results and SwiGLU's product
    again, which takes no matrix product.
    """

    def __init__(self, config: ModelConfig, tensor: Shard, selective: bool) -> None:
        super().__init__()
        self.selective = selective
        self.attention_norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps, tensor)
        self.attention = Attention(config, tensor)
        self.mlp_norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps, tensor)
        self.mlp = FeedForward(config, tensor)

    def forward(self, x_BtD: Tensor, context: Context) -> Tensor:
        again = self._again(self.attention_norm, x_BtD)
        x_BtD = (x_BtD + self.attention(self.attention_norm(x_BtD), context, again)).to(x_BtD.dtype)
        again = self._again(self.mlp_norm, x_BtD)
        return (x_BtD + self.mlp(self.mlp_norm(x_BtD), again)).to(x_BtD.dtype)

    def _again(self, norm: ZeroCentredRMSNorm, x_BtD: Tensor) -> Again:
        return partial(norm, x_BtD.detach()) if self.selective else None


class K2Model(nn.Module):
    """`rope_theta` is an argument, not a part of the architecture: phases raise it (base change, no scaling)."""

    def __init__(
        self,
        config: ModelConfig,
        rope_theta: float,
        max_positions: int,
        *,
        tensor: Shard = WHOLE,
        context: Shard = WHOLE,
        recompute: Recompute = Recompute.NONE,
        residual: torch.dtype = torch.float32,
        draw: bool = True,
    ) -> None:
        """Draws initial weights from torch's global generator: seed it before.

        Args:
            tensor: over whom every matrix is cut; this worker holds `tensor.cut(whole, tensor_dim(name))`
                of each parameter that is cut, initially of what one worker alone would draw.
            context: over whom every row of tokens is cut.
            recompute: what of a block is computed again in backward instead of kept.
            residual: type of the stream between blocks.
            draw: False where all weights are about to be loaded: until then matrices hold anything. Drawing is the work
                of one thread.

        Raises:
            ValueError: heads, ffn_size or vocab_size cannot be shared out evenly.
        """
        super().__init__()
        check_divides(config, tensor, context)
        self.config, self.rope_theta, self.max_positions = config, rope_theta, max_positions
        self.tensor, self.context, self.recompute, self.residual = tensor, context, recompute, residual
        self.embedding = Embedding(config.vocab_size, config.hidden_size, tensor)
        selective = recompute is Recompute.SELECTIVE
        self.blocks = nn.ModuleList(Block(config, tensor, selective) for _ in range(config.n_layers))
        self.norm = ZeroCentredRMSNorm(config.hidden_size, config.rms_norm_eps, tensor)
        self.head = Head(config.hidden_size, config.vocab_size, tensor)
        cos, sin = rope_tables(rope_theta, config.head_dim, max_positions)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.cos: Tensor
        self.sin: Tensor
        self.initialise(draw)

    @torch.no_grad()
    def initialise(self, draw: bool = True) -> None:
        """Normal(0, init_std); matrices that write to the residual stream scaled by 1/sqrt(2 L) (Megatron).

        Each is drawn whole, one at a time, and cut.
        """
        std = self.config.init_std
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue  # gains start at one, stored as zero
            dim = tensor_dim(name)
            scale = math.sqrt(2 * self.config.n_layers) if dim == 1 else 1.0
            if dim is None or self.tensor.size == 1:
                if draw:
                    parameter.normal_(0.0, std / scale)
                continue
            parameter.tensor_model_parallel = True  # type: ignore[attr-defined]  # DeepSpeed's gradient norm asks
            if not draw:
                continue
            shape = [size * self.tensor.size if i == dim else size for i, size in enumerate(parameter.shape)]
            whole = torch.empty(shape, dtype=parameter.dtype, device=parameter.device).normal_(0.0, std / scale)
            parameter.copy_(self.tensor.cut(whole, dim))

    def forward(self, tokens_BT: Tensor, document_BT: Tensor | None = None) -> Tensor:
        """Logits [B, T, V] of the token after each position.

        Args:
            tokens_BT: token ids; under context parallelism this worker's slice of each row. All workers of a
                tensor-parallel group are given the same; T must be a multiple of their number.
            document_BT: document number of each token, -1 for padding; documents do not see each
                other. None: the row is one document. Always of whole rows.

        Raises:
            ValueError: a position beyond `max_positions`, or a length that cannot be shared out over `tensor`.
        """
        return self.head(self.hidden(tokens_BT, document_BT))

    def loss(
        self, tokens_BT: Tensor, targets_BT: Tensor, document_BT: Tensor | None = None, z_loss: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """(sum over this worker's targets of cross-entropy + z_loss * log-partition^2, cross-entropy [B, T]) in fp32.

        Only the first has a gradient. Logits are made for some positions at a time, and only for targets.

        Args:
            targets_BT: int64, the token after each position (`shifted_targets`), IGNORED where it does not count
                and where the second result is 0.
        """
        return self.head(self.hidden(tokens_BT, document_BT), targets_BT, z_loss)

    def hidden(self, tokens_BT: Tensor, document_BT: Tensor | None = None) -> Tensor:
        """The normed last hidden states [B, t, D] that `head` turns into logits, over `tensor` this worker's slice of
        them; arguments as `forward`."""
        context = self._context(tokens_BT, document_BT)
        x_BtD = self.embedding(tokens_BT.long(), self.residual)
        for block in self.blocks:
            again = self.recompute is Recompute.FULL
            x_BtD = recomputed(block, x_BtD, context) if again else block(x_BtD, context)
        return self.norm(x_BtD)

    def _context(self, tokens_BT: Tensor, document_BT: Tensor | None) -> Context:
        length = tokens_BT.shape[1]
        whole_length = length * self.context.size
        self._check_positions(whole_length)
        if length % self.tensor.size:
            raise ValueError(
                f"{length} positions a worker cannot be shared out evenly over {self.tensor.size} tensor-parallel "
                "workers: feed rows whose length is a multiple of context x tensor"
            )
        kind = BlockAttention if tokens_BT.device.type == "cpu" else DocumentAttention
        whole_rows = kind.causal(whole_length, document_BT)
        attend = whole_rows if self.context.size == 1 else ContextParallelAttention(whole_rows, self.context)
        cos, sin = (self.context.cut(table[:whole_length], 0) for table in (self.cos, self.sin))
        return Context(cos, sin, attend)

    @property
    def device(self) -> torch.device:
        """Where its parameters lie, and what is fed to it has to."""
        return self.head.weight.device

    def _check_positions(self, positions: int) -> None:
        if positions > self.max_positions:
            raise ValueError(
                f"{positions} positions asked of a model built for {self.max_positions}: "
                "raise max_positions when building K2Model, or feed shorter rows"
            )
