"""The table of steps: what a lifecycle consists of, in the order in which it is made.

A row says what a step is called (and so the kind of its artifact), what it reads, how it is made, whether it is a
gate, and what it runs on. Everything that walks a lifecycle walks this table: the workflows, the dry run behind
`k2 plan`, and the tasks. A row added here is in all of them.

`ADOPTED` is made once for each model that the recipe adopts, before anything else, so that one that cannot be adopted
costs nothing; `SYNTHESIS` for each source that a job of synthesis makes, `DATA` once for all phases, `PHASE` once for
each row of the recipe's phases, `END` from all of it. A row's inputs are the names of rows before it. `parent.` before
a name means the same row of the phase's parent, a phase or an adopted model; a phase without parent does not have it.
With a `*` in it, an input is every artifact so called, by its full name: all of them, or none.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from k2model.artifacts import ArtifactRef, Identity, JobStep, PartedStep, Step, Store
from k2model.artifacts.result import LifecycleResult
from k2model.recipe import PhaseConfig, Recipe
from k2model.recipe.schema import AdoptedModel, SourceConfig
from k2model.recipe.synthesis import SynthesisConfig, TeacherKind

DECK = "attachments/deck.html"  # what a gate found

AnyStep = Step | PartedStep | JobStep
Inputs = Mapping[str, ArtifactRef]
Owner = PhaseConfig | AdoptedModel | SourceConfig | None  # of a row: what it is made once for each of
Made = TypeVar("Made")  # a reference, or a promise of one


class RunsOn(Enum):
    """What a step needs of the machine that makes it; images and sizes are `tasks/_platform.py`'s."""

    DATA = "data"  # a CPU and the libraries of data
    MODEL = "model"  # a CPU, torch and room for the weights
    TRAINING = "training"  # the nodes and workers of its phase
    EVALUATION = "evaluation"  # one node, its accelerators if it has some


@dataclass(frozen=True)
class Work:
    """What a row is made of: the recipe, the phase, adopted model or synthesised source it is of (None for others), and
    its inputs by their names."""

    store: Store
    recipe: Recipe
    phase: Owner
    inputs: Inputs

    def __getitem__(self, name: str) -> ArtifactRef:
        return self.inputs[name]

    @property
    def row(self) -> PhaseConfig:
        """The phase's row of the recipe."""
        assert isinstance(self.phase, PhaseConfig), "a step of the data has no phase"
        return self.phase

    @property
    def adopted(self) -> AdoptedModel:
        """The adopted model's row of the recipe."""
        assert isinstance(self.phase, AdoptedModel), "a step of a phase is none of an adopted model"
        return self.phase

    @property
    def job(self) -> SynthesisConfig:
        """The job of the synthesised source."""
        assert isinstance(self.phase, SourceConfig) and self.phase.job, "only a synthesised source has a job"
        return self.phase.job


@dataclass(frozen=True)
class StepRow:
    """One row. `build` gives identity and work of the step, and does nothing yet.

    guards: of a gate, the input that is handed on once it has passed. page: a file of the artifact that is shown when
    it is made, in a Flyte deck. parted: whether it is made part by part, each part a task of its own. wanted: whether
    a recipe has it for an owner; None = for every one.
    """

    name: str
    inputs: tuple[str, ...]
    build: Callable[[Work], AnyStep]
    guards: str = ""
    page: str = ""
    parted: bool = False
    runs_on: RunsOn = RunsOn.DATA
    wanted: Callable[[Recipe, Any], bool] | None = None

    @property
    def gate(self) -> bool:
        """Whether expectations are checked here: of what it guards, or of what it makes itself."""
        return bool(self.guards) or self.page == DECK


def _adopted_checkpoint(work: Work) -> Step:
    from k2model.export import adopted_checkpoint_step
    from k2model.release import released

    return adopted_checkpoint_step(work.recipe.model, work.adopted, released(work.adopted.location))


def _adopted_export(work: Work) -> Step:
    from k2model.export import adopted_export_step

    return adopted_export_step(work.store, work.recipe.model, work.adopted, work["checkpoint"], work.recipe.export)


def _calls(work: Work) -> Step:
    from k2model.synthesis.steps import calls_step

    return calls_step(work.store, work.job)


def _asks(_: Recipe, source: SourceConfig) -> bool:
    return source.job is not None and source.job.teacher == TeacherKind.ENDPOINT


