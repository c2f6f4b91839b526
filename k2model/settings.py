"""The environment variables of the project, all read here, and what of an address may be shown.

| variable | default | what it sets |
|---|---|---|
| `K2_RECIPE` | `laptop` | the recipe whose phases make the DAG; also `mine.py[:variant]`, `package.module:function` |
| `K2_OVERRIDES` | | changes of that recipe, a JSON object of dotted fields (`k2model/recipe/overrides.py`) |
| `K2_RECIPE_DIGEST` | | in a package: the digest of the recipe that was registered, which a pod compares with its own |
| `K2_HOME` | `./outputs` | where everything a run leaves on this machine goes: store, cache, tracking, reports |
| `K2_STORE` | `$K2_HOME/store` | the artifact store: a path, `file://` or `s3://bucket/prefix` |
| `MLFLOW_TRACKING_URI` | `sqlite:///$K2_HOME/mlflow.db` | the MLflow tracking server or file |
| `K2_DETERMINISTIC` | | any value but `0`: training takes kernels that give the same bits each time (`docs/gpu.md`) |
| `K2_VERIFY` | `changed` | of what is there already a run compares bytes that were written later; `bytes`: all |
| `K2_TRACEBACK` | | any value but `0`: an error meant for a user shows its traceback too |
| `K2_LIVE_METRICS` | `1` | `0`: points of a training go to an MLflow server when it is registered, not as they come |
| `K2_METRICS_PORT` | | where a node at training shows Prometheus its metrics; without a port it listens nowhere |
| `K2_METRICS_ADDRESS` | `127.0.0.1` | the address of that port; in a pod its own or `0.0.0.0` |
| `K2_EVAL_DATA` | | a folder of public benchmarks' data (`docs/harness.md`) |
| `WORLD_SIZE` | `1` | set by torchrun for its workers: how many processes train together |

An S3 store is reached with the usual settings of its client, which this project does not read:
`AWS_ENDPOINT_URL` (or `FSSPEC_S3_ENDPOINT_URL`), `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_REGION`, `AWS_PROFILE`. A tracking server with a login takes `MLFLOW_TRACKING_USERNAME` and
`MLFLOW_TRACKING_PASSWORD`, or `MLFLOW_TRACKING_TOKEN`, which MLflow reads itself.

A pod gets `HANDED_ON` from the environment of whoever packages the workflows, as plain variables that anyone who may
look at the pod reads, and from a Secret of the cluster `SECRETS` and the keys that the recipe's judges name
(`tasks/pods.py`).

Secrets stay in the environment. Addresses of stores and data may hold none, since they are recorded;
`MLFLOW_TRACKING_URI` may, for a database such as `postgresql://user:password@host/db`: tasks read it where
they run, and what is passed on, recorded or shown is `masked`.

A variable that is set to the empty string counts as not set. Values are read at every call, so that
a test or a worker may change them.
"""

import os
import re
from pathlib import Path
from urllib.parse import unquote_plus

#: Keys of the Secret that pods take their credentials from.
SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN",
)  # fmt: skip
#: What is the same in every pod as where the workflows are packaged, where it is set.
HANDED_ON = (
    "K2_STORE", "MLFLOW_TRACKING_URI", "K2_DETERMINISTIC", "K2_EVAL_DATA", "K2_VERIFY",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "FSSPEC_S3_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip

MASK = "***"
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:SECRET|PASSWORD|PASSWD|PASS|TOKEN|CREDENTIALS?|KEY|COOKIE|AUTH)(?:_|$)", re.IGNORECASE
)
# User and password, up to the last @: passwords are found with an @, : or / in them, too. Rather too much is masked.
_USER = re.compile(r"(?<=://)(?:[^\s/?#:]*:\S*@|[^\s/?#]*@)")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?/\s]+)=([^&\s]*)")
_SECRET = re.compile(r"sig|token|secret|key|pass|pwd|cred|auth|jwt|session|user|uid|login|odbc_connect", re.IGNORECASE)


