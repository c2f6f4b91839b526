"""The forward pass of generation: tokens of many requests side by side, over keys and values that lie in slots.

It is `K2Model`'s architecture over its parameters, laid out for inference. The tokens of a step are rows of one matrix,
whether they are of a prompt that is being read or each the last of its text; attention alone tells them apart. There
is no padding but the few rows that fill `ROWS`.

What a row gives does not depend on the others in the step, nor on how many there are: in fp32 bit for bit on a CPU
where one thread computes (tests/generation/test_invariance.py). That takes care in three places. A product's sums run
in one order for any number of rows but few, so rows are filled up to `ROWS`. Keys are read in multiples of `KEYS`,
those behind a query with weight zero, which leaves its sums as they are. And a prompt is cut where its own
positions say (`CHUNK`), so that its queries meet the same matrices whatever is read beside it; which is also why no
prompt's attention takes more than a chunk's share of the square.

On a CPU the weights that read one input lie in one matrix, in the order oneDNN multiplies them: a copy, 1.1 to 2 times
as fast for the few rows of a step. Elsewhere they are used as they lie.

Tensor parallelism is plain here: positions are never cut. A worker has its share of heads and ffn, and what leaves a
block is summed over the workers (Megatron-LM, arXiv:1909.08053); logits are gathered, so that all workers go on alike.

Shape suffixes: P tokens of a step, R those whose logits are wanted, B single ones, n a chunk's, D hidden, H heads, K kv
heads, G = H / K, E head dim, S keys, F ffn, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from k2model.generation.slots import Slots, filled, on_device
from k2model.model.fused import rotated
from k2model.model.parallel import all_reduce, gather_vocabulary
from k2model.model.products import Products
from k2model.model.transformer import Block, K2Model, ZeroCentredRMSNorm

ROWS = 8  # rows of a product come in multiples of it
CHUNK = 128  # positions of a prompt that attend together
CALL_KEYS, MANY = {"cpu": 128}, 16_384  # keys that take as long to read as a call of the kernel, by kind of device


@dataclass(frozen=True)
class Chunk:
    """Tokens of one text, at most `CHUNK`, that go to the positions from `start` on of a slot."""

    slot: int
    start: int
    tokens: Sequence[int]


def chunks_of(slot: int, start: int, tokens: Sequence[int]) -> list[Chunk]:
    """Tokens that stand behind `start` others, in chunks."""
    return [Chunk(slot, start + at, tokens[at : at + CHUNK]) for at in range(0, len(tokens), CHUNK)]


class Matrix:
    """Weights [N_i, D] that read one input, as one product."""

    def __init__(self, products: Products, *weights: Tensor) -> None:
        self.products = products
        own = [products.operand(weight.detach()) for weight in weights]
        self.packed = own[0].device.type == "cpu" and torch.backends.mkldnn.is_available()
        if self.packed:
            joined = torch.cat(own) if len(own) > 1 else own[0]
            own = [torch.ops.mkldnn._reorder_linear_weight(joined.contiguous(), 4 * ROWS)]
        self.weights = own

    def __call__(self, x_PD: Tensor) -> Tensor:
        """[P, sum N_i]."""
        x_PD = self.products.operand(x_PD)
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x_PD, self.weights[0], None, "none", [], "")
        parts = [F.linear(x_PD, weight) for weight in self.weights]
        return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def gain(norm: ZeroCentredRMSNorm) -> Tensor:
    """[D] fp32."""
    return norm.weight.detach().float() + 1.0


class Layer:
    """A block's parameters, ready to be multiplied."""

    def __init__(self, block: Block, products: Products) -> None:
        attention, mlp = block.attention, block.mlp
        self.attention_gain, self.mlp_gain = gain(block.attention_norm), gain(block.mlp_norm)
        self.heads = Matrix(products, attention.query.weight, attention.key.weight, attention.value.weight)
        self.output = Matrix(products, attention.output.weight)
        self.gate_and_up = Matrix(products, mlp.gate.weight, mlp.up.weight)
        self.down = Matrix(products, mlp.down.weight)


