"""What a finished lifecycle hands to the report and to the release: the recipe and every reference.

Only references travel; whoever needs an artifact's content fetches it from the store. These classes
cross the orchestrator's borders, so they hold nothing but literals, enums and tuples of dataclasses.
"""

from dataclasses import dataclass

from k2model.artifacts import ArtifactRef
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.registry import Registration


@dataclass(frozen=True)
class PhaseResult:
    """One phase and what it left in the store; `registration` is absent where nothing was registered."""

    phase: PhaseConfig
    sequences: ArtifactRef
    checkpoint: ArtifactRef
    export: ArtifactRef
    scores: ArtifactRef
    registration: Registration | None = None


@dataclass(frozen=True)
class LifecycleResult:
    """Every phase in the recipe's order, after the artifacts they all share."""

    recipe: Recipe
    corpus_raw: ArtifactRef
    corpus: ArtifactRef
    corpus_valid: ArtifactRef
    tokenizer: ArtifactRef
    tokens: ArtifactRef
    phases: tuple[PhaseResult, ...]

    def artifacts(self) -> tuple[tuple[str, ArtifactRef], ...]:
        """(name, reference) of every artifact in the order it was made, e.g. ("mid_1/checkpoint", ...)."""
        shared = ("corpus_raw", "corpus", "corpus_valid", "tokenizer", "tokens")
        named = [(name, getattr(self, name)) for name in shared]
        for result in self.phases:
            for part in ("sequences", "checkpoint", "export", "scores"):
                named.append((f"{result.phase.name}/{part}", getattr(result, part)))
        return tuple(named)

    def tokens_seen(self) -> dict[str, int]:
        """Phase name -> tokens its checkpoint has seen since random initialisation, along its parents."""
        seen: dict[str, int] = {}
        for result in self.phases:
            seen[result.phase.name] = seen.get(result.phase.parent, 0) + result.phase.tokens
        return seen
