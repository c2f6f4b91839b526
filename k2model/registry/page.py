"""The description of a phase's run and of its version: what a person asks of a model, answered in Markdown.

How good it is stands beside its parent, the champion and the version of the same phase before it, whose scores and
settings MLflow itself has. Who promoted it, or why nobody did, is a section of its own, which is written anew when an
alias has moved (`tell_promotion`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from k2model.evals.scores import ScoreRow
from k2model.recipe.schema import PhaseKind
from k2model.registry.datasets import TRAINING
from k2model.registry.gates import GateResult, Registration
from k2model.registry.markdown import (
    CHARACTERS,
    RUN_CHARACTERS,
    Row,
    Section,
    as_cell,
    code,
    lines_of,
    link,
    page,
    run_at,
    version_at,
    with_section,
)
from k2model.registry.phase_record import CHAMPION, NOTE, PhaseRecord, parameters, versioned
from k2model.registry.runs import metric_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

PROMOTION = "Promotion"
REPORT = "report/index.html"  # where the run of a lifecycle has its report
RECIPE_FILE = "recipe.py"  # and the recipe as it was run
CANNOT_SAY = "—"
OUTSIDE = "≠"


@dataclass(frozen=True)
class Other:
    """Another version of the line: what MLflow's page of it is called, where it is, its scores and settings."""

    title: str
    address: str
    scores: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def linked(self) -> str:
        return link(self.title, self.address)


@dataclass(frozen=True)
class Beside:
    """What a version is seen beside. `champion`: who held that alias when it was registered."""

    parent: Other | None = None
    champion: Other | None = None
    before: Other | None = None


def beside(client: "MlflowClient", record: PhaseRecord, own: int, versions: Iterable["ModelVersion"]) -> Beside:
    """Asks MLflow. `own`: the version's number, `versions` those of its line; a run that was deleted is left out."""
    there = {int(one.version): one for one in versions}
    held = _champion(client, record.model_name)
    same = [number for number, one in there.items() if one.tags.get("k2.phase") == record.phase.name and number < own]
    parent = there.get(record.parent.version) if record.parent else None
    return Beside(
        parent=_other(client, parent),
        champion=_other(client, there.get(held)) if held and held != own else None,
        before=_other(client, there[max(same)]) if same else None,
    )


def _champion(client: "MlflowClient", name: str) -> int | None:
    [*models] = client.search_registered_models(f"name = '{name}'")
    return next((int(model.aliases[CHAMPION]) for model in models if CHAMPION in model.aliases), None)


def _other(client: "MlflowClient", version: "ModelVersion | None") -> Other | None:
    if version is None:
        return None
    title = versioned(version.tags.get("k2.phase", "version"), version.version)
    run = run_of(client, version)
    scores = {name: value for name, value in run.data.metrics.items() if name.startswith("score/")} if run else {}
    settings = dict(run.data.params) if run else {}
    return Other(title, version_at(version.name, version.version), scores, settings)


