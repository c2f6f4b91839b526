"""How one model is cut over workers: a worker's place in a group, and which parameters are cut where.

Tensor parallelism cuts every matrix (Megatron-LM, arXiv:1909.08053), sequence parallelism cuts every
row of tokens (DeepSpeed Ulysses, arXiv:2309.14509). The groups themselves are formed by
`k2model.training.layout`; nothing here talks to another worker.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from k2model.recipe.schema import ModelConfig

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CUT_ROWS = ("query.weight", "key.weight", "value.weight", "gate.weight", "up.weight", "head.weight")
_CUT_COLUMNS = ("attention.output.weight", "mlp.down.weight")


@dataclass(frozen=True)
class Shard:
    """This worker's place among those that share something: `rank` of `size`, talking over `group`."""

    rank: int = 0
    size: int = 1
    group: "ProcessGroup | None" = None  # None when size is 1

    def cut(self, whole: Tensor, dim: int) -> Tensor:
        """This worker's equal part of `whole` along `dim`, a view. The size must divide that dimension."""
        length = whole.shape[dim] // self.size
        assert length * self.size == whole.shape[dim], f"{list(whole.shape)} cannot be cut in {self.size} along {dim}"
        return whole.narrow(dim, self.rank * length, length)


WHOLE = Shard()


def tensor_dim(name: str) -> int | None:
    """The dimension along which tensor parallelism cuts the parameter `name`; None: every worker has it whole.

    `name` may carry a prefix (`model.blocks.0.mlp.up.weight`). Rows (0) of the matrices that read the
    residual stream and of the head; columns (1) of those that write to it.
    """
    if name.endswith(_CUT_ROWS):
        return 0
    return 1 if name.endswith(_CUT_COLUMNS) else None


def check_divides(config: ModelConfig, tensor: Shard, context: Shard) -> None:
    """Raise ValueError naming the first dimension that cannot be shared out evenly."""
    for name in ("n_heads", "n_kv_heads", "ffn_size", "vocab_size"):
        if getattr(config, name) % tensor.size:
            raise ValueError(
                f"tensor parallelism over {tensor.size} workers cannot share out {name}={getattr(config, name)} "
                "evenly: choose a degree that divides it"
            )
    heads = config.n_heads // tensor.size
    if heads % context.size:
        raise ValueError(
            f"sequence parallelism over {context.size} workers cannot share out {heads} query heads evenly "
            f"(n_heads={config.n_heads} over tensor={tensor.size}): choose a degree that divides them"
        )
