"""Where the keys and values of texts lie: one slot each, of as many positions as the longest of them needs.

A slot goes to the next request as soon as its text has ended. Requests are served longest first, so when those that
are left need half as much or less, the same memory is cut into more slots (`recut`).

Shape suffixes: L layers, N slots, K kv heads, C positions of a slot, E head dim, P tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

KEYS = 16  # keys are read in multiples of it


def filled(n_keys: int) -> int:
    """Keys that are read for so many, and the positions of a slot that has room for them."""
    return -(-n_keys // KEYS) * KEYS


def on_device(values: Sequence[int], device: torch.device) -> Tensor:
    """[n], written on the CPU and moved at once."""
    return torch.tensor(values, dtype=torch.int64, device="cpu").to(device)


class Slots:
    """`shape`: layers, kv heads, head dim. What a slot held before is overwritten as its next text grows, and masked
    until then."""

    def __init__(
        self, shape: tuple[int, int, int], number: int, room: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.memory = [self._empty(number, filled(room)) for _ in range(shape[0])]
        self.free = list(range(number))[::-1]

    def _empty(self, number: int, positions: int) -> tuple[Tensor, Tensor]:
        _, n_kv_heads, head_dim = self.shape
        # Zeros, not garbage: a masked key still enters a product with weight 0, and 0 * NaN is NaN.
        size = (number, n_kv_heads, positions, head_dim)
        return tuple(torch.zeros(size, dtype=self.dtype, device=self.device) for _ in range(2))  # type: ignore[return-value]

    @property
    def number(self) -> int:
        return len(self.memory[0][0])

    @property
    def positions(self) -> int:
        """Of each slot."""
        return self.memory[0][0].shape[2]

    def layer(self, number: int) -> tuple[Tensor, Tensor]:
        """Keys and values [N, K, C, E]."""
        return self.memory[number]

    def store(self, layer: int, owners_P: Tensor, places_P: Tensor, key_PKE: Tensor, value_PKE: Tensor) -> None:
        keys_NKCE, values_NKCE = self.memory[layer]
        keys_NKCE[owners_P, :, places_P] = key_PKE
        values_NKCE[owners_P, :, places_P] = value_PKE

    def recut(self, number: int, room: int, taken: Sequence[int]) -> dict[int, int]:
        """`number` slots of `room` positions; what `taken` slots hold moves to the first ones. Where to, by slot."""
        positions = filled(room)
        kept = on_device(taken, self.device)
        for layer, old in enumerate(self.memory):
            new = self._empty(number, positions)
            for before, after in zip(old, new, strict=True):
                after[: len(taken)] = before[kept, :, :positions]
            self.memory[layer] = new
        self.free = list(range(len(taken), number))[::-1]
        return {old: place for place, old in enumerate(taken)}
