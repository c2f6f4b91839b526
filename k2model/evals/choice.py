"""What is asked of a model: all that a recipe asks, or what a person chose of it, of own files and public suites."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from k2model.artifacts import Store
from k2model.errors import EvaluationError, nearest
from k2model.evals.cells import Subject
from k2model.evals.material import Material
from k2model.evals.measures import Measure, fitted_texts, measures_of
from k2model.evals.references import Known, kind_of
from k2model.recipe.evaluation import BenchmarkConfig, EvaluationConfig
from k2model.recipe.schema import PhaseKind
from k2model.recipe.tasks import LONG_CONTEXT, LOSS, MADE_FAMILIES, tasks_of


@dataclass(frozen=True)
class Questions:
    """chosen: names of tasks or of families (`arithmetic`, `loss`) of the recipe, of families that need no corpus
    (`knights_8`, `needle/4096`) whether the recipe has them or not, of `own` tasks, and of public suites (`k2_base`,
    see `k2model.evals.harness`; `k2_instruct/low` at another effort than high); without any, all that the recipe asks.
    limit: items of each task, 0 = all. absent: which parts of suites have no data on this machine, and why.

    Raises EvaluationError for a chosen name that is none of these.
    """

    known: Known
    store: Store
    chosen: tuple[str, ...] = ()
    own: tuple[BenchmarkConfig, ...] = ()
    limit: int = 0
    absent: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = {one.name: one for one in self.known.recipe.evaluation.benchmarks}
        for task in self.own:
            if there.get(task.name, task) != task:
                raise EvaluationError(
                    f"recipe {self.known.recipe.name} has another benchmark '{task.name}'; give this task another name"
                )
        _ = self.suites

    @property
    def config(self) -> EvaluationConfig:
        """The recipe's, with what is chosen beside it, each with as many items as `limit` says."""
        config = self.known.recipe.evaluation
        made = [one for one in MADE_FAMILIES if any(named(name, one) for name in self.chosen)]
        families = (*config.families, *(one for one in made if one not in config.families))
        config = replace(config, benchmarks=tuple(dict.fromkeys((*config.benchmarks, *self.own))), families=families)
        if not self.limit:
            return config
        few = min(config.items_per_family, self.limit)
        documents = min(config.retrieval_documents, self.limit)
        limited = tuple(replace(one, limit=min(one.limit or self.limit, self.limit)) for one in config.benchmarks)
        return replace(config, items_per_family=few, retrieval_documents=documents, benchmarks=limited)

    @property
    def suites(self) -> list[tuple[Any, str]]:
        """The public tasks among what is chosen, with the efforts of their chats."""
        ours = self._names()
        public = [name for name in self.chosen if not any(named(task, name) for task in ours)]
        if not public:
            return []
        from k2model.evals.harness import known_suites, tasks_at

        try:
            return tasks_at(public)
        except EvaluationError as error:
            wrong = next((name for name in public if f"'{name}'" in str(error)), public[0])
            raise EvaluationError(
                f"nothing is asked '{wrong}'; {nearest(wrong, [*sorted(ours), *known_suites()])}. Name tasks or "
                "families of the recipe, a YAML file of tasks of one's own, or a public suite"
            ) from error

    def of(self, subject: Subject, reference: str) -> list[Measure]:
        """What a model is asked: of the recipe's tasks those that fit its kind of phase, of a model that is none of its
        phases all that are named, and every chosen suite."""
        recipe, config = self.known.recipe, self.config
        suites = [measure for task, effort in self.suites for measure in self._suite(task, effort, subject)]
        wanted = [name for name in self.chosen if any(named(task, name) for task in self._names())]
        if self.chosen and not wanted:
            return suites
        made = self.known.made
        if "corpus_valid" not in made and not any(named(task, one) for one in wanted for task in self._of_corpus()):
            config = replace(config, families=tuple(one for one in config.families if one in MADE_FAMILIES))
        material = Material(self.store, made.get("corpus_valid"), made.get("tokens"))
        lengths = recipe.lengths
        kinds = [kind_of(reference, recipe)]
        if wanted and reference.partition("@")[0] not in {phase.name for phase in recipe.phases}:
            kinds = [
                PhaseKind.MIDTRAIN,
                PhaseKind.SFT,
            ]  # nobody knows whether it is a chat model: what is named is asked
        found = [one for kind in kinds for one in measures_of(config, material, kind, subject.bounds, lengths)]
        measures = list({one.name: one for one in found}.values())
        if not self.chosen and subject.served:
            measures = [one for one in measures if not one.name.startswith(f"{LOSS}/")]
            self.absent[LOSS] = "a server takes no documents in K2's markup; evaluate the weights"
        if self.chosen:
            measures += fitted_texts(config, sorted(self._lengths() - set(lengths)))
            measures = [one for one in measures if any(named(one.name, name) for name in wanted)]
        return measures + suites

    def _suite(self, task: Any, effort: str, subject: Subject) -> Iterator[Measure]:
        from k2model.evals.harness import measure_of, prepare

        prepared = prepare(task, effort, self.limit or None)
        self.absent.update(prepared.told)
        if prepared.parts:
            yield measure_of(prepared, subject.bounds)

    def _names(self) -> list[str]:
        """Of every task that the recipe or a file of one's own has, whatever phase it fits; families by theirs."""
        return [*self._of_corpus(), *self._made(), *(one.name for one in self.config.benchmarks)]

    def _made(self) -> list[str]:
        """Of what needs no corpus, at the recipe's lengths and those chosen."""
        config = replace(self.config, benchmarks=(), families=MADE_FAMILIES)
        tasks = [task for kind in PhaseKind for task in tasks_of(config, kind)]
        lengths = self._lengths().union(self.known.recipe.lengths)
        fitted = [f"{family}/{length}" for family in LONG_CONTEXT for length in sorted(lengths)]
        return [*dict.fromkeys(task.name for task in tasks), *fitted]

    def _lengths(self) -> set[int]:
        """Those of names such as `needle/4096`, which need be none of the recipe's."""
        pairs = (name.partition("/") for name in self.chosen)
        return {int(rest) for family, _, rest in pairs if family in LONG_CONTEXT and rest.isdigit() and int(rest)}

    def _of_corpus(self) -> list[str]:
        own = tuple(one for one in self.config.families if one not in MADE_FAMILIES)
        families = replace(self.config, benchmarks=(), families=own)
        tasks = [task for kind in PhaseKind for task in tasks_of(families, kind)]
        lengths = self.known.recipe.lengths
        domains = {entry.domain for entry in self.known.recipe.corpus.sources if entry.domain}
        named = [*dict.fromkeys(task.name for task in tasks), *(f"retrieval/{length}" for length in lengths)]
        return [*named, f"{LOSS}/", *(f"{LOSS}/{domain}" for domain in sorted(domains))]


def named(task: str, chosen: str) -> bool:
    """Whether a task is called so: by its name, or by the family it begins with (`arithmetic`, `loss`)."""
    return task == chosen or task.startswith(f"{chosen}/") or (task == f"{LOSS}/" and chosen.startswith(task))
