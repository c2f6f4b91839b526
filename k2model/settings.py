"""The environment variables of the project, all read here.

| variable | default | what it sets |
|---|---|---|
| `K2_RECIPE` | `laptop` | the recipe whose phases make the DAG |
| `K2_HOME` | `./outputs` | where everything a run leaves on this machine goes: store, cache, tracking, reports |
| `K2_STORE` | `$K2_HOME/store` | the artifact store: a path, `file://` or `s3://bucket/prefix` |
| `MLFLOW_TRACKING_URI` | `sqlite:///$K2_HOME/mlflow.db` | the MLflow tracking server or file |
| `K2_TRACEBACK` | | any value but `0`: an error meant for a user shows its traceback too |
| `WORLD_SIZE` | `1` | set by torchrun for its workers: how many processes train together |

An S3 store is reached with the usual settings of its client, which this project does not read:
`AWS_ENDPOINT_URL` (or `FSSPEC_S3_ENDPOINT_URL`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`, `AWS_PROFILE`.

A variable that is set to the empty string counts as not set. Values are read at every call, so that
a test or a worker may change them.
"""

import os
from pathlib import Path


def recipe_name() -> str:
    """The name of the recipe that runs."""
    return os.environ.get("K2_RECIPE") or "laptop"


def home() -> Path:
    """The absolute folder of everything a run leaves on this machine. It need not exist."""
    return Path(os.environ.get("K2_HOME") or "outputs").absolute()


def store_uri() -> str:
    """The root of the artifact store, as `k2model.artifacts.Store.open` takes it."""
    return os.environ.get("K2_STORE") or str(home() / "store")


def tracking_uri() -> str:
    """Where MLflow keeps runs and models."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def traceback_wanted() -> bool:
    """Whether errors meant for a user are to show where in the code they were raised."""
    return os.environ.get("K2_TRACEBACK", "") not in ("", "0")


def world_size() -> int:
    """How many processes train together, as torchrun tells its workers; 1 outside of it."""
    return int(os.environ.get("WORLD_SIZE") or "1")