def _synthesis(work: Work) -> PartedStep:
    from k2model.synthesis.steps import synthesis_step

    return synthesis_step(work.store, work.job, work.inputs.get("synthesis_calls"))


def _raw(work: Work) -> PartedStep:
    from k2model.ingest import raw_step

    corpus = work.recipe.corpus
    return raw_step(corpus, work.store, synthesised={one.name: work[_of_job(one)] for one in corpus.synthesised})


def _of_job(source: SourceConfig) -> str:
    """The documents of a synthesised source, by their full name."""
    return f"{source.name}/synthesis"


def _raw_checks(work: Work) -> PartedStep:
    from k2model.validation.documents import raw_checks_step

    return raw_checks_step(work.store, work.recipe.validation, work["corpus_raw"])


def _clean(work: Work) -> PartedStep:
    from k2model.curation import clean_step

    return clean_step(work.store, work.recipe.corpus, work["corpus_raw"])


def _signature_ranges(work: Work) -> PartedStep:
    from k2model.curation import signature_ranges_step

    return signature_ranges_step(work.store, work.recipe.corpus, work["corpus_clean"])


def _signature_matches(work: Work) -> PartedStep:
    from k2model.curation import signature_matches_step

    return signature_matches_step(work.store, work["signature_ranges"])


def _sketch_ranges(work: Work) -> PartedStep:
    from k2model.curation import sketch_ranges_step

    before = work["corpus_clean"], work["signature_ranges"], work["signature_matches"]
    return sketch_ranges_step(work.store, work.recipe.corpus, *before)


def _near_duplicate_pairs(work: Work) -> PartedStep:
    from k2model.curation import near_pairs_step

    return near_pairs_step(work.store, work.recipe.corpus, work["sketch_ranges"])


def _duplicates(work: Work) -> Step:
    from k2model.curation import duplicates_step

    pairs = work["signature_matches"], work["near_duplicate_pairs"]
    return duplicates_step(work.store, work.recipe.corpus, work["corpus_clean"], *pairs)


def _curated(work: Work) -> PartedStep:
    from k2model.curation import curated_step

    inputs = work["corpus_raw"], work["corpus_clean"], work["duplicates"]
    return curated_step(work.store, work.recipe.corpus, *inputs, work.recipe.evaluation.benchmarks)


def _valid(work: Work) -> PartedStep:
    from k2model.validation.documents import valid_step

    recipe = work.recipe
    return valid_step(
        work.store,
        recipe.validation,
        {phase.name: phase.mixture for phase in recipe.phases},
        work["corpus"],
        phase_tokens={phase.name: phase.tokens for phase in recipe.phases},
        min_characters=recipe.corpus.min_characters,
        max_characters=recipe.corpus.max_characters,
    )


def _evaluation_items(work: Work) -> Step:
    from k2model.evals.contamination import corpus_items_step

    return corpus_items_step(work.store, work["corpus_valid"], work.recipe.evaluation)


def _overlap(work: Work) -> PartedStep:
    from k2model.evals.contamination import overlap_step

    items, corpus = work["evaluation_items"], work["corpus_valid"]
    return overlap_step(work.store, items, corpus, work.recipe.corpus.decontamination)


def _items_seen(work: Work) -> Step:
    from k2model.evals.contamination import items_seen_step

    return items_seen_step(
        work.store, work.row, work["evaluation_items"], work["overlap"], work["sequences"], work["tokens"],
        work["checkpoint"], work.recipe.validation.max_epochs,
    )  # fmt: skip


def _tokenizer(work: Work) -> Step:
    from k2model.tokens import tokenizer_step

    return tokenizer_step(work.store, work.recipe.tokenizer, work["corpus_valid"], _specifications(work.recipe))


def _specifications(recipe: Recipe) -> dict[str, bytes]:
    """The `tokenizer.json` of each adopted model, by the field that names the model."""
    if not recipe.adopted:
        return {}
    from k2model.export import specification_of
    from k2model.release import released

    return {
        f"adopted.{one.name}.location='{one.location}'": specification_of(one, released(one.location))
        for one in recipe.adopted
    }


def _tokens(work: Work) -> PartedStep:
    from k2model.tokens import tokens_step

    return tokens_step(work.store, work["corpus_valid"], work["tokenizer"])


