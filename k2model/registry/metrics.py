"""Training logs and scores as MLflow metrics.

Sent in batches as large as MLflow takes: its one-at-a-time and asynchronous ways are many times slower.
Time stamps follow from the log, so that sending it twice changes nothing.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from k2model.evals.scores import ScoreRow
from k2model.registry.facts import Trained

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

BATCH = 1000  # metrics a request: MLflow's own limit
LOGGED = ("loss", "lr", "grad_norm", "tokens_per_second", "mfu", "parameter_norm", "update_ratio")


def metric_name(score: str) -> str:
    """`score/retrieval/256_at_new_theta` for `retrieval/256@new_theta`: MLflow takes no `@`."""
    return allowed(f"score/{score}")


def allowed(name: str) -> str:
    """A name in the characters that MLflow takes for metrics and tags."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))


def training_metrics(trained: Trained, tokens_before: int) -> Iterator["Metric"]:
    """`train/<field>` and `train/domain/<domain>` (loss) of every step that has them, and `train/tokens_seen`
    counted from random initialisation.

    MLflow's step is the phase's own; plot over `train/tokens_seen` to see phases one after the other.
    """
    from mlflow.entities import Metric

    elapsed = 0.0
    for row in trained.rows:
        elapsed += row.seconds
        moment = trained.started + round(elapsed * 1000)
        values = {field: getattr(row, field) for field in LOGGED}
        values |= {allowed(f"domain/{domain}"): loss for domain, loss in row.domains.items()}
        values["tokens_seen"] = tokens_before + row.tokens
        for name, value in values.items():
            if value is not None:
                yield Metric(f"train/{name}", float(value), moment, row.step)


def score_metrics(scores: Sequence[ScoreRow], model_id: str, moment: int, step: int) -> "Iterator[Metric]":
    """The final scores, of the run and of its logged model."""
    from mlflow.entities import Metric

    for row in scores:
        yield Metric(metric_name(row.score), row.value, moment, step, model_id=model_id)


def log_metrics(client: "MlflowClient", run_id: str, metrics: Iterator["Metric"]) -> None:
    while batch := list(itertools.islice(metrics, BATCH)):
        client.log_batch(run_id, metrics=batch, synchronous=True)
