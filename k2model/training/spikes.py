"""Whether a jump of the loss is ridden out or undone: K2's policy, in which width decides and not height.

Every worker feeds its own watch with the same reduced numbers, so all of them come to the same decision
without a word. Going back and skipping are the attempt's business; this module sees losses alone.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from k2model.recipe.schema import SpikePolicy
from k2model.training.log import StepMetrics

MAD_TO_DEVIATION = 1.4826  # the median absolute deviation of a normal distribution is this part of its deviation
SMALLEST_DEVIATION = 1e-3  # of the median: a loss that stood still must not make a spike of rounding


@dataclass(frozen=True)
class Spike:
    """A decision: undo what followed `first_step` and leave out the steps up to `last_step`."""

    reason: str
    first_step: int
    last_step: int
    before: float | None
    deviation: float | None
    losses: list[float | None]


class RolledBack(Exception):
    """Training has to go back behind a spike."""

    def __init__(self, spike: Spike) -> None:
        super().__init__(spike.reason)
        self.spike = spike


class SpikeWatch:
    """Judges step after step, by losses in nats per target. `ordinary`: those to start from, of the steps before
    (see `history`)."""

    def __init__(self, policy: SpikePolicy, ordinary: Iterable[float] = ()) -> None:
        self.policy = policy
        self._ordinary: deque[float] = deque(ordinary, maxlen=policy.window)
        self._open: list[StepMetrics] = []

    @property
    def open(self) -> bool:
        """Whether the newest step was an outlier, so that nobody knows yet how wide the spike is."""
        return bool(self._open)

    @property
    def history(self) -> list[float]:
        """The ordinary losses that later steps are measured by; what a checkpoint keeps."""
        return list(self._ordinary)

    def judge(self, row: StepMetrics) -> Spike | None:
        """The decision after `row`, the newest step: None goes on."""
        if not (math.isfinite(row.loss) and math.isfinite(row.grad_norm)):
            self._open.append(row)
            what = "loss" if not math.isfinite(row.loss) else "gradient norm"
            return self._spike(f"the {what} stopped being a number at step {row.step}")
        if not self._is_outlier(row.loss):
            self._open.clear()
            self._ordinary.append(row.loss)
            return None
        self._open.append(row)
        if len(self._open) <= self.policy.tolerated:
            return None
        return self._spike(
            f"the losses of {len(self._open)} steps in a row lay more than {self.policy.threshold:g} robust deviations "
            "above the median"
        )

    def _is_outlier(self, loss: float) -> bool:
        if len(self._ordinary) < max(8, self.policy.window // 4):
            return False  # too few to say what is ordinary
        middle, deviation = self._scale()
        return loss - middle > self.policy.threshold * deviation

    def _scale(self) -> tuple[float, float]:
        middle = median(self._ordinary)
        spread = MAD_TO_DEVIATION * median(abs(loss - middle) for loss in self._ordinary)
        return middle, max(spread, SMALLEST_DEVIATION * abs(middle))

    def _spike(self, reason: str) -> Spike:
        first = max(0, self._open[0].step - self.policy.margin)
        before, deviation = self._scale() if self._ordinary else (None, None)
        losses = [row.loss if math.isfinite(row.loss) else None for row in self._open]
        return Spike(reason, first, self._open[-1].step, before, deviation, losses)