def _tokens_checks(work: Work) -> PartedStep:
    from k2model.validation.tokens import tokens_checks_step

    return tokens_checks_step(work.store, work.recipe.validation, work["tokens"])


def _sequences(work: Work) -> Step:
    from k2model.tokens import sequences_step

    return sequences_step(work.store, work.row, work["tokens"], work.recipe.validation.max_epochs)


def _sequences_checks(work: Work) -> Step:
    from k2model.validation.tokens import sequences_checks_step

    return sequences_checks_step(work.store, work.recipe.validation, work.row, work["sequences"])


def _checkpoint(work: Work) -> JobStep:
    from k2model.monitoring import watch_training
    from k2model.training import checkpoint_step

    parent, observe = work.inputs.get("parent.checkpoint"), partial(watch_training, work.recipe, work.row)
    return checkpoint_step(work.store, work.recipe.model, work.row, work["sequences"], parent, observe)


def _export(work: Work) -> Step:
    from k2model.export import export_step

    return export_step(
        work.store, work.recipe.model, work.row, work["checkpoint"], work["tokenizer"],
        trained_length=work.recipe.trained_length(work.row.name), sequences=work["sequences"],
        form=work.recipe.export,
    )  # fmt: skip


def _scores(work: Work) -> JobStep:
    from k2model.evals import scores_step

    recipe, parent = work.recipe, work.inputs.get("parent.export")
    return scores_step(
        work.store, recipe.evaluation, work.row,
        work["corpus_valid"], work["tokens"], work["tokenizer"], work["export"],
        parent_export=parent,
        parent_phase=recipe.row(work.row.parent) if parent else None,
        lengths=recipe.lengths,
    )  # fmt: skip


def _safety_answers(work: Work) -> JobStep:
    from k2model.evals.references import exported
    from k2model.safety import answers_step

    row = work.row
    subject = exported(work["export"], work["tokenizer"], work.store, row.name, row.sequence_length)
    return answers_step(work.store, work.recipe.safety, subject)


def _safety(work: Work) -> Step:
    from k2model.safety import safety_step

    config = work.recipe.safety
    return safety_step(work.store, config.judge, work["safety_answers"], config.data)


def _is_tested(recipe: Recipe, phase: PhaseConfig) -> bool:
    return phase.name in recipe.safety_tested


def _report(work: Work) -> Step:
    from k2model.reporting import report_step

    gates = gate_identities(work.store, work.recipe, work.inputs)
    return report_step(work.store, LifecycleResult(work.recipe, dict(work.inputs)), gates)


def _release(work: Work) -> Step:
    from k2model.release import release_step

    return release_step(work.store, LifecycleResult(work.recipe, dict(work.inputs)))


ADOPTED = (
    StepRow("checkpoint", (), _adopted_checkpoint, runs_on=RunsOn.MODEL),
    StepRow("export", ("checkpoint",), _adopted_export, runs_on=RunsOn.MODEL),
)

SYNTHESIS = (
    StepRow("synthesis_calls", (), _calls, wanted=_asks),
    StepRow("synthesis", ("synthesis_calls",), _synthesis, parted=True),
)

DATA = (
    StepRow("corpus_raw", ("*/synthesis",), _raw, parted=True),
    StepRow("raw_checks", ("corpus_raw",), _raw_checks, guards="corpus_raw", page=DECK, parted=True),
    StepRow("corpus_clean", ("corpus_raw",), _clean, parted=True),
    StepRow("signature_ranges", ("corpus_clean",), _signature_ranges, parted=True),
    StepRow("signature_matches", ("signature_ranges",), _signature_matches, parted=True),
    StepRow("sketch_ranges", ("corpus_clean", "signature_ranges", "signature_matches"), _sketch_ranges, parted=True),
    StepRow("near_duplicate_pairs", ("sketch_ranges",), _near_duplicate_pairs, parted=True),
    StepRow("duplicates", ("corpus_clean", "signature_matches", "near_duplicate_pairs"), _duplicates),
    StepRow("corpus", ("corpus_raw", "corpus_clean", "duplicates"), _curated, parted=True),
    StepRow("corpus_valid", ("corpus",), _valid, page=DECK, parted=True),
    StepRow("evaluation_items", ("corpus_valid",), _evaluation_items),
    StepRow("overlap", ("evaluation_items", "corpus_valid"), _overlap, parted=True),
    StepRow("tokenizer", ("corpus_valid",), _tokenizer),
    StepRow("tokens", ("corpus_valid", "tokenizer"), _tokens, parted=True),
    StepRow("tokens_checks", ("tokens",), _tokens_checks, guards="tokens", page=DECK, parted=True),
)