class Decoder:
    """`precision`: of matrix products and of what is cached, fp32 or bf16; norms and the stream between blocks are in
    fp32. The model's parameters must not change while it is used."""

    def __init__(self, model: K2Model, precision: torch.dtype) -> None:
        self.config, self.device, self.tensor = model.config, model.device, model.tensor
        self.max_positions, self.eps = model.max_positions, model.config.rms_norm_eps
        self.products = Products.wanted(precision, self.device.type)
        self.embedding, self.cos, self.sin = model.embedding.weight.detach(), model.cos, model.sin
        self.layers = [Layer(cast(Block, block), self.products) for block in model.blocks]
        self.gain, self.head = gain(model.norm), Matrix(self.products, model.head.weight)
        self.n_heads = model.config.n_heads // self.tensor.size
        self.n_kv_heads = model.config.n_kv_heads // self.tensor.size

    def slots(self, number: int, room: int) -> Slots:
        """For `number` texts of `room` positions."""
        shape = (self.config.n_layers, self.n_kv_heads, self.config.head_dim)
        return Slots(shape, number, room, self.products.dtype, self.device)

    def hidden(self, slots: Slots, singles: Sequence[Chunk], chunks: Sequence[Chunk]) -> Tensor:
        """[P, D], normed: of `singles`, which are chunks of one token, then of the tokens of `chunks`, in order.

        All keys and values of a step are stored before any is read, so chunks that follow each other in one text may
        be in one step.
        """
        fed = [*singles, *chunks]
        tokens = [token for one in fed for token in one.tokens]
        places = [place for one in fed for place in range(one.start, one.start + len(one.tokens))]
        owners = [one.slot for one in fed for _ in one.tokens]
        spare = [0] * (-len(tokens) % ROWS)
        tokens_P, places_P, owners_P = (on_device(ids + spare, self.device) for ids in (tokens, places, owners))
        attend = _Attention(slots, singles, chunks, self.n_kv_heads)
        x_PD = self._embedded(tokens_P)
        cos, sin = (table[places_P][:, None] for table in (self.cos, self.sin))
        owners_P, places_P = owners_P[: len(tokens)], places_P[: len(tokens)]
        for number, layer in enumerate(self.layers):
            heads_PNE = layer.heads(self._normed(x_PD, layer.attention_gain)).unflatten(-1, (-1, self.config.head_dim))
            turned, value = heads_PNE.split((self.n_heads + self.n_kv_heads, self.n_kv_heads), dim=1)
            query, key = rotated(turned, cos, sin).split((self.n_heads, self.n_kv_heads), dim=1)
            slots.store(number, owners_P, places_P, key[: len(tokens)], value[: len(tokens)])
            x_PD = x_PD + all_reduce(layer.output(attend(number, query)), self.tensor)
            gate, up = layer.gate_and_up(self._normed(x_PD, layer.mlp_gain)).chunk(2, dim=-1)
            x_PD = x_PD + all_reduce(layer.down(F.silu(gate).mul_(up)), self.tensor)
        return self._normed(x_PD, self.gain)

    def _normed(self, x_PD: Tensor, gain_D: Tensor) -> Tensor:
        return F.rms_norm(x_PD, gain_D.shape, gain_D, self.eps).to(self.products.dtype)

    def logits(self, hidden_RD: Tensor) -> Tensor:
        """[R, V] fp32, of the whole vocabulary on every worker."""
        wanted = len(hidden_RD)
        filled_RD = F.pad(hidden_RD, (0, 0, 0, -wanted % ROWS))
        return gather_vocabulary(self.head(filled_RD), self.tensor)[:wanted].float()

    def _embedded(self, tokens_P: Tensor) -> Tensor:
        if self.tensor.size == 1:
            return self.embedding[tokens_P].float()
        local_P = tokens_P - self.tensor.rank * len(self.embedding)
        elsewhere_P = (local_P < 0) | (local_P >= len(self.embedding))
        rows_PD = self.embedding[local_P.masked_fill(elsewhere_P, 0)].float()
        return all_reduce(rows_PD.masked_fill(elsewhere_P[:, None], 0.0), self.tensor)


