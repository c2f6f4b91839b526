"""Writes what is of a whole lifecycle to MLflow: begun before its first phase is registered, finished after its report.

Everything is found by keys of content before it is made, and written under the lease of the line of models, so that any
number of processes may do so, and one that was killed is followed by another.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef, Identity, Store, fingerprint
from k2model.artifacts.record import provenance
from k2model.artifacts.result import LifecycleResult
from k2model.artifacts.steps import PATIENCE_SECONDS
from k2model.curation.funnel import read_curation
from k2model.errors import showable
from k2model.evals.scores import load_scores
from k2model.model import count_parameters
from k2model.pages.curves import curves, write_files
from k2model.pages.lifecycle_page import Told, experiment_page, lifecycle_page, name_of
from k2model.pages.steps import DataStep, data_steps, step_page
from k2model.recipe.fields import without_places
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.registry.datasets import INPUT, OUTPUT, DatasetOf
from k2model.registry.gates import Registration, RegistryError
from k2model.registry.live import BATCH, ensured_experiment, is_active, runs_tagged
from k2model.registry.model_page import retell
from k2model.registry.one_run import line_of, one_run
from k2model.registry.phase_record import (
    KEY,
    NOTE,
    PARENT_RUN,
    code_tags,
    command_of,
    experiment_of,
    milliseconds,
    model_of,
    parameters,
)
from k2model.registry.runs import log_description
from k2model.registry.tracking import tracking
from k2model.registry.versions import versions_of
from k2model.reporting.content import read_metrics, read_undone
from k2model.reporting.kept import gate_warnings, kept_lines
from k2model.reporting.safety import gated_rows, tested_phases
from k2model.settings import masked, masked_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

STEP = "k2.step"  # tag of runs that are of no phase: `lifecycle`, or the kind of what a data step makes
LIFECYCLE = "lifecycle"
SHOWN = "k2.shown"  # tag: digest of what a finished lifecycle's page and files were written from
KIND = ("mlflow.experimentKind", "custom_model_development")  # of its UI's two faces the one for training
_VERSION = "1"  # of the pages: raised where the same lifecycle is to be described otherwise


def begin_lifecycle(tracking_uri: str, store: Store, recipe: Recipe, made: Mapping[str, ArtifactRef]) -> str:
    """The id of the run of a lifecycle, within which its phases are registered; makes it, and runs of the data steps in
    `made`, which may have more. What is there is left as it is.

    Raises RegistryError when MLflow cannot be used, and the store's errors.
    """
    steps = data_steps(made)
    with tracking(tracking_uri) as client:
        experiment = client.get_experiment_by_name(experiment_of(recipe.name))
        if experiment and experiment.lifecycle_stage == "active":
            run = _there(client, experiment.experiment_id, lifecycle_key(recipe, made))
            missing = [one for one in steps if _finished(client, experiment.experiment_id, one.key) is None]
            if run and "k2.recipe" in run.data.tags and not missing:
                return str(run.info.run_id)
        with store.lease(line_of(model_of(recipe.name)), PATIENCE_SECONDS) as lease:
            experiment_id = ensured_experiment(client, tracking_uri, experiment_of(recipe.name))
            run = _lifecycle_run(client, lease.check, experiment_id, store, recipe, made)
            for step in steps:
                if _finished(client, experiment_id, step.key) is None:
                    _write_step(client, lease.check, experiment_id, store, recipe, step, made, run.info.run_id)
            return str(run.info.run_id)


def finish_lifecycle(
    tracking_uri: str, store: Store, result: LifecycleResult, registrations: Sequence[Registration],
    gates: Mapping[str, Identity],
) -> str:  # fmt: skip
    """Completes the run of a lifecycle whose report is made (page, curves over tokens, files), and the pages of its
    experiment and registered model. Gives the run's id. Raises as `begin_lifecycle` does."""
    recipe, made = result.recipe, result.artifacts
    run_id = begin_lifecycle(tracking_uri, store, recipe, made)
    with tracking(tracking_uri) as client, store.lease(line_of(model_of(recipe.name)), PATIENCE_SECONDS):
        run = client.get_run(run_id)
        experiment_id = run.info.experiment_id
        became = {
            int(one.version): one.tags.get("k2.promotion", "") for one in versions_of(client, model_of(recipe.name))
        }
        registrations = [replace(one, promotion=became.get(one.version, one.promotion)) for one in registrations]
        shown = fingerprint(
            [_VERSION, made["report"].digest, made["report"].uri, [one.to_json() for one in registrations]]
        )
        if run.data.tags.get(SHOWN) != shown or run.info.status != "FINISHED":
            told = _told(client, experiment_id, store, result, registrations, gates)
            client.update_run(run_id, name=name_of(told))
            client.set_tag(run_id, NOTE, lifecycle_page(told, experiment_id, run_id))
            logs = {one.phase.name: read_metrics(store, one.checkpoint) for one in result.phases}
            ended = milliseconds(store.record(made["report"])["provenance"]["ended"])
            _log(client, run_id, [*curves(recipe, logs, told.scores, ended)])
            _link(client, run, store, result, registrations)
            _upload(client, tracking_uri, run_id, store, result)
            client.set_tag(run_id, SHOWN, shown)
            began = run.info.start_time
            client.set_terminated(run_id, "FINISHED", end_time=ended if ended > began else round(time.time() * 1000))
        _describe_experiment(client, recipe, experiment_id)
        retell(client, model_of(recipe.name))
    return run_id


