"""Registration of checkpoints in MLflow: runs, datasets, versions by reference, gates and aliases."""

from typing import Any

from k2model.registry.registration import GateVerdict, Registration

__all__ = ["GateVerdict", "Registration", "register_phase"]


def __getattr__(name: str) -> Any:
    if name != "register_phase":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from k2model.registry.register import register_phase

    return register_phase
