"""What a phase's run holds in MLflow: parameters and tags, metrics of every step, scores, data sets and models.

Metrics are sent in batches as large as MLflow takes: its one-at-a-time and asynchronous ways are many times slower.
Those of steps are sent while a training goes on (`k2model.registry.live`); time stamps are the log's.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef
from k2model.evals.scores import ScoreRow
from k2model.registry.phase_record import PhaseRecord, allowed
from k2model.training.log import StepMetrics

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

LOGGED = ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "parameter_norm", "update_ratio")
MAX_BATCH = 100  # parameters or tags a request
MAX_DIGEST = 36  # characters of a data set's digest that MLflow keeps


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


def score_metrics(scores: Sequence[ScoreRow], model_id: str, moment: int, step: int) -> "list[Metric]":
    """`score/<name>` of the run and of its logged model, in the scores' own units, at the phase's last `step`; `moment`
    in milliseconds since the epoch."""
    from mlflow.entities import Metric

    return [Metric(metric_name(row.score), row.value, moment, step, model_id=model_id) for row in scores]


def log_lineage(client: "MlflowClient", run_id: str, model_id: str, record: PhaseRecord) -> None:
    """Data sets and the parent's model go into the run, its own model comes out of it."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    parents = [LoggedModelInput(record.parent.model_id)] if record.parent else []
    datasets = [_dataset(name, record.references[name]) for name in ("sequences", "corpus")]
    client.log_inputs(run_id, datasets=datasets, models=parents)
    outputs = client.get_run(run_id).outputs
    if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, record.phase.steps)])


def _dataset(name: str, ref: ArtifactRef) -> "DatasetInput":
    """A data set by address and digest; its content is not read."""
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.entities import Dataset, DatasetInput, InputTag

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it knows two names for a local folder
        source = resolve_dataset_source(ref.uri)
    dataset = Dataset(ref.name, ref.digest[:MAX_DIGEST], source._get_source_type(), source.to_json())
    tags = [InputTag("mlflow.data.context", name), InputTag("k2.digest", ref.digest), InputTag("k2.uri", ref.uri)]
    return DatasetInput(dataset, tags)