def lifecycle_key(recipe: Recipe, made: Mapping[str, ArtifactRef]) -> str:
    """The same for the same settings on the same data, wherever they are run."""
    return fingerprint([LIFECYCLE, without_places(recipe), made["corpus_valid"].digest])


def _there(client: "MlflowClient", experiment_id: str, key: str) -> "Run | None":
    found = [run for run in runs_tagged(client, experiment_id, KEY, key) if is_active(run)]
    return found[0] if len(found) == 1 else None


def _finished(client: "MlflowClient", experiment_id: str, key: str) -> "Run | None":
    run = _there(client, experiment_id, key)
    return run if run and run.info.status == "FINISHED" else None


def _lifecycle_run(
    client: "MlflowClient", check: Callable[[], None], experiment_id: str, store: Store, recipe: Recipe,
    made: Mapping[str, ArtifactRef],
) -> "Run":  # fmt: skip
    """Made when the first phase is registered; the first lifecycle of an experiment began with its data."""
    began = provenance(time.time())
    git, key = began["git"] or {}, lifecycle_key(recipe, made)
    first = not client.search_runs([experiment_id], f"tags.`{STEP}` = '{LIFECYCLE}'", max_results=1)
    started = store.record(made["corpus_raw"])["provenance"]["started"] if first else began["started"]
    name = f"{LIFECYCLE} {started[:16].replace('T', ' ')}"
    run = one_run(client, check, experiment_id, key, name, milliseconds(started), {STEP: LIFECYCLE})
    settings = {f"{phase.name}.{name}": value for phase in recipe.phases for name, value in _of_phase(recipe, phase)}
    settings |= {name: value for name, value in parameters(recipe.model, recipe.phases[0]).items() if _of_model(name)}
    log_description(client, run.info.run_id, settings, {})
    code = code_tags(git.get("commit", ""), git.get("dirty", False), command_of(began))
    log_description(client, run.info.run_id, {}, {"k2.recipe": recipe.name, **code})  # last: it is complete then
    return run


def _of_model(name: str) -> bool:
    return name.startswith("model.")


def _of_phase(recipe: Recipe, phase: PhaseConfig) -> list[tuple[str, str]]:
    return [(name, value) for name, value in parameters(recipe.model, phase).items() if not _of_model(name)]


def _write_step(
    client: "MlflowClient", check: Callable[[], None], experiment_id: str, store: Store, recipe: Recipe, step: DataStep,
    made: Mapping[str, ArtifactRef], within: str,
) -> None:  # fmt: skip
    content = step_page(store, recipe, step, made)
    run = one_run(client, check, experiment_id, step.key, step.title, content.started, {STEP: step.ref.kind})
    run_id = run.info.run_id
    nested = {} if PARENT_RUN in run.data.tags else {PARENT_RUN: within}
    log_description(client, run_id, content.parameters, {**content.tags, **nested, NOTE: content.description})
    _log(client, run_id, content.metrics)
    client.log_inputs(run_id, datasets=content.datasets)
    client.set_terminated(run_id, "FINISHED", end_time=max(content.ended, content.started))


