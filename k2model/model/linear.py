"""Matrices that multiply as `products` says and whose weights are drawn by the model that owns them.

`K2Model.initialise` draws every parameter whole and cuts it: how a model is spread over workers must not move the
random generator.
"""

from torch import Tensor, nn

from k2model.model.products import linear


class Linear(nn.Linear):
    """Without bias; its memory is undefined until it is drawn or loaded."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """Its memory is undefined until it is drawn or loaded."""

    def reset_parameters(self) -> None:
        pass
