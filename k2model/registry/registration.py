"""What registration answers: which run and model version a phase became, and how its gates went."""

from dataclasses import dataclass


@dataclass(frozen=True)
class GateVerdict:
    """One gate of the recipe as it was judged: `value` is the score, or the difference of two."""

    phase: str
    score: str
    minus: str
    value: float
    minimum: float
    passed: bool


@dataclass(frozen=True)
class Registration:
    """A phase's place in the tracking store; `aliases` are those that its version held afterwards."""

    tracking_uri: str
    run_id: str
    model_name: str
    version: int
    aliases: tuple[str, ...] = ()
    gates: tuple[GateVerdict, ...] = ()
