"""What a phase's run holds in MLflow: parameters and tags, metrics of every step, scores, data sets and models.

Metrics are sent in batches as large as MLflow takes: its one-at-a-time and asynchronous ways are many times slower.
Those of steps are sent while a training goes on (`k2model.registry.live`); time stamps are the log's.
"""

from collections.abc import Container, Iterator, Mapping
from typing import TYPE_CHECKING

from k2model.evals.scores import ScoreRow
from k2model.recipe.safety import SAFETY
from k2model.registry.datasets import CORPUS, EVALUATION
from k2model.registry.phase_record import PhaseRecord, allowed
from k2model.training.log import StepMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

LOGGED = ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "parameter_norm", "update_ratio")
MAX_BATCH = 100  # parameters or tags a request


def log_description(
    client: "MlflowClient", run_id: str, parameters: Mapping[str, str], described: Mapping[str, str]
) -> None:
    """Parameters and tags of the run; the same ones may be sent again."""
    from mlflow.entities import Param, RunTag

    params = [Param(name, value) for name, value in parameters.items()]
    tags = [RunTag(name, value) for name, value in described.items()]
    for start in range(0, max(len(params), len(tags)), MAX_BATCH):
        end = start + MAX_BATCH
        client.log_batch(run_id, params=params[start:end])
        client.log_batch(run_id, tags=tags[start:end])


def metric_name(score: str) -> str:
    """`score/retrieval/256_at_new_theta` for `retrieval/256@new_theta`: MLflow takes no `@`."""
    return allowed(f"score/{score}")


def training_metrics(row: StepMetrics, tokens_before: int) -> Iterator["Metric"]:
    """`train/<field>` and `train/domain/<domain>` (loss) of a step, as far as it has them, and `train/tokens_seen`
    counted from random initialisation.

    MLflow's step is the phase's own; plot over `train/tokens_seen` to see phases one after the other. The row has a
    timestamp (`k2model.training.log.with_timestamps`).
    """
    from mlflow.entities import Metric

    assert row.timestamp is not None
    moment = round(row.timestamp * 1000)
    values = {field: getattr(row, field) for field in LOGGED}
    values |= {allowed(f"domain/{domain}"): loss for domain, loss in row.domains.items()}
    values["tokens_seen"] = tokens_before + row.tokens
    for name, value in values.items():
        if value is not None:
            yield Metric(f"train/{name}", float(value), moment, row.step)


def score_metrics(record: PhaseRecord, model_id: str) -> "list[Metric]":
    """`score/<name>` of the run and of its logged model on what was asked for it, in the scores' own units, at the
    phase's last step and the end of its training."""
    from mlflow.entities import Metric

    moment, step = record.training.ended, record.phase.steps
    asked = {row.score: record.datasets[context_of(row, record.datasets)] for row in record.scores}
    return [
        Metric(metric_name(name), row.value, moment, step, model_id, asked[name].name, asked[name].digest, None)
        for name, row in ((row.score, row) for row in record.scores)
    ]


def context_of(row: ScoreRow, contexts: Container[str]) -> str:
    """The dataset that a score is on: safety prompts, held-out documents of the corpus for a loss, else items."""
    wanted = SAFETY if row.score.startswith(f"{SAFETY}/") else EVALUATION if row.is_accuracy else CORPUS
    return wanted if wanted in contexts else CORPUS


def log_lineage(client: "MlflowClient", run_id: str, model_id: str, record: PhaseRecord) -> None:
    """Data sets and the parent's model go into the run, its own model comes out of it."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    parents = [LoggedModelInput(record.parent.model_id)] if record.parent else []
    datasets = [one.used(context) for context, one in record.datasets.items()]
    client.log_inputs(run_id, datasets=datasets, models=parents)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, record.phase.steps)])
