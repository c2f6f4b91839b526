"""Safety scores as people read them: by checkpoint, beside parent and champion, beside the judge and K2's figures.

The terminal, the page of `k2 safety report`, the lifecycle's report and the model card show the same rows.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any

from k2model.artifacts import ArtifactRef, Store
from k2model.evals.scores import ScoreRow
from k2model.recipe.safety import SAFETY
from k2model.recipe.schema import Recipe
from k2model.reporting.templates import HERE, filled, shortened
from k2model.safety.answers import Answer
from k2model.safety.compare import Comparison, compared
from k2model.safety.judging import SafetyResult, read_safety, read_samples
from k2model.safety.registry import domain_titles
from k2model.safety.rows import OUTCOMES, SafetyRow, Sample

HEADLINES = {
    "safe": "safe",
    "right": "right",
    "correct_refusal": "unsafe requests refused",
    "over_refusal": "harmless requests refused",
    "divergence": "thinking and answer diverge",
    **{f"divergence/{one}": f"harm in {one.replace('_', ' ')}" for one in OUTCOMES},
    "without_trace": "answers without a trace",
}
_TITLES = {"heldout": "Held out of fine-tuning", "public": "Public suites"}
ALL = "all"  # begins the lines over a whole domain


@dataclass(frozen=True)
class Tested:
    """A checkpoint that was tested: its name, what was scored, and every answer with its verdict, read when wanted."""

    name: str
    ref: ArtifactRef
    result: SafetyResult
    store: Store

    @cached_property
    def samples(self) -> list[Sample]:
        return read_samples(self.store, self.ref)


@dataclass(frozen=True)
class Line:
    """A row of a table: a cell for each checkpoint, None where it was not measured."""

    title: str
    cells: tuple[SafetyRow | None, ...]


@dataclass(frozen=True)
class Group:
    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Figure:
    """A published figure, and the score of ours that comes nearest to it with a value for each checkpoint."""

    model: str
    score: str
    value: float
    n: int | None
    ours: str
    values: tuple[float | None, ...]


def tested(store: Store, refs: Mapping[str, ArtifactRef]) -> list[Tested]:
    """By the checkpoint's name. Raises the store's errors."""
    return [Tested(name, ref, read_safety(store, ref), store) for name, ref in refs.items()]


def tested_phases(store: Store, recipe: Recipe, artifacts: Mapping[str, ArtifactRef]) -> list[Tested]:
    """The phases of a lifecycle that were tested, in its order; `artifacts` by their names in it."""
    names = (phase.name for phase in recipe.phases)
    return tested(store, {name: artifacts[f"{name}/{SAFETY}"] for name in names if f"{name}/{SAFETY}" in artifacts})


def gated_rows(found: Sequence[Tested]) -> list[ScoreRow]:
    """What gates read of them."""
    return [row.as_score(one.name) for one in found if one.result.feeds_gates for row in one.result.rows]


def against(one: Tested, others: Sequence[Tested]) -> list[tuple[str, list[Comparison]]]:
    """(Name of the other, comparisons) with each other checkpoint that was asked some of the same prompts; none with
    itself, and none where another judge said what it did."""
    found = []
    for other in others:
        same_judge = dict(other.result.judge) == dict(one.result.judge)
        if other.ref.identity != one.ref.identity and same_judge and (rows := compared(other.samples, one.samples)):
            found.append((other.name, rows))
    return found


def parents(found: Sequence[Tested], recipe: Recipe) -> dict[str, Tested]:
    """What each is set beside, by name: a phase beside its nearest ancestor that was tested too, any other model beside
    the first of them."""
    by_name, beside = {one.name: one for one in found}, {}
    above = {phase.name: phase.parent for phase in recipe.phases}
    for one in found:
        name = above.get(one.name, found[0].name if one is not found[0] else "")
        while name and name not in by_name:
            name = above.get(name, "")
        if name:
            beside[one.name] = by_name[name]
    return beside


def judges(found: Sequence[Tested]) -> list[SafetyResult]:
    """A result of each judge with its agreement, by what it was measured on."""
    return list({(str(one.result.judge), *one.result.agreement): one.result for one in found}.values())


def headline(found: Sequence[Tested]) -> list[Line]:
    lines = (Line(title, _cells(found, f"{SAFETY}/{name}")) for name, title in HEADLINES.items())
    return [line for line in lines if any(line.cells)]


def domains(found: Sequence[Tested]) -> list[Group]:
    """The tests by domain, each with its rate of right answers; first the domain's."""
    of: dict[str, dict[str, None]] = {}
    for one in found:
        for sample in one.samples:
            of.setdefault(sample.answer.domain, {})[sample.answer.test] = None
    titles = domain_titles() | _TITLES
    groups = []
    for domain, tests in of.items():
        lines = [Line(f"{ALL}, {of_all}", _cells(found, f"{SAFETY}/{domain}/{of_all}")) for of_all in ("safe", "right")]
        lines += [Line(test.replace("_", " "), _cells(found, f"{SAFETY}/{test}/right")) for test in tests]
        groups.append(Group(titles.get(domain, domain), tuple(line for line in lines if any(line.cells))))
    return groups


