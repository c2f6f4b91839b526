"""Registration of trained phases in MLflow: runs, lineage, model versions by reference, gate results.

Nothing of a checkpoint is uploaded: MLflow holds addresses and digests, the store holds the bytes.
Imports cheaply: MLflow (seconds) is loaded by the first call of `register_phase`.
"""

from k2model import lazy_exports
from k2model.registry.gates import GateResult, Registration, RegistryError

__all__ = ["GateResult", "Registration", "RegistryError"]

__getattr__ = lazy_exports(
    __name__,
    {
        "register_phase": "register",
        "metric_name": "runs",
    },
)
