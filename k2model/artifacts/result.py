"""The artifacts of one lifecycle by name: what it hands to those who tell of it, the report and the release.

Only references travel; whoever needs an artifact's content fetches it from the store. These classes
cross the orchestrator's borders, so they hold nothing but literals, enums, dicts and dataclasses.
"""

from dataclasses import dataclass

from k2model.artifacts.identity import ArtifactRef
from k2model.recipe.schema import PhaseConfig, Recipe


@dataclass(frozen=True)
class PhaseResult:
    """One phase and what it left in the store."""

    phase: PhaseConfig
    sequences: ArtifactRef
    checkpoint: ArtifactRef
    export: ArtifactRef
    scores: ArtifactRef


@dataclass(frozen=True)
class LifecycleResult:
    """Every artifact by its name in the lifecycle, `corpus` or `mid_1/checkpoint`, in the order it was made."""

    recipe: Recipe
    artifacts: dict[str, ArtifactRef]

    @property
    def corpus(self) -> ArtifactRef:
        return self.artifacts["corpus"]

    @property
    def corpus_valid(self) -> ArtifactRef:
        return self.artifacts["corpus_valid"]

    @property
    def phases(self) -> tuple[PhaseResult, ...]:
        """In the recipe's order."""
        parts = ("sequences", "checkpoint", "export", "scores")
        return tuple(
            PhaseResult(phase, *(self.artifacts[f"{phase.name}/{part}"] for part in parts))
            for phase in self.recipe.phases
        )

    def tokens_seen(self) -> dict[str, int]:
        """Phase name -> tokens its checkpoint has seen since random initialisation, along its parents."""
        seen: dict[str, int] = {}
        for phase in self.recipe.phases:
            seen[phase.name] = seen.get(phase.parent, 0) + phase.tokens
        return seen