def run_of(client: "MlflowClient", version: "ModelVersion") -> "Run | None":
    """The run of a version; None where it was deleted for good."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(version.run_id or "")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def describe(
    client: "MlflowClient", record: PhaseRecord, registered: Registration, seen: Beside, experiment_id: str
) -> None:
    """Writes the descriptions of the run and the version; the same ones may be written again."""
    title = record.title(registered.version)
    sections = _sections(record, registered, seen, experiment_id)
    client.update_run(registered.run_id, name=title)
    client.set_tag(registered.run_id, NOTE, page(sections, RUN_CHARACTERS))
    client.update_model_version(record.model_name, str(registered.version), page(sections, CHARACTERS))


def tell_promotion(client: "MlflowClient", version: "ModelVersion", said: str, why: Sequence[str] | None) -> bool:
    """Whether the section on promotion had to be written anew, on the pages of a version and of its run. It begins with
    `said`; `why` are the lines below, None = as they are."""
    text = version.description or ""
    below = lines_of(text, PROMOTION)[1:] if why is None else ["", *why]
    changed = with_section(text, PROMOTION, [said, *below], CHARACTERS)
    if changed == text:
        return False
    client.update_model_version(version.name, str(version.version), changed)
    if run := run_of(client, version):
        note = with_section(run.data.tags.get(NOTE, ""), PROMOTION, [said, *below], RUN_CHARACTERS)
        client.set_tag(run.info.run_id, NOTE, note)
    return True


def promotion_of(promotion: str, number: int, champion: tuple[int, str] | None) -> str:
    """What became of a version. `promotion`: its tag, `champion` or `none: ` and why; `champion`: number and link of
    the one that is now."""
    if champion is not None and champion[0] == number:
        return "**Champion.**" if promotion == CHAMPION else "**Champion**, though its gates did not promote it."
    now = f"Champion now: {champion[1]}." if champion else "The line has no champion."
    if promotion == CHAMPION:
        return f"Promoted by its gates, **and no longer champion**. {now}"
    return f"**Not promoted**: {as_cell(promotion.removeprefix('none: '))}. {now}"


def _sections(record: PhaseRecord, registered: Registration, seen: Beside, experiment_id: str) -> list[Section]:
    champion = (0, seen.champion.linked) if seen.champion else None
    if CHAMPION in registered.aliases:
        champion = (registered.version, "")
    return [
        Section("", _opening(record, registered, experiment_id)),
        Section(PROMOTION, [promotion_of(registered.promotion, registered.version, champion)]),
        Section("Gates", (), ("gate", "wanted", "measured", ""), [_gate_row(one) for one in record.gates]),
        _settings(record, seen),
        _scores(record, seen),
        _data(record),
        _undone(record),
        Section("Make it again", _again(record, experiment_id)),
    ]


def _opening(record: PhaseRecord, registered: Registration, experiment_id: str) -> list[str]:
    phase = record.phase
    kind = {PhaseKind.SFT: "supervised fine-tuning"}.get(phase.kind, phase.kind.value.replace("_", "-"))
    ended = datetime.fromtimestamp(record.training.ended / 1000, UTC)
    name = record.model_name
    links = [
        link(f"{name} version {registered.version}", version_at(name, registered.version)),
        link("its run", run_at(experiment_id, registered.run_id)),
    ]
    if record.within:
        links.append(link("the lifecycle", run_at(experiment_id, record.within)))
        links.append(link("report", run_at(experiment_id, record.within, REPORT)))
    return [
        f"{record.title(registered.version)}: {kind} of recipe {code(record.recipe_name)}, {phase.tokens:,} tokens "
        f"here, {record.tokens_seen:,} in all, finished {ended:%Y-%m-%d %H:%M} UTC.  ",
        " · ".join(links),
    ]


def _gate_row(result: GateResult) -> Row:
    measured = "not measured" if result.value is None else f"{result.value:.4f}"
    return as_cell(result.title), result.gate.wanted, measured, "passed" if result.passed else "**failed**"


def _scores(record: PhaseRecord, seen: Beside) -> Section:
    """Its own with interval and n, and of others the value."""
    others = [(role, one) for role, one in (("parent", seen.parent), ("champion", seen.champion)) if one]
    if seen.champion and seen.parent and seen.champion.title == seen.parent.title:
        others = [("parent and champion", seen.parent)]
    if seen.before and seen.before.title not in {one.title for _, one in others}:
        others.append(("before", seen.before))
    head = ("score", "n", "this", "95% interval", *(f"{role} {one.linked}" for role, one in others))
    rows = [_score_row(row, [one for _, one in others]) for row in record.scores]
    rows.sort(key=lambda row: not any(cell.endswith(OUTSIDE) for cell in row))  # what differs is not cut
    if not rows:
        return Section("How good", ["It was not scored."])
    told = f"{OUTSIDE} a value outside of this one's interval. Losses are in nats a token, and better when lower."
    alone = "There is no parent, champion or earlier version to stand beside."
    return Section("How good", [told if others else alone], head, rows, "all are metrics of the run, score/...")


def _score_row(row: ScoreRow, others: Sequence[Other]) -> Row:
    cells = []
    for one in others:
        value = one.scores.get(metric_name(row.score))
        mark = "" if value is None or row.low <= value <= row.high else f" {OUTSIDE}"
        cells.append(CANNOT_SAY if value is None else f"{value:.3f}{mark}")
    return as_cell(row.score), f"{row.n:,}", f"{row.value:.3f}", f"{row.low:.3f} to {row.high:.3f}", *cells


def _settings(record: PhaseRecord, seen: Beside) -> Section:
    phase, own = record.phase, parameters(record.model, record.phase)
    start = f"the weights of {seen.parent.linked}" if seen.parent else "random weights"
    if record.origin and record.origin.name == phase.parent:
        start = f"{code(record.origin.name)}, adopted from {as_cell(record.origin.origin)} ({record.origin.licence})"
    elif phase.parent and not seen.parent:
        start = f"the weights of {phase.parent}, which is not registered"
    lines = [
        f"Starts from {start}. {phase.steps:,} steps of {phase.tokens_per_step:,} tokens, rows of "
        f"{phase.sequence_length:,}, RoPE theta {phase.rope_theta:,.0f}, peak learning rate {phase.optimizer.lr:g}. "
        f"All settings are parameters of the run.",
    ]
    if not seen.before:
        return Section("Parent and settings", [*lines, "", "It is the first version of this phase."])
    before = seen.before.settings
    changed = [name for name in sorted(own.keys() | before.keys()) if own.get(name) != before.get(name)]
    said = f"Changed beside {seen.before.linked}:" if changed else f"The same settings as {seen.before.linked}."
    rows = [(code(name), code(before.get(name, "none")), code(own.get(name, "none"))) for name in changed]
    return Section("Parent and settings", [*lines, "", said], ("setting", "was", "is"), rows, "compare the two runs")


def _data(record: PhaseRecord) -> Section:
    trained = record.datasets.get(TRAINING)
    shares = trained.profile.get("sources", {}) if trained else {}
    rows = [
        (as_cell(name), f"{one['tokens']:,}", f"{one['share']:.1%}", f"{one['share_wanted']:.1%}",
         f"{one['epochs']:.2f}")
        for name, one in sorted(shares.items(), key=lambda entry: -entry[1]["share"])
    ]  # fmt: skip
    names = [f"{code(one.ref.name)} ({context})" for context, one in record.datasets.items()]
    lines = [f"Datasets of the run, with the digests {', '.join(names)}."] if names else []
    head = ("trained on", "tokens", "real share", "wanted", "epochs")
    return Section("Data", lines, head, rows, "in the profile of the dataset")


def _undone(record: PhaseRecord) -> Section:
    undone = record.training.interventions
    lines = [] if undone else ["Nothing."]
    return Section("Undone on the way", lines, ("", "what and why"), [
        (str(number), as_cell(one.sentence)) for number, one in enumerate(undone, start=1)
    ], "state.json of the checkpoint")  # fmt: skip


def _again(record: PhaseRecord, experiment_id: str) -> list[str]:
    training = record.training
    changed = ", **which the code differed from**" if training.dirty else ""
    lines = [f"Commit {code(training.commit)}{changed}." if training.commit else "The commit is not known."]
    if record.within:
        file = link(RECIPE_FILE, run_at(experiment_id, record.within, RECIPE_FILE))
        lines += [f"With the lifecycle's {file}:", "", f"    make lifecycle RECIPE={RECIPE_FILE}", ""]
        lines.append("With the same store nothing is made twice.")
    lines += [
        f"Checkpoint {code(record.references['checkpoint'].uri)}, sha256 "
        f"{code(record.references['checkpoint'].digest[:16])}; export {code(record.references['export'].uri)}."
    ]
    return lines
