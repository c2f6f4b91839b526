"""Registration of trained phases in MLflow: runs, lineage, model versions by reference, gate verdicts.

Nothing of a checkpoint is uploaded: MLflow holds addresses and digests, the store holds the bytes.
Imports cheaply: MLflow (seconds) is loaded by the first call of `register_phase`.
"""

from importlib import import_module
from typing import Any

from k2model.registry.gates import GateVerdict, Registration, RegistryError

_LAZY = {
    "register_phase": "k2model.registry.register",
    "read_ledger": "k2model.registry.gates",
    "metric_name": "k2model.registry.metrics",
}

__all__ = ["GateVerdict", "Registration", "RegistryError", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'k2model.registry' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)