def _log(client: "MlflowClient", run_id: str, metrics: "Sequence[Metric]") -> None:
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + BATCH], synchronous=True)


def _told(
    client: "MlflowClient", experiment_id: str, store: Store, result: LifecycleResult,
    registrations: Sequence[Registration], gates: Mapping[str, Identity],
) -> Told:  # fmt: skip
    steps = [(one.name, _finished(client, experiment_id, one.key)) for one in data_steps(result.artifacts)]
    logs = {one.phase.name: read_metrics(store, one.checkpoint) for one in result.phases}
    tested = gated_rows(tested_phases(store, result.recipe, result.artifacts))
    return Told(
        result=result,
        registrations={one.phase: one for one in registrations},
        scores=[*load_scores(store, (one.scores for one in result.phases)), *tested],
        kept=kept_lines(read_curation(store, result.corpus)),
        warnings=gate_warnings(store, gates),
        interventions={one.phase.name: read_undone(store, one.checkpoint) for one in result.phases},
        losses={
            name: fmean(row.loss for row in rows[-max(1, len(rows) // 10) :]) for name, rows in logs.items() if rows
        },
        parameters=count_parameters(result.recipe.model),
        steps=[(name, run.info.run_id) for name, run in steps if run],
        provenance=store.record(result.phases[-1].checkpoint)["provenance"],
    )


def _link(
    client: "MlflowClient", run: "Run", store: Store, result: LifecycleResult, registrations: Sequence[Registration]
) -> None:  # fmt: skip
    """Its corpus goes into the lifecycle; its models and the release come out of it."""
    from mlflow.entities import LoggedModelOutput

    corpus = DatasetOf.read(store, "corpus_valid", result.corpus_valid).used(INPUT)
    release = DatasetOf.read(store, "release", result.artifacts["release"]).used(OUTPUT)
    client.log_inputs(run.info.run_id, datasets=[corpus, release])
    there = {output.model_id for output in run.outputs.model_outputs} if run.outputs else set()
    models = [LoggedModelOutput(one.model_id, one.tokens_seen) for one in registrations if one.model_id not in there]
    if models:
        client.log_outputs(run.info.run_id, models)


def _upload(client: "MlflowClient", tracking_uri: str, run_id: str, store: Store, result: LifecycleResult) -> None:
    """Raises RegistryError where MLflow keeps its files elsewhere than its runs, and that place does not take them."""
    with tempfile.TemporaryDirectory() as name:
        write_files(store, result, result.artifacts["report"], Path(name))
        try:
            client.log_artifacts(run_id, name)
        except Exception as error:  # of whichever client its kind of storage has
            where = masked(client.get_run(run_id).info.artifact_uri)
            raise RegistryError(
                f"MLflow at {masked(tracking_uri)} keeps files of runs at {where}, which did not take the report: "
                f"{type(error).__name__}: {masked_text(str(error))[:300]}. Start its server with --serve-artifacts and "
                "--artifacts-destination, so that files go through it, or give this machine the login of that place; "
                "then run again: nothing is trained again"
            ) from showable(error)


def _describe_experiment(client: "MlflowClient", recipe: Recipe, experiment_id: str) -> None:
    runs = [run for run in runs_tagged(client, experiment_id, STEP, LIFECYCLE) if is_active(run)]
    newest = sorted(runs, key=lambda run: -run.info.start_time)
    tags = client.get_experiment(experiment_id).tags
    wanted = {NOTE: experiment_page(recipe.name, model_of(recipe.name), experiment_id, newest)}
    if KIND[0] not in tags:
        wanted |= dict([KIND])
    for name, value in wanted.items():
        if tags.get(name) != value:
            client.set_experiment_tag(experiment_id, name, value)