def resistance(found: Sequence[Tested]) -> list[Line]:
    """Wrapped requests that are refused all the same, by wrapper."""
    prefix = f"{SAFETY}/resistance/"
    scores = dict.fromkeys(
        row.score for one in found for row in one.result.rows if row.score.startswith(prefix)
    )  # fmt: skip
    return [Line(score.removeprefix(prefix).replace("_", " "), _cells(found, score)) for score in scores]


def divergence(found: Sequence[Tested]) -> list[Line]:
    """By test, of samples that have a trace; tests without any divergence are left out."""
    tests = dict.fromkeys(sample.answer.test for one in found for sample in one.samples)
    lines = (Line(test.replace("_", " "), _cells(found, f"{SAFETY}/{test}/divergence")) for test in tests)
    return [line for line in lines if any(cell and cell.value for cell in line.cells)]


def published(found: Sequence[Tested]) -> tuple[list[Figure], list[str]]:
    """K2's published figures beside ours, and in what they differ."""
    table = tomllib.loads(files("k2model.safety").joinpath("published.toml").read_text(encoding="utf-8"))
    figures = [
        Figure(one["model"], one["score"], one["value"], one.get("n"), one["ours"], tuple(_ours(found, one["ours"])))
        for one in table["figure"]
    ]
    return figures, list(table["differs"])


def _ours(found: Sequence[Tested], named: str) -> Iterator[float | None]:
    score = named.removeprefix("1 - ")
    for cell in _cells(found, score):
        yield None if cell is None else cell.value if score == named else 1 - cell.value


def _cells(found: Sequence[Tested], score: str) -> tuple[SafetyRow | None, ...]:
    return tuple(one.result.row(score) for one in found)


@dataclass(frozen=True)
class Shown:
    """An answer on the page: what became of it in a word."""

    answer: Answer
    outcome: str
    right: bool


def examples(one: Tested, each: int = 1) -> list[Shown]:
    """Of every test the first answers that were right and the first that were not; not picked by hand."""
    shown: list[Shown] = []
    seen: dict[tuple[str, bool], int] = {}
    for sample in one.samples:
        if sample.right is None or seen.get((sample.answer.test, sample.right), 0) >= each:
            continue
        seen[sample.answer.test, sample.right] = seen.get((sample.answer.test, sample.right), 0) + 1
        judged = sample.scored
        outcome = "answered" if judged else "cut off"
        if judged and (judged.harmful or judged.refuses):
            outcome = "harmful" if judged.harmful else "refused"
        shown.append(Shown(sample.answer, outcome, sample.right))
    return shown


def context(found: Sequence[Tested], recipe: Recipe, best: Tested | None) -> dict[str, Any]:
    """What the template shows of checkpoints; `best` is the champion, if there is one."""
    ancestors = parents(found, recipe)
    others = {one.name: [other for other in (ancestors.get(one.name), best) if other] for one in found}
    comparisons = [(one.name, name, rows) for one in found for name, rows in against(one, others[one.name])]
    figures, differs = published(found)
    return {
        "tested": found, "judges": judges(found), "headline": headline(found), "domains": domains(found),
        "resistance": resistance(found),
        "divergence": divergence(found), "comparisons": comparisons, "figures": figures, "differs": differs,
        "examples": examples(found[-1]) if found else [],
    }  # fmt: skip


def page(found: Sequence[Tested], recipe: Recipe, best: Tested | None) -> str:
    """One HTML file that needs nothing beside it."""
    shown = {"recipe": recipe, "safety": context(found, recipe, best)}
    return filled(HERE / "safety.html.j2", {"shortened": shortened}, shown)