class _Attention:
    """Of one step's queries to what their slots hold, the step's own keys included."""

    def __init__(self, slots: Slots, singles: Sequence[Chunk], chunks: Sequence[Chunk], n_kv_heads: int) -> None:
        self.slots, self.chunks, self.n_kv_heads = slots, chunks, n_kv_heads
        lengths = {one.slot: one.start + 1 for one in singles}
        order = [one.slot for one in singles]
        self.rows = on_device(order, slots.device)
        self.spans = [
            (span, self._mask([lengths.get(slot, 1) for slot in span], n_keys)[:, None, None])
            for span, n_keys in spans(lengths, CALL_KEYS.get(slots.device.type, MANY))
        ]
        ends = [range(one.start + 1, one.start + len(one.tokens) + 1) for one in chunks]
        self.masks = [self._mask(end, filled(end[-1])) for end in ends]

    def _mask(self, ends: Sequence[int], n_keys: int) -> Tensor:
        """[queries, n_keys]: what is added to scores, for queries that see the first `ends` keys."""
        ends_n1 = on_device(ends, self.slots.device)[:, None]
        behind = torch.arange(n_keys, device=self.slots.device) >= ends_n1
        return torch.zeros(behind.shape, dtype=self.slots.dtype, device=behind.device).masked_fill_(behind, -torch.inf)

    def __call__(self, layer: int, query_PHE: Tensor) -> Tensor:
        """[P, H E]; zeros in the rows that fill the step up."""
        n_rows, n_heads, size = query_PHE.shape
        out_PD = torch.zeros(n_rows, n_heads * size, dtype=query_PHE.dtype, device=query_PHE.device)
        at = len(self.rows)
        if at:
            # By slot, so that a span of slots is a view. Those that have no query here answer one of zeros.
            query_NKGE = query_PHE.new_zeros(self.slots.number, self.n_kv_heads, n_heads // self.n_kv_heads, size)
            query_NKGE[self.rows] = query_PHE[:at].view(at, *query_NKGE.shape[1:])
            for span, mask in self.spans:
                own = slice(span.start, span.stop)
                keys, values = (x[own, :, : mask.shape[-1]] for x in self.slots.layer(layer))
                query_NKGE[own] = F.scaled_dot_product_attention(query_NKGE[own], keys, values, attn_mask=mask)
            out_PD[:at] = query_NKGE[self.rows].flatten(1)
        for chunk, mask in zip(self.chunks, self.masks, strict=True):
            n = len(chunk.tokens)
            # As many batches as kv heads, each of the heads that share one: keys are not repeated.
            query_KGnE = query_PHE[at : at + n].view(n, self.n_kv_heads, -1, size).permute(1, 2, 0, 3)
            shape = (-1, query_KGnE.shape[1], -1, -1)
            keys, values = (x[chunk.slot, :, None, : mask.shape[1]].expand(shape) for x in self.slots.layer(layer))
            out_KGnE = F.scaled_dot_product_attention(query_KGnE, keys, values, attn_mask=mask)
            out_PD[at : at + n] = out_KGnE.permute(2, 0, 1, 3).flatten(1)
            at += n
        return out_PD


def spans(lengths: Mapping[int, int], call: int) -> list[tuple[range, int]]:
    """Neighbouring slots that are attended to in one call, and the keys each of them reads: as many as the longest.

    lengths: of the text in each slot that has a query. call: keys that cost as much to read as a call does.
    """
    found: list[tuple[range, int]] = []
    for slot, length in sorted(lengths.items()):
        n_keys = filled(length)
        if found:
            before, most = found[-1]
            together = range(before.start, slot + 1)
            if len(together) * max(most, n_keys) <= len(before) * most + n_keys + call:
                found[-1] = (together, max(most, n_keys))
                continue
        found.append((range(slot, slot + 1), n_keys))
    return found
