"""Whom evaluation can ask: each module is one kind of `k2model.evals.backend.Backend`. Imports cheaply."""

from k2model import lazy_exports

__getattr__ = lazy_exports(
    __name__, {"OwnModel": "own", "TransformersModel": "transformers", "EndpointModel": "endpoint"}
)