def recipe_name() -> str:
    """The name of the recipe that runs."""
    return os.environ.get("K2_RECIPE") or "laptop"


def recipe_changes() -> str:
    """Overrides of the recipe that runs, as JSON text; "" where there are none."""
    return os.environ.get("K2_OVERRIDES") or ""


def registered_recipe() -> str:
    """The digest of the recipe that the tasks were registered for; "" where nothing is registered."""
    return os.environ.get("K2_RECIPE_DIGEST") or ""


def home() -> Path:
    """The absolute folder of everything a run leaves on this machine. It need not exist."""
    return Path(os.environ.get("K2_HOME") or "outputs").absolute()


def eval_data() -> Path | None:
    """The folder of public benchmarks' data; None where none is set."""
    return Path(found).absolute() if (found := os.environ.get("K2_EVAL_DATA")) else None


def store_uri() -> str:
    """The root of the artifact store, as `k2model.artifacts.Store.open` takes it."""
    return os.environ.get("K2_STORE") or str(home() / "store")


def verification() -> str:
    """What a run compares of artifacts that are there already: `changed` or `bytes` (`k2model.artifacts.confirm`).
    Raises ValueError for anything else."""
    value = os.environ.get("K2_VERIFY") or "changed"
    if value not in ("changed", "bytes"):
        raise ValueError(f"K2_VERIFY={value!r} is unknown: expected `changed`, or `bytes` to compare all of them")
    return value


def tracking_uri() -> str:
    """Where MLflow keeps runs and models."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def handed_on() -> dict[str, str]:
    """Those of `HANDED_ON` that are set here."""
    return {name: value for name in HANDED_ON if (value := os.environ.get(name))}


def secret_name(variable: str) -> bool:
    """Whether a variable is a secret by its name: `AWS_SECRET_ACCESS_KEY`, not `TOKENIZERS_PARALLELISM`."""
    return variable in SECRETS or bool(_SECRET_VARIABLE.search(variable))


def live_metrics() -> bool:
    """Whether points of a training go to an MLflow server as they come."""
    return os.environ.get("K2_LIVE_METRICS", "") != "0"


def metrics_port() -> int | None:
    """Where a node at training shows its metrics; None: nowhere. Raises ValueError for what is no port."""
    value = os.environ.get("K2_METRICS_PORT") or ""
    if value and not (value.isdecimal() and 0 < int(value) < 65536):
        raise ValueError(f"K2_METRICS_PORT={value!r} is no port: expected a number from 1 to 65535, or nothing")
    return int(value) if value else None


def metrics_address() -> str:
    """The address that port is on."""
    return os.environ.get("K2_METRICS_ADDRESS") or "127.0.0.1"


def traceback_wanted() -> bool:
    """Whether errors meant for a user are to show where in the code they were raised."""
    return os.environ.get("K2_TRACEBACK", "") not in ("", "0")


def deterministic_kernels() -> bool:
    """Whether training is to take only kernels that give the same bits each time, at their price."""
    return os.environ.get("K2_DETERMINISTIC", "") not in ("", "0")


def world_size() -> int:
    """How many processes train together, as torchrun tells its workers; 1 outside of it."""
    return int(os.environ.get("WORLD_SIZE") or "1")


def masked(address: str) -> str:
    """An address as it may be shown and recorded: `***` for user and password in front of the host, and for the
    parameters behind it whose name says that they are secret, or that hold such an address themselves."""
    return masked_text(re.sub(r"\s", "%20", address)) if "://" in address else address


def holds_secret(address: str) -> bool:
    """Whether something of an address is not to be shown or recorded."""
    return MASK in masked(address) and masked(address) != address


def masked_text(text: str) -> str:
    """`text` with every address in it masked; an address ends where white space begins."""
    return _PARAMETER.sub(_masked_parameter, _USER.sub(f"{MASK}@", text))


def _masked_parameter(found: re.Match[str]) -> str:
    name, value = found.groups()
    secret = _SECRET.search(unquote_plus(name)) or holds_secret(unquote_plus(value))
    return f"{name}={MASK if secret else masked_text(value)}"
