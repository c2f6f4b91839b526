"""`k2 safety`: test any model, see what is refused and what should not be, and how far a judge can be believed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.eval import backend_option, known_of, recipe_option
from k2model.cli.terminal import (
    CommandGroup,
    as_json_option,
    console,
    overrides_option,
    say,
    show,
    store_option,
    table,
    write_page,
)
from k2model.settings import home

if TYPE_CHECKING:
    from k2model.artifacts import Store
    from k2model.evals.cells import Subject
    from k2model.judges.agreement import Agreement
    from k2model.recipe import Recipe
    from k2model.recipe.safety import JudgeConfig, SafetyConfig
    from k2model.reporting.safety import Tested
    from k2model.safety.rows import SafetyRow

ROWS = ("score", "value", "95%", "n", "kinds", "completed", "cut off", "too long", "unscored", "of all")
AGREEMENT = ("judge", "labels", "of", "kappa", "95%", "accuracy", "base rate", "n", "unscored")
DETAILED = 2  # slashes of a score that is of one test or domain


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Which tests are asked, how, and who judges: what an artifact is found by."""
    for option in reversed(
        (
            click.option(
                "--tests", multiple=True, metavar="NAMES",
                help="Tests or domains, by commas (k2 safety tests); those of the recipe when left out, else all 72.",
            ),
            click.option("--prompts", type=click.IntRange(1), help="Ask the first N prompts of each test."),
            click.option("--effort", "efforts", multiple=True, help="low, medium or high; may be given several times."),
            click.option("--max-new-tokens", type=click.IntRange(1), help="Trace and answer together, at most."),
            click.option("--judge", metavar="JUDGE", help="rules, or a model at its address: http://host/v1#model"),
            click.option("--wording", help="Of its instruction: plain, rubric or questions."),
            click.option("--api-key-env", default="", metavar="NAME", help="Environment variable with a server's key."),
            click.option("--plain-http", is_flag=True, help="Allow http to a judge on another machine."),
            click.option("--data", type=click.Path(), help="Folder of packages with public suites and human labels."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(cls=CommandGroup)
def safety() -> None:
    """Safety tests of any model: asked once, judged by whom you choose, each score beside its judge's agreement."""


@safety.command()
@click.argument("reference")
@options
@backend_option
@recipe_option
@overrides_option
@store_option
@as_json_option
def run(
    reference: str, backend: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool, **chosen: Any
) -> None:
    """Test the model REFERENCE: a phase, a kept checkpoint, an export, a folder of weights or a server, as in
    `k2 eval run`. What it answered is kept: another judge asks it nothing.

    \b
    k2 safety run sft
    k2 safety run sft --tests jailbreak,over_refusal --prompts 50
    k2 safety run mid_4 --judge http://localhost:8000/v1#judge-model --wording rubric
    k2 safety run http://localhost:8000/v1#K2-V2 --tests public --data ./wheels
    """
    from k2model.artifacts import make
    from k2model.safety import answers_step, safety_step
    from k2model.safety.judging import JudgeUnavailable, read_safety
    from k2model.safety.rows import score_rows

    opened, subject, config, _ = _asked(reference, backend, recipe, overrides, store, chosen)
    answers = make(opened, answers_step(opened, config, subject))
    try:
        ref = make(opened, safety_step(opened, config.judge, answers, config.data))
    except JudgeUnavailable as down:
        if down.samples and not as_json:
            console().print(f"PARTIAL: {len(down.samples)} answers are judged", style="bold")
            show(ROWS, [_told(row) for row in score_rows(down.samples)], as_json=False)
        raise
    result = read_safety(opened, ref)
    if as_json:
        click.echo(json.dumps(result.to_dict() | {"answers": answers.name, "safety": ref.name}))
        return
    show(ROWS, [_told(row) for row in result.rows], as_json=False)
    show(AGREEMENT, _agreement(str(result.judge["name"]), result.agreement), as_json=False)
    console().print(f"{result.statistics['malformed']} malformed verdicts; {ref.name}", highlight=False)


@safety.command()
@click.argument("references", nargs=-1)
@options
@backend_option
@recipe_option
@overrides_option
@store_option
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="The page.  [default: $K2_HOME/safety.html]"
)
@as_json_option
def report(
    references: tuple[str, ...], backend: str, recipe: str, overrides: tuple[str, ...], store: str, html: Path | None,
    as_json: bool, **chosen: Any,
) -> None:  # fmt: skip
    """What was measured of the models REFERENCES, by default of all phases that the recipe tests: a table on the
    terminal, and a page that needs no network. Each is set beside its parent and the champion, prompt by prompt.

    \b
    k2 safety report
    k2 safety report mid_4 sft --html safety.html
    k2 safety report sft --judge http://localhost:8000/v1#judge-model
    """
    from k2model.reporting.safety import page, tested, tested_phases

    opened, known = known_of(store, recipe, overrides)
    if references:
        found = tested(opened, dict(_found(one, backend, recipe, overrides, store, chosen) for one in references))
    else:
        found = tested_phases(opened, known.recipe, known.made)
    if not found:
        raise click.UsageError("nothing is measured yet; name a model and run `k2 safety run` on it first")
    best = _champion(opened, known.recipe)
    if as_json:
        click.echo(json.dumps({one.name: one.result.to_dict() for one in found}))
        return
    place = html or home() / "safety.html"
    write_page(place, page(found, known.recipe, best))
    _draw(found, known.recipe, best)
    console().print(f"page {place}", highlight=False, soft_wrap=True)


@safety.command()
@options
@as_json_option
def judges(as_json: bool, **chosen: Any) -> None:
    """How far judges agree with labelled answers: the rules, and a language model under each wording of its
    instruction. Labels are our own, made from templates, and people's where --data has PyRIT's wheel.

    \b
    k2 safety judges
    k2 safety judges --data ./wheels
    k2 safety judges --judge http://localhost:8000/v1#judge-model --api-key-env JUDGE_KEY
    """
    from k2model.judges.agreement import agreements
    from k2model.judges.labelled import OURS, PEOPLE, human_labels, labelled_pairs
    from k2model.judges.opening import judge_of, open_judge
    from k2model.judges.packages import PackageFiles
    from k2model.recipe.safety import RULES, WORDINGS
    from k2model.safety.judging import JudgeUnavailable

    labelled = {OURS: labelled_pairs()}
    if people := human_labels(PackageFiles(chosen["data"] or "")):
        labelled[PEOPLE] = people
    configs = [judge_of(RULES)]
    if chosen["judge"] and chosen["judge"] != RULES:
        wordings = (chosen["wording"],) if chosen["wording"] else WORDINGS
        configs += [judge_of(chosen["judge"], one, chosen["api_key_env"], chosen["plain_http"]) for one in wordings]
    rows, left = [], []
    for config in configs:
        judge = open_judge(config)
        for on, those in labelled.items():
            said = judge.verdicts([pair.case for pair in those])
            rows += _agreement(str(judge.identity["name"]), {on: agreements(those, said)})
            left += [f"{judge.identity['name']}: {one.problem}" for one in said if one.unanswered]
    show(AGREEMENT, rows, as_json)
    if PEOPLE not in labelled and not as_json:
        say("labels of people: absent; name a folder with the wheel of pyrit by --data")
    if left:
        raise JudgeUnavailable(
            f"PARTIAL: {len(left)} verdicts are missing since a judge did not answer ({left[0]}). What it said is "
            "recorded: start it and run again, only the rest is asked"
        )


@safety.command(name="tests")
@click.option("--data", type=click.Path(), help="Folder of packages with public suites.")
@as_json_option
def list_tests(data: str | None, as_json: bool) -> None:
    """The safety tests there are: what is right in each, and an example."""
    from k2model.judges.packages import PackageFiles
    from k2model.safety.answers import known_tests

    known, absent = known_tests(PackageFiles(data or ""))
    rows = [
        (test.name, test.domain, test.wants.value, len(test.prompts), test.prompts[0].request.replace("\n", " / ")[:90])
        for test in known.values()
    ]
    show(("test", "domain", "right", "prompts", "example"), rows, as_json)
    if not as_json:
        for one in absent:
            say(f"absent: {one}")


def _config(recipe: "Recipe", chosen: dict[str, Any]) -> "SafetyConfig":
    """What the recipe says, with what was chosen in its place. Raises EvaluationError for what no test can be."""
    from k2model.errors import EvaluationError
    from k2model.recipe.safety import safety_problem
    from k2model.recipe.schema import PhaseKind
    from k2model.safety.answers import tests_of

    config = recipe.safety
    named = tuple(one for value in chosen["tests"] for one in value.split(",") if one)
    changes: dict[str, Any] = {name: chosen[name] for name in ("prompts", "max_new_tokens", "data") if chosen[name]}
    if named:
        changes["tests"] = named
    if chosen["efforts"]:
        changes["efforts"] = chosen["efforts"]
    config = replace(config, judge=_judge(config.judge, chosen), **changes)
    if problem := safety_problem(config, [kind.value for kind in PhaseKind]):
        raise EvaluationError(problem)
    tests_of(config)
    return config


def _judge(judge: "JudgeConfig", chosen: dict[str, Any]) -> "JudgeConfig":
    from k2model.judges.opening import judge_of

    if chosen["judge"]:
        return judge_of(chosen["judge"], chosen["wording"] or "plain", chosen["api_key_env"], chosen["plain_http"])
    return replace(judge, wording=chosen["wording"]) if chosen["wording"] else judge


def _asked(
    reference: str, backend: str, recipe: str, overrides: tuple[str, ...], store: str, chosen: dict[str, Any]
) -> "tuple[Store, Subject, SafetyConfig, Recipe]":
    from k2model.evals.references import subject_of

    opened, known = known_of(store, recipe, overrides)
    config = _config(known.recipe, chosen)
    return opened, subject_of(reference, opened, known, backend, chosen["api_key_env"]), config, known.recipe


def _found(
    reference: str, backend: str, recipe: str, overrides: tuple[str, ...], store: str, chosen: dict[str, Any]
) -> "tuple[str, Any]":
    """The scores of a model, which have to be there."""
    from k2model.safety import answers_step, safety_step

    opened, subject, config, _ = _asked(reference, backend, recipe, overrides, store, chosen)
    answers = opened.find(answers_step(opened, config, subject).identity)
    ref = opened.find(safety_step(opened, config.judge, answers, config.data).identity) if answers else None
    if ref is None:
        raise click.UsageError(
            f"{reference} has not been tested in this way; measure it with `k2 safety run` and the same options"
        )
    return reference, ref


def _told(row: "SafetyRow") -> tuple[Any, ...]:
    ends = [] if row.worst is None or row.best is None else sorted((row.worst, row.best))
    return (
        row.score, f"{row.value:.3f}", f"{row.low:.3f} to {row.high:.3f}", row.n, row.clusters,
        "" if row.completed is None else f"{row.completed:.3f}", row.cut_off or "", row.too_long or "",
        row.unscored or "", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends and ends[0] < ends[1] else "",
    )  # fmt: skip


def _agreement(judge: str, found: "dict[str, Sequence[Agreement]] | Any") -> list[tuple[Any, ...]]:
    rows = []
    for on, those in found.items():
        for one in those:
            numbers = ("", "", "", "")
            if one.kappa is not None:
                numbers = (
                    f"{one.kappa:.2f}",
                    f"{one.low:.2f} to {one.high:.2f}",
                    f"{one.accuracy:.2f}",
                    f"{one.base_rate:.2f}",
                )
            rows.append((judge, on, one.label, *numbers, one.n, one.unscored or ""))
    return rows


def _champion(store: "Store", recipe: "Recipe") -> "Tested | None":
    """The champion of the recipe's line by its ledger, where it was tested for safety."""
    from k2model.continual.ledger import Ledger
    from k2model.continual.state import TUNED
    from k2model.reporting.safety import tested

    model = Ledger.open(store, recipe.name).state().model
    if model is None or (ref := model.made.get(f"{TUNED}/safety")) is None:
        return None
    (found,) = tested(store, {f"champion (version {model.version})": ref})
    return found


def _draw(found: "Sequence[Tested]", recipe: "Recipe", best: "Tested | None") -> None:
    """Headlines and domains by checkpoint, then what changed from the parent and against the champion."""
    from k2model.reporting.safety import ALL, context

    shown = context(found, recipe, best)
    names = tuple(one.name for one in found)
    rows = [(line.title, *map(_cell, line.cells)) for line in shown["headline"]]
    for group in shown["domains"]:
        rows += [
            (f"{group.title}: {line.title}", *map(_cell, line.cells))
            for line in group.lines
            if line.title.startswith(ALL)
        ]
    console().print(table(("", *names), rows), "")
    for name, other, compared in shown["comparisons"]:
        told = [
            (
                one.score.removeprefix("safety/"), f"{one.paired.first:.2f}", f"{one.paired.second:.2f}",
                f"{one.paired.difference:+.2f}", f"{one.paired.low:+.2f} to {one.paired.high:+.2f}", one.paired.n,
                {True: "better", False: "worse", None: ""}[one.better],
            )
            for one in compared if one.score.count("/") < DETAILED
        ]  # fmt: skip
        console().print(table((f"{name} against {other}", other, name, "difference", "95%", "n", ""), told), "")
    agreed: dict[str, Any] = {str(one.result.judge["name"]): one.result.agreement for one in found}
    shown_agreement = [row for judge, agreement in agreed.items() for row in _agreement(judge, agreement)]
    console().print(table(AGREEMENT, shown_agreement))


def _cell(row: "SafetyRow | None") -> str:
    if row is None:
        return ""
    left = f", {row.cut_off + row.too_long} cut off" if row.cut_off or row.too_long else ""
    return f"{row.value:.2f} ({row.low:.2f}-{row.high:.2f}) n={row.n}{left}"
