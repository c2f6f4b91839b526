"""Keys and values of the positions seen so far, for batched generation.

Rows are right-padded: row b holds `lengths_B[b]` positions and whatever lies behind is overwritten
by the row's next tokens and masked until then. So every row has its own exact positions, and a batch
of prompts of different lengths generates what each prompt alone would. CPU only.

Shape suffixes: L layers, B batch, K kv heads, S cache slots, E head dim, T the tokens fed at once.
"""

import torch
from torch import Tensor

from k2model.recipe.schema import ModelConfig


class KVCache:
    """Preallocated for `batch` rows of at most `slots` positions."""

    def __init__(self, config: ModelConfig, batch: int, slots: int, dtype: torch.dtype = torch.float32) -> None:
        shape = (config.n_layers, batch, config.n_kv_heads, slots, config.head_dim)
        # Zeros, not garbage: a masked slot still enters a product with weight 0, and 0 * NaN is NaN.
        self.keys_LBKSE = torch.zeros(shape, dtype=dtype)
        self.values_LBKSE = torch.zeros(shape, dtype=dtype)
        self.lengths_B = torch.zeros(batch, dtype=torch.int64)

    @property
    def slots(self) -> int:
        return self.keys_LBKSE.shape[3]

    def next_positions(self, n_tokens: int) -> Tensor:
        """[B, T]: where the next `n_tokens` tokens of each row go."""
        return self.lengths_B[:, None] + torch.arange(n_tokens)

    def write(self, layer: int, key_BKTE: Tensor, value_BKTE: Tensor) -> tuple[Tensor, Tensor]:
        """Store one layer's keys and values at the next positions; returns all cached ones, [B, K, S', E]."""
        positions_BT = self.next_positions(key_BKTE.shape[2])
        rows_B1 = torch.arange(positions_BT.shape[0])[:, None]
        keys_BKSE, values_BKSE = self.keys_LBKSE[layer], self.values_LBKSE[layer]
        keys_BKSE[rows_B1, :, positions_BT] = key_BKTE.transpose(1, 2).to(keys_BKSE.dtype)
        values_BKSE[rows_B1, :, positions_BT] = value_BKTE.transpose(1, 2).to(values_BKSE.dtype)
        return keys_BKSE, values_BKSE

    def advance(self, n_tokens: int) -> None:
        """Count the tokens that every layer has written."""
        self.lengths_B = self.lengths_B + n_tokens

    def set_lengths(self, lengths_B: Tensor) -> None:
        """Declare how many positions of each row are real, dropping padding that was fed behind them."""
        self.lengths_B = lengths_B.to(torch.int64)

    def keep_rows(self, rows: Tensor) -> None:
        """Drop every row that is not in `rows` (int64 indices): finished ones cost nothing more."""
        self.keys_LBKSE = self.keys_LBKSE[:, rows]
        self.values_LBKSE = self.values_LBKSE[:, rows]
        self.lengths_B = self.lengths_B[rows]
