"""What an attempt at a phase says of itself as it starts: how much there is to do, on what, and what was undone.

Rank 0 writes it beside the training log (`attachments/training.json`) at the start of every attempt, after a
rollback too, so that whoever watches a training needs neither its recipe nor its machine. What changes from
step to step is in the log.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from k2model.artifacts.files import Files
from k2model.recipe.schema import ModelConfig, PhaseConfig

if TYPE_CHECKING:
    from k2model.training.layout import Layout
    from k2model.training.spikes import Intervention

TRAINING = "attachments/training.json"


@dataclass(frozen=True)
class TrainingFacts:
    """`workers` = `tensor` x `context` x `data`; `peak`: matrix-product FLOP/s of all workers together, as
    measured;
    `started`: of this attempt, seconds since the epoch; `interventions`: records of `spikes.Intervention`."""

    phase: str
    kind: str
    steps: int
    tokens_per_step: int
    save_every: int
    parameters: int
    workers: int
    tensor: int
    context: int
    data: int
    zero_stage: int
    precision: str
    device: str
    peak: float
    started: float
    interventions: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(
        cls, model: ModelConfig, phase: PhaseConfig, layout: "Layout", peak: float,
        interventions: "Sequence[Intervention]",
    ) -> "TrainingFacts":  # fmt: skip
        """Of an attempt that starts at this moment on this worker's device."""
        import torch

        from k2model.model import count_parameters

        return cls(
            phase=phase.name,
            kind=phase.kind.value,
            steps=phase.steps,
            tokens_per_step=phase.tokens_per_step,
            save_every=phase.cadence.save_every,
            parameters=count_parameters(model),
            workers=layout.world.size,
            tensor=layout.tensor.size,
            context=layout.context.size,
            data=layout.data.size,
            zero_stage=phase.parallelism.zero_stage,
            precision=phase.precision.value,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            peak=peak,
            started=time.time(),
            interventions=[intervention.record() for intervention in interventions],
        )

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()


def read_facts(files: Files) -> TrainingFacts | None:
    """Of the artifact that `files` is at; None where an attempt has not come that far or wrote another format."""
    try:
        content = json.loads(files.read(TRAINING))
        known = {entry.name for entry in fields(TrainingFacts)}
        return TrainingFacts(**{name: value for name, value in content.items() if name in known})
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
