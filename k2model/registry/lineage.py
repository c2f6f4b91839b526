"""What went into a run and what came out: data sets, the parent's model, its own model."""

import warnings
from typing import TYPE_CHECKING

from k2model.artifacts import ArtifactRef
from k2model.registry.subject import Subject

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

MAX_DIGEST = 36  # characters of a data set's digest that MLflow keeps


def log_lineage(client: "MlflowClient", run_id: str, model_id: str, subject: Subject) -> None:
    """Data sets and the parent's model go into the run, its own model comes out of it."""
    from mlflow.entities import LoggedModelInput, LoggedModelOutput

    parents = [LoggedModelInput(subject.parent.model_id)] if subject.parent else []
    datasets = [_dataset(name, subject.references[name]) for name in ("sequences", "corpus")]
    client.log_inputs(run_id, datasets=datasets, models=parents)
    outputs = client.get_run(run_id).outputs
    if outputs is None or not outputs.model_outputs:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, subject.phase.steps)])


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
