"""The descriptions of a lifecycle's run and of its experiment, from the facts that report and card are written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2model.artifacts.result import LifecycleResult
from k2model.evals.scores import ScoreRow
from k2model.pages.curves import main_line
from k2model.registry.gates import Registration, unpromoted
from k2model.registry.markdown import (
    CHARACTERS,
    RUN_CHARACTERS,
    Row,
    Section,
    as_cell,
    code,
    link,
    model_at,
    page,
    run_at,
    version_at,
)
from k2model.registry.page import CANNOT_SAY, RECIPE_FILE, REPORT
from k2model.registry.phase_record import CHAMPION, versioned
from k2model.reporting.kept import KeptLine, WarningLine
from k2model.reporting.scores import score_order
from k2model.reporting.sections_run import undone_lines
from k2model.training.log import Intervention
from k2model.units import readable_size

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class Told:
    """What a finished lifecycle is told from. `interventions` and `losses` (the last ones) by phase, `steps` are name
    and run of each data step, `code` the commit that a person goes back to."""

    result: LifecycleResult
    registrations: Mapping[str, Registration]
    scores: Sequence[ScoreRow]
    kept: Sequence[KeptLine]
    warnings: Sequence[WarningLine]
    interventions: Mapping[str, list[Intervention]]
    losses: Mapping[str, float]
    parameters: int
    steps: Sequence[tuple[str, str]]
    provenance: Mapping[str, Any]


def name_of(told: Told) -> str:
    """By the versions that it ends in: `lifecycle sft@6`, of a tree of phases all leaves."""
    parents = {phase.parent for phase in told.result.recipe.phases}
    leaves = [phase.name for phase in told.result.recipe.phases if phase.name not in parents]
    return f"lifecycle {', '.join(versioned(leaf, told.registrations[leaf].version) for leaf in leaves)}"


def lifecycle_page(told: Told, experiment_id: str, run_id: str) -> str:
    names = [phase.name for phase in told.result.recipe.phases]
    values = {(row.score, row.phase): f"{row.value:.2f}" for row in told.scores}
    scores: list[Row] = [
        (as_cell(score), *(values.get((score, name), CANNOT_SAY) for name in names))
        for score in score_order(row for row in told.scores if "@" not in row.score)
    ]
    where = "With n and interval they stand on the pages of the versions, and in report/scores.csv."
    undone = [
        (line["phase"], line["steps"], str(line["resumed_from"]), as_cell(line["reason"]))
        for line in undone_lines(told.interventions)
    ]
    kept = [
        (
            as_cell(one.source),
            readable_size(one.read),
            readable_size(one.kept),
            f"{one.share:.1%}",
            as_cell(one.lost_to),
        )
        for one in told.kept
    ]
    head = ("phase", "version", "tokens", "length", "peak rate", "last loss", "gates", "promotion")
    return page(
        [
            Section("", _opening(told, experiment_id, run_id)),
            Section("Phases", (), head, [_phase_row(told, experiment_id, name) for name in names]),
            Section("Scores", [where], ("score", *names), scores, "in report/scores.csv"),
            Section("Undone on the way", () if undone else ["Nothing."], ("phase", "steps", "back to", "why"), undone,
                    "in the report"),
            Section("Warnings", (), ("of", "and what to do"), _warned(told), "in the report"),
            Section("Data", (), ("source", "read", "kept", "share", "most lost to"), kept, "in the report"),
            Section("Steps before training", [
                " · ".join(link(name, run_at(experiment_id, run)) for name, run in told.steps)
            ]),
            Section("Make it again", _again(told, experiment_id, run_id)),
        ],
        RUN_CHARACTERS,
    )  # fmt: skip


def _opening(told: Told, experiment_id: str, run_id: str) -> list[str]:
    recipe, line = told.result.recipe, main_line(told.result.recipe)
    last = told.registrations[recipe.phases[-1].name]
    version = link(versioned(last.phase, last.version), version_at(last.model_name, last.version))
    became = (
        "became **champion**"
        if last.promotion == CHAMPION
        else f"was **not promoted**: {as_cell(last.promotion.removeprefix('none: '))}"
    )
    none = unpromoted(recipe.phases, recipe.gates)
    return [
        f"The whole life of a model by recipe {code(recipe.name)}: {told.parameters:,} parameters, "
        f"{last.tokens_seen:,} tokens, {' → '.join(line)}.",
        "",
        f"Its end, {version} of [{last.model_name}]({model_at(last.model_name)}), {became}.",
        *(["", as_cell(none)] if none else []),
        "",
        " · ".join([
            link("report", run_at(experiment_id, run_id, REPORT)),
            link("data docs", run_at(experiment_id, run_id, "report/data_docs/index.html")),
            link("training over tokens", run_at(experiment_id, run_id, "plots/training.svg")),
            link("recipe", run_at(experiment_id, run_id, RECIPE_FILE)),
        ]),
    ]  # fmt: skip


def _phase_row(told: Told, experiment_id: str, name: str) -> Row:
    phase, one = told.result.recipe.phase(name), told.registrations[name]
    version = link(versioned(name, one.version), version_at(one.model_name, one.version))
    passed = sum(gate.passed for gate in one.gates)
    return (
        link(name, run_at(experiment_id, one.run_id)),
        version,
        f"{phase.tokens:,}",
        f"{phase.sequence_length:,}",
        f"{phase.optimizer.lr:g}",
        f"{told.losses[name]:.3f}" if name in told.losses else CANNOT_SAY,
        f"{passed} of {len(one.gates)}" if one.gates else CANNOT_SAY,
        "champion" if one.promotion == CHAMPION else CANNOT_SAY,
    )


def _warned(told: Told) -> list[Row]:
    return [(as_cell(one.told), as_cell(one.remedy)) for one in told.warnings]


def _again(told: Told, experiment_id: str, run_id: str) -> list[str]:
    git = told.provenance.get("git") or {}
    commit, dirty = git.get("commit"), git.get("dirty")
    changed = ", **which the code differed from**" if dirty else ""
    file = link(RECIPE_FILE, run_at(experiment_id, run_id, RECIPE_FILE))
    release = told.result.artifacts.get("release")
    return [
        f"At commit {code(commit)}{changed}, with {file}:" if commit else f"With {file}; the commit is not known:",
        "",
        f"    make lifecycle RECIPE={RECIPE_FILE}",
        "",
        *([f"Release: {code(release.uri)}; `k2 verify` checks it."] if release else []),
    ]


def experiment_page(recipe_name: str, model_name: str, experiment_id: str, lifecycles: "Sequence[Run]") -> str:
    """`lifecycles`: their runs, the newest first."""
    rows = [
        (
            link(run.info.run_name, run_at(experiment_id, run.info.run_id)),
            f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M}",
            "finished" if run.info.status == "FINISHED" else "going on, or cut short",
        )
        for run in lifecycles
    ]
    opening = [
        f"Lifecycles of recipe {code(recipe_name)}. Each is a run; in it, nested, stand its phases (`sft@6`: phase and "
        f"version of [{model_name}]({model_at(model_name)})) and the steps before training. What an earlier lifecycle "
        "has made stays there and is not made again. To see what another setting did, compare two lifecycles, or two "
        "runs of a phase, and show differences alone; charts `over_tokens/` run through all phases.",
    ]
    return page([Section("", opening), Section("", (), ("lifecycle", "begun (UTC)", ""), rows)], CHARACTERS)
