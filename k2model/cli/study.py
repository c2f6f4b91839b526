"""`k2 eval study` and `k2 eval overlap`: a model's whole life as one page, and what it had seen of its evaluation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.eval import chosen_questions, known_of, names_in, question_options
from k2model.cli.terminal import as_json_option, console, show, write_page

if TYPE_CHECKING:
    from k2model.curation.overlap import EvaluationItem
    from k2model.evals.choice import Questions

COLUMNS = ("score", "items", "seen", "share", "value", "of unseen", "95%", "unseen", "of seen")

processes_option = click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="How many parts are read at once."
)
level_option = click.option(
    "--level", type=click.Choice(["rows", "sources"]), default="rows", show_default=True,
    help="What counts as seen: documents in the rows of the steps taken, or all of the sources in the mixtures.",
)  # fmt: skip


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("study.html"), show_default=True)
@click.option("--checkpoints", multiple=True, metavar="REFS", help="By commas, of those there are; all when left out.")
@click.option("--overlap/--no-overlap", default=True, show_default=True, help="Beside what had been seen in training.")
@processes_option
@question_options
def study(
    out: Path, checkpoints: tuple[str, ...], overlap: bool, processes: int, tasks: tuple[str, ...], limit: int | None,
    recipe: str, overrides: tuple[str, ...], store: str,
) -> None:  # fmt: skip
    """One HTML of all checkpoints and all tasks of a recipe: curves, emergence, losses, samples side by side.

    What was not measured is shown as missing; `k2 eval matrix --fill` measures it. The page loads nothing.

    \b
    k2 eval matrix --fill && k2 eval study --out study.html
    """
    from k2model.evals.cells import check_failures
    from k2model.evals.clean_scores import look_up
    from k2model.evals.matrix import chosen_checkpoints, entries
    from k2model.reporting.study import asked_of, study_of, study_page

    opened, known = known_of(store, recipe, overrides)
    questions = chosen_questions(opened, known, tasks, limit)
    found, damaged = entries(opened, questions, chosen_checkpoints(known, names_in(checkpoints)))
    if not found:
        check_failures(damaged, len(damaged))
        raise click.UsageError(f"{known.recipe.name} has no checkpoint in this store yet, or is asked nothing")
    seen = look_up(opened, known, _later_items(questions), processes) if overlap else None
    made = study_of(known.recipe, asked_of(opened, found), seen)
    write_page(out, study_page(made))
    console().print(
        f"{out}: {len(made.checkpoints)} checkpoints, {len(made.series)} scores, {made.measured} measured, "
        f"{made.missing} missing",
        highlight=False,
    )
    check_failures(damaged, len(found) + len(damaged))


@click.command()
@click.argument("reference")
@level_option
@processes_option
@question_options
@as_json_option
def overlap(
    reference: str, level: str, processes: int, tasks: tuple[str, ...], limit: int | None, recipe: str,
    overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """What REFERENCE, a phase or a kept checkpoint (mid_1@200), had seen of the items it was scored on, and its scores
    without these. Items of later benchmarks (--tasks my_task.yaml) are looked up in the stored corpus.

    \b
    k2 eval overlap mid_4
    k2 eval overlap mid_1@200 --tasks my_task.yaml --processes 4
    """
    from k2model.evals.cells import check_failures, results_of
    from k2model.evals.clean_scores import clean_scores, look_up
    from k2model.evals.contamination import Level
    from k2model.evals.matrix import chosen_checkpoints, entries

    opened, known = known_of(store, recipe, overrides)
    questions = chosen_questions(opened, known, tasks, limit)
    (checkpoint,) = chosen_checkpoints(known, (reference,))
    seen = look_up(opened, known, _later_items(questions), processes, Level(level))
    at = seen.at(checkpoint.phase, None if checkpoint.last else checkpoint.step)
    found, damaged = entries(opened, questions, [checkpoint])
    check_failures(damaged, len(damaged))
    rows = []
    for entry in found:
        results = results_of(opened, entry.ref) if entry.ref else []
        values = {row.score: row.value for row in entry.rows}
        for score, one in clean_scores(results, at).items():
            clean = one.value, _interval(one.low, one.high), one.clean_n
            rows.append((score, one.n, one.seen, one.overlap, values[score], *clean, one.seen_value))
    if not rows:
        raise click.UsageError(f"{reference} has no scores on these tasks yet; measure them with `k2 eval run`")
    unknown = seen.unknown(checkpoint.phase)
    if as_json:
        scores = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        click.echo(json.dumps({"checkpoint": reference, "level": level, "unknown": unknown, "scores": scores}))
        return
    show(COLUMNS, [tuple(map(_told, row)) for row in rows], as_json=False)
    if unknown:
        console().print(f"What {', '.join(unknown)} had seen before is not known.", style="yellow")


def _later_items(questions: "Questions") -> "list[EvaluationItem]":
    """The items of tasks that came beside the recipe, and of public suites."""
    from k2model.curation.overlap import external
    from k2model.evals.contamination import benchmark_items

    found = list(external(benchmark_items(questions.own), questions.known.recipe.corpus.decontamination))
    if suites := questions.suites:
        from k2model.evals.harness import evaluation_items, prepare

        once = {(task.suite, task.name): task for task, _ in suites}  # at whatever effort its items are asked
        found += [item for task in once.values() for item in evaluation_items(prepare(task))]
    return found


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _told(value: Any) -> Any:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
