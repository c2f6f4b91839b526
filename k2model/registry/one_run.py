"""One run of MLflow for one thing, whoever asks for it and how often: found by its key, out of the trash where it is
there, made once where it is not.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from k2model.artifacts import Identity
from k2model.registry.live import is_active, restored, runs_tagged
from k2model.registry.phase_record import KEY
from k2model.registry.versions import made_alone

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_log = logging.getLogger(__name__)


def line_of(model_name: str) -> Identity:
    """What one process at a time registers: of two that register the same checkpoint the second finds it done, and
    aliases are moved in the order of versions."""
    return Identity("registration", "1", {"model": model_name})


def one_run(
    client: "MlflowClient", check: Callable[[], None], experiment_id: str, key: str, name: str, started: int,
    tags: Mapping[str, str], claim: Callable[[], "Run | None"] = lambda: None,
) -> "Run":  # fmt: skip
    """The run of `key`; `claim`: one that is to become it before another is made. `started`: milliseconds since the
    epoch. check: raises LeaseLost where another process registers the line."""

    def there() -> "list[Run]":
        return runs_tagged(client, experiment_id, KEY, key)

    def make() -> "Run":
        return client.create_run(experiment_id, start_time=started, tags={KEY: key, **tags}, run_name=name)

    def take_back(made: "Run") -> None:
        if sum(map(is_active, there())) > 1:
            client.delete_run(made.info.run_id)

    found = there()
    run = restored(client, found[0]) if found else claim() or made_alone(check, make, take_back)
    for other in filter(is_active, there()):
        if other.info.run_id != run.info.run_id:
            _log.warning("run %s registers what run %s does: deleted", other.info.run_id, run.info.run_id)
            client.delete_run(other.info.run_id)
    return run
