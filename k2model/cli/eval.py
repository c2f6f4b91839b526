"""`k2 eval`: ask any model what it knows, see all checkpoints beside all tasks, compare two of them item by item."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import (
    CommandGroup,
    as_json_option,
    console,
    overrides_option,
    pairs,
    say,
    show,
    store_option,
    table,
)
from k2model.settings import recipe_name

if TYPE_CHECKING:
    from k2model.artifacts import Store
    from k2model.evals.choice import Questions
    from k2model.evals.matrix import Entry
    from k2model.evals.references import Known
    from k2model.evals.scores import ScoreRow

ROWS = ("task", "value", "95%", "completed", "n", "cut off", "too long", "unscored", "tokens", "chance")
PAIRED = ("task", "first", "second", "difference", "95%", "p", "gained", "lost", "n", "clusters")
MISSING = "missing"

recipe_option = click.option("--recipe", default=recipe_name, show_default="$K2_RECIPE", help="Whose phases and tasks.")
tasks_option = click.option(
    "--tasks", "tasks", multiple=True, metavar="NAMES",
    help="Tasks or families of the recipe, by commas, or YAML files of tasks; all that the recipe asks when left out.",
)  # fmt: skip
limit_option = click.option("--limit", type=click.IntRange(1), help="Ask the first N items of each task alone.")
backend_option = click.option(
    "--backend", type=click.Choice(["own", "transformers"]), default="own", show_default=True,
    help="What runs weights: the project's own model, or transformers in fp32.",
)  # fmt: skip
key_option = click.option(
    "--api-key-env", default="", metavar="NAME", help="Environment variable that holds a server's key."
)


def question_options(command: Callable[..., None]) -> Callable[..., None]:
    """Of whose phases, in which store, and what is asked: the arguments of `known_of` and `chosen_questions`."""
    for option in (store_option, overrides_option, recipe_option, limit_option, tasks_option):
        command = option(command)
    return command


@click.group(name="eval", cls=CommandGroup)
def evaluate() -> None:
    """Scores of any model on any task: each is measured once, and found from then on."""


@evaluate.command()
@click.argument("reference")
@backend_option
@key_option
@question_options
@as_json_option
def run(
    reference: str, tasks: tuple[str, ...], backend: str, limit: int | None, api_key_env: str, recipe: str,
    overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """Ask one model: a phase (mid_4), a kept checkpoint (mid_1@200), an export of the store, a folder of weights or a
    release, or an OpenAI-compatible server (http://host/v1#model). What was measured before is not asked again; what
    was answered before a kill neither.

    \b
    k2 eval run mid_4
    k2 eval run mid_1@200 --tasks arithmetic,loss
    k2 eval run sft --tasks my_task.yaml --json
    k2 eval run ./SmolLM2-135M --backend transformers --tasks my_task.yaml --limit 50
    k2 eval run http://localhost:8000/v1#K2-V2 --tasks my_task.yaml
    """
    from k2model.evals.cells import Cell, check_failures, make_cells, rows_of
    from k2model.evals.references import subject_of

    opened, known = known_of(store, recipe, overrides)
    questions = chosen_questions(opened, known, tasks, limit)
    subject = subject_of(reference, opened, known, backend, api_key_env)
    cells = [Cell(subject, measure) for measure in questions.of(subject, reference)]
    _tell_absent(questions)
    if not cells:
        raise click.UsageError(f"{reference} is asked none of {', '.join(tasks)}: they fit other phases, or lack data")
    refs, failures = make_cells(opened, cells)
    rows = [row for ref in refs for row in rows_of(opened, ref, subject.name)]
    if as_json:
        told = [asdict(row) | {"cell": ref.name} for ref in refs for row in rows_of(opened, ref, subject.name)]
        click.echo(json.dumps(told))
    else:
        show(ROWS, [_told(row) for row in rows], as_json=False)
    check_failures(failures, len(cells))


@evaluate.command()
@click.option("--fill", is_flag=True, help="Measure what is missing, and nothing else.")
@click.option("--checkpoints", multiple=True, metavar="REFS", help="By commas, of those there are: mid_1,mid_1@200.")
@click.option("--intermediate/--phases", default=True, show_default=True, help="With kept checkpoints within phases.")
@question_options
@as_json_option
def matrix(
    fill: bool, checkpoints: tuple[str, ...], intermediate: bool, tasks: tuple[str, ...], limit: int | None,
    recipe: str, overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """Checkpoints of a recipe x tasks: value, 95% interval and n of each cell, and which are missing.

    \b
    k2 eval matrix
    k2 eval matrix --tasks facts,loss --phases
    k2 eval matrix --fill --tasks my_task.yaml
    k2 eval matrix --fill --checkpoints mid_1,mid_1@200 --json
    """
    from k2model.evals.cells import check_failures, make_cells, missing
    from k2model.evals.matrix import chosen_checkpoints, entries

    opened, known = known_of(store, recipe, overrides)
    questions = chosen_questions(opened, known, tasks, limit)
    wanted = chosen_checkpoints(known, names_in(checkpoints), intermediate)
    found, damaged = entries(opened, questions, wanted)
    _tell_absent(questions)
    lacking = missing(opened, [entry.cell for entry in found]) if fill else []
    _, failures = make_cells(opened, lacking)
    if lacking:
        found, _ = entries(opened, questions, wanted)
    if as_json:
        click.echo(json.dumps([_entry(entry) for entry in found]))
    else:
        _draw(found)
        _draw_averages(found, questions.chosen)
    check_failures([*damaged, *failures], len(lacking) + len(damaged))


@evaluate.command()
@click.argument("first")
@click.argument("second")
@backend_option
@key_option
@question_options
@as_json_option
def compare(
    first: str, second: str, tasks: tuple[str, ...], backend: str, limit: int | None, api_key_env: str, recipe: str,
    overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """SECOND against FIRST on the items that both were asked: difference with a paired bootstrap interval, items gained
    and lost, McNemar's exact p. Only what was measured is compared; `k2 eval run` measures.

    \b
    k2 eval compare mid_1 mid_4
    k2 eval compare mid_1@100 mid_1@200 --tasks arithmetic
    """
    from k2model.evals.cells import Cell, results_of
    from k2model.evals.compare import compare as compared
    from k2model.evals.references import subject_of

    opened, known = known_of(store, recipe, overrides)
    questions = chosen_questions(opened, known, tasks, limit)
    sides = []
    for reference in (first, second):
        subject = subject_of(reference, opened, known, backend, api_key_env)
        cells = [Cell(subject, measure) for measure in questions.of(subject, reference)]
        refs = [ref for cell in cells if (ref := opened.find(cell.identity)) is not None]
        if not refs:
            raise click.UsageError(f"{reference} has no scores on these tasks yet; measure them with `k2 eval run`")
        sides.append([one for ref in refs for one in results_of(opened, ref)])
    found = compared(*sides)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found]))
        return
    shown = [
        (
            one.score, f"{one.result.first:.3f}", f"{one.result.second:.3f}", f"{one.result.difference:+.3f}",
            f"{one.result.low:+.3f} to {one.result.high:+.3f}", "" if one.result.p is None else f"{one.result.p:.3g}",
            one.result.gained, one.result.lost, one.result.n, one.result.clusters,
        )
        for one in found
    ]  # fmt: skip
    show(PAIRED, shown, as_json=False)


def known_of(store: str, recipe: str, overrides: tuple[str, ...]) -> "tuple[Store, Known]":
    """The store, and what of the recipe's lifecycle is in it."""
    from k2model.artifacts import Store
    from k2model.lifecycle.plan import known_artifacts
    from k2model.recipe import chosen_recipe

    opened = Store.open(store)
    return opened, known_artifacts(opened, chosen_recipe(recipe, pairs(overrides)))


def chosen_questions(store: "Store", known: "Known", tasks: tuple[str, ...], limit: int | None) -> "Questions":
    """Of the names and files that `--tasks` gave."""
    from k2model.evals.choice import Questions
    from k2model.recipe.task_files import questions_of

    return Questions(known, store, *questions_of(names_in(tasks)), limit or 0)


def _tell_absent(questions: "Questions") -> None:
    """On stderr: what of public suites cannot be asked here, and why; scores stand beside it."""
    for name, why in questions.absent.items():
        say(f"absent: {name}: {why}", err=True)


def names_in(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names by commas. An option that was given and names nothing (an empty variable of a shell) is refused, as it
    would else mean all there is."""
    names = tuple(one.strip() for value in values for one in value.split(",") if one.strip())
    if values and not names:
        raise click.UsageError("--tasks or --checkpoints is given and names nothing; name some, or leave it out")
    return names


def _told(row: "ScoreRow") -> tuple[Any, ...]:
    return (
        row.score, f"{row.value:.3f}", f"{row.low:.3f} to {row.high:.3f}",
        "" if row.completed is None else f"{row.completed:.3f}", row.n, row.cut_off or "", row.too_long or "",
        row.unscored or "", "" if row.mean_tokens is None else f"{row.mean_tokens:.0f}",
        "" if row.chance is None else f"{row.chance:.3f}",
    )  # fmt: skip


def _draw_averages(entries: "list[Entry]", chosen: tuple[str, ...]) -> None:
    """K2's averages over each public suite that is chosen as a whole, at every checkpoint."""
    if not entries or not any(one.startswith("k2_") for one in chosen):
        return  # the harness takes seconds to load
    from k2model.evals.harness import at_effort, averages_along, known_suites

    scores: dict[Any, dict[str, float]] = {}
    for entry in entries:
        scores.setdefault(entry.checkpoint, {}).update((row.score, row.value) for row in entry.rows)
    for name, effort in map(at_effort, chosen):
        if (suite := known_suites().get(name)) is None:
            continue
        along = averages_along(suite, [one.phase for one in scores], list(scores.values()), effort)
        rows = [
            (
                at.reference, count, f"{found.overall:.1f}", _there(found.overall_there), len(found.missing) or "",
                *(f"{found.categories[one]:.1f}" for one in suite.categories),
            )
            for at, (count, found) in zip(scores, along, strict=True)
        ]  # fmt: skip
        at = f" at effort {effort}" if suite.has_chats else ""
        console().print(f"{suite.title}{at}: averages, 0 where a task is 0 or missing", highlight=False)
        show(("checkpoint", "pooled", "overall", "of what is there", "missing", *suite.categories), rows, as_json=False)


def _there(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _entry(entry: "Entry") -> dict[str, Any]:
    rows = [asdict(row) for row in entry.rows]
    ref = entry.ref.name if entry.ref else None
    return {"checkpoint": asdict(entry.checkpoint), "task": entry.cell.measure.name, "cell": ref, "scores": rows}


def _draw(entries: "list[Entry]") -> None:
    """A table of tasks with a column for each checkpoint."""
    checkpoints = list(dict.fromkeys(entry.checkpoint.reference for entry in entries))
    cells: dict[str, dict[str, str]] = {}
    for entry in entries:
        at, name = entry.checkpoint.reference, entry.cell.measure.name
        if not entry.rows:
            cells.setdefault(name, {})[at] = MISSING
        for row in entry.rows:
            cells.setdefault(row.score, {})[at] = f"{row.value:.2f} ({row.low:.2f}-{row.high:.2f}) n={row.n}"
    rows = [(score, *(by.get(one, "") for one in checkpoints)) for score, by in cells.items()]
    console().print(table(("task", *checkpoints), rows))
    lacking = sum(not entry.rows for entry in entries)
    console().print(f"{len(entries) - lacking} of {len(entries)} cells measured, {lacking} missing", highlight=False)
