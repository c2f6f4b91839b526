"""What is evaluated and on what: a model, its tokenizer, and the folders of held-out data."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.errors import EvaluationError
from k2model.recipe.schema import EvaluationConfig

if TYPE_CHECKING:
    from k2model.documents.schema import Item
    from k2model.model.transformer import K2Model
    from k2model.tokens import K2Tokenizer


@dataclass(frozen=True)
class Subject:
    """`window` is the context the model was trained with in this phase, in tokens."""

    phase: str
    window: int
    config: EvaluationConfig
    corpus: Path
    tokens: Path
    words: "K2Tokenizer"
    model: "K2Model"

    def items(self, family: str) -> "list[Item]":
        """The first `items_per_family` items. Raises EvaluationError when the corpus has none."""
        return self.all_items(family)[: self.config.items_per_family]

    def all_items(self, family: str) -> "list[Item]":
        from k2model.documents import read_items

        path = self.corpus / "items" / f"{family}.parquet"
        found = read_items(self.corpus, family) if path.is_file() else []
        if not found:
            raise EvaluationError(
                f"{path} has no items, which phase '{self.phase}' is scored on; "
                "add a source of this family to the recipe's corpus, or raise corpus.heldout_items"
            )
        return found


def matrix_products() -> Any:
    """The precision evaluation runs in: weights in fp32, matrix products in bf16, as in training.

    On CPUs with bf16 units this is several times faster than fp32 and moves a loss by about 0.001.
    """
    import torch

    return torch.autocast("cpu", torch.bfloat16)
