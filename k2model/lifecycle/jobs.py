"""How far the jobs of synthesis of a recipe are: what was asked, what is made, what became of the samples."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from k2model.artifacts import Store, read_manifest
from k2model.artifacts.manifest import files_of
from k2model.artifacts.outside import read_typed, remedy
from k2model.artifacts.parts import recorded_parts
from k2model.lifecycle.plan import Decision, decide
from k2model.lifecycle.steps import Owner, StepRow, data_rows
from k2model.recipe import Recipe
from k2model.recipe.schema import SourceConfig
from k2model.recipe.synthesis import SynthesisConfig, TeacherKind
from k2model.synthesis.output import REPORT, SynthesisReport
from k2model.synthesis.run import part_count
from k2model.synthesis.steps import CALLS, DOCUMENTS, Expected, expected, recorded_answers


@dataclass(frozen=True)
class JobStatus:
    """A synthesised source. `parts` of documents are there of `all_parts`; `recorded`: answers in the record of an
    endpoint's job, some of which may be of earlier runs. `expected`: what is still to be asked, None where nothing is.
    `rejected` has reasons. Samples are 0 until the artifact is made."""

    source: str
    teacher: str
    cases: int
    made: bool
    parts: int
    all_parts: int
    recorded: int = 0
    expected: Expected | None = None
    kept: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def standing(self) -> str:
        if self.made:
            return "made"
        if self.expected:
            return f"{self.recorded:,} answers recorded, {asking(self.expected)}"
        return f"{self.parts} of {self.all_parts} parts"

    @property
    def outcome(self) -> str:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.rejected.items()))
        rejected = f"; rejected: {reasons}" if reasons else ""
        return f"{self.kept:,} kept{rejected}" if self.made else ""


def jobs_of(store: Store, recipe: Recipe) -> list[JobStatus]:
    """The jobs of a recipe, in the order of its sources."""
    steps: list[tuple[StepRow, Owner]] = [one for one in data_rows(recipe) if isinstance(one[1], SourceConfig)]
    there = {decision.name: decision for decision, _ in decide(store, recipe, steps)}
    return [_status(store, one.job, there) for one in recipe.corpus.synthesised if one.job]


def _status(store: Store, job: SynthesisConfig, there: Mapping[str, Decision]) -> JobStatus:
    documents = there[f"{job.source}/{DOCUMENTS}"]
    made, all_parts, name = documents.action == "cached", part_count(job), documents.uri.removeprefix(f"{store.uri}/")
    if made:
        files = files_of(documents.uri, read_manifest(documents.uri))
        report = read_typed(SynthesisReport, files, REPORT, "what a job writes", remedy(documents.uri))
        return JobStatus(
            job.source, job.teacher.value, job.count, True, all_parts, all_parts,
            kept=report["kept"], rejected=report["rejected_by_reason"],
        )  # fmt: skip
    parts = len(recorded_parts(store, name))
    asks = job.teacher is TeacherKind.ENDPOINT and there[f"{job.source}/{CALLS}"].action != "cached"
    recorded, left = (recorded_answers(store, job.name), expected(job)) if asks else (0, None)
    return JobStatus(job.source, job.teacher.value, job.count, False, parts, all_parts, recorded, left)


def asking(left: Expected) -> str:
    return (
        f"about {left.calls:,} calls in all, {left.prompt_tokens:,} tokens of prompts, at most "
        f"{left.most_answer_tokens:,} of answers"
    )