PHASE = (
    StepRow("sequences", ("tokens",), _sequences),
    StepRow("sequences_checks", ("sequences",), _sequences_checks, guards="sequences", page=DECK),
    StepRow("checkpoint", ("sequences", "parent.checkpoint"), _checkpoint, runs_on=RunsOn.TRAINING),
    StepRow("items_seen", ("evaluation_items", "overlap", "sequences", "tokens", "checkpoint"), _items_seen),
    StepRow("export", ("checkpoint", "tokenizer", "sequences"), _export, runs_on=RunsOn.MODEL),
    StepRow(
        "scores",
        ("corpus_valid", "tokens", "tokenizer", "export", "parent.export"),
        _scores,
        runs_on=RunsOn.EVALUATION,
    ),
    StepRow("safety_answers", ("export", "tokenizer"), _safety_answers, runs_on=RunsOn.EVALUATION, wanted=_is_tested),
    StepRow("safety", ("safety_answers",), _safety, wanted=_is_tested),
)

ALL = "*"  # as an input: every artifact that was made, by its name in the lifecycle

END = (
    StepRow("report", (ALL,), _report, page="attachments/index.html"),
    StepRow("release", (ALL,), _release),
)


def rows(recipe: Recipe) -> Iterator[tuple[StepRow, Owner]]:
    """Every step of a lifecycle, and of which phase, adopted model or synthesised source it is."""
    yield from ((row, model) for model in recipe.adopted for row in ADOPTED)
    yield from data_rows(recipe)
    yield from ((row, phase) for phase in recipe.phases for row in phase_rows(recipe, phase))
    yield from ((row, None) for row in END)


def data_rows(recipe: Recipe) -> Iterator[tuple[StepRow, Owner]]:
    """Every step of a lifecycle's data: those of the jobs of synthesis, and of all sources together."""
    for source in recipe.corpus.synthesised:
        yield from ((row, source) for row in SYNTHESIS if row.wanted is None or row.wanted(recipe, source))
    yield from ((row, None) for row in DATA)


def phase_rows(recipe: Recipe, phase: PhaseConfig) -> list[StepRow]:
    """The rows of `PHASE` that a recipe has for a phase."""
    return [row for row in PHASE if row.wanted is None or row.wanted(recipe, phase)]


def row_called(name: str, owner: Owner = None) -> StepRow:
    """The row of that name; a name that is none is an error of the caller's."""
    table = ADOPTED if isinstance(owner, AdoptedModel) else (*SYNTHESIS, *DATA, *PHASE, *END)
    return next(row for row in table if row.name == name)


def full_name(row: StepRow, phase: Owner) -> str:
    """The name of a step in a lifecycle: `corpus`, or `mid_1/checkpoint`."""
    return f"{phase.name}/{row.name}" if phase else row.name


def inputs_of(row: StepRow, phase: Owner, made: Mapping[str, Made]) -> dict[str, Made]:
    """What `row` reads of `made`, which is by full name: references, or promises of them."""
    data = {row.name for row in DATA}
    optional = {row.name for row in SYNTHESIS if row.wanted}
    found: dict[str, Made] = {}
    for name in row.inputs:
        if "*" in name:
            found |= {full: made[full] for full in made if fnmatchcase(full, name)}
            continue
        own = name.removeprefix("parent.")
        of = "" if phase is None else phase.name if own == name else getattr(phase, "parent", "")
        place = own if own in data else f"{of}/{own}"
        if (of or own == name) and not (own in optional and place not in made):
            found[name] = made[place]
    return found


def gate_identities(store: Store, recipe: Recipe, made: Inputs) -> dict[str, Identity]:
    """Every gate of a lifecycle by full name, the corpus that passes its own among them; `made` is by full name."""
    return {
        full_name(row, phase): row.build(Work(store, recipe, phase, inputs_of(row, phase, made))).identity
        for row, phase in rows(recipe)
        if row.gate
    }
