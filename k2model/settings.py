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
they run, and what is passed on, recorded or shown is `masked`. In code such an address is a `Location`, which is
masked but for those who connect to it.

A variable that is set to the empty string counts as not set. Values are read at every call, so that
a test or a worker may change them.
"""

import functools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

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
    r"(?:^|_)(?:SECRET|PASSWORD|PASSWD|PASS|TOKEN|CREDENTIALS?|KEY|COOKIE|AUTH|WEBHOOK|DSN|SAS|SIGNATURE)(?:_|$)",
    re.IGNORECASE,
)
_OF_NO_SECRET = re.compile(r"_(?:FILE|PATH|DIR|SOCK|NAME|TYPE|SIZE)$", re.IGNORECASE)  # where one lies, what it is
_SHORTEST = 8  # characters of a variable's value that is looked for in texts; shorter ones are found in any text
# User and password, up to the last @: passwords are found with an @, : or / in them, too, and with blanks where what
# follows the colon can be no port. Rather too much is masked.
_USER = re.compile(
    r"(?<=://)(?:[^\s/?#:]{0,500}:\S{0,2000}@|[^\s/?#]{0,500}@|[^\s/?#:@]{0,500}:(?!\s|\d{1,5}\b)[^\n@]{1,200}@)"
)
# The same without a protocol, of an address that is nothing else: `user:password@host/db`.
_BARE_USER = re.compile(r"^[^\s/@:]+:\S*@(?=[\w.-]+(?:[:/]|$))")
_PARAMETER = re.compile(r"(?<=[?&;#])([^=&;#?/\s]+)=([^&\s]*)")
_SECRET = re.compile(
    r"sig|token|secret|key|pass|pwd|^pw$|cred|auth|jwt|session|user|uid|login|access|hmac|^sas$|(?:^|[-_])code$|"
    "odbc_connect",
    re.IGNORECASE,
)
# Whose path is the secret: everything behind the host is masked.
_WEBHOOK = re.compile(
    r"(?<=://)((?:hooks\.|[^\s/]*webhook|api\.telegram\.org)[^\s/]*|[^\s/]+(?=/(?:[^\s?#]{0,200}/)?webhooks?[a-z0-9]*/))"
    r"/[^\s\"'<>)]+",
    re.IGNORECASE,
)
# `password=...` of a DSN, `"api_key": "..."` of JSON, `AccountKey=...;`. A bare `token` is a word of this field.
_PAIR = re.compile(
    r"((?<![a-z0-9])(?:(?:db)?password|passwd|passphrase|pwd|secret|credentials?|client[_-]?secret|"
    r"(?:secret[_-]?access|secret|access|api|account|shared[_-]?access|private)[_-]?key(?:[_-]?id)?|"
    r"shared[_-]?access[_-]?signature|"
    r"(?:access|auth|refresh|session|security|bearer|hf|hub|tracking|private|github|gitlab)[_-]?token)"
    r"\\?[\"']?\s*[=:]\s*)"
    r"(\\?\"(?:[^\"\\]|\\[^\"])*\\?\"|'[^']*'|[^\s,;&\"'{}()\[\]]+)",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{8,}=*")
# Keys that are known by their form, whatever stands before them.
_KEY = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|"
    r"xox[abeoprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*)"
)


class Location(str):
    """An address that may hold credentials. As a text it is `masked`, so that nothing that shows, joins, stores, copies
    or pickles it can tell them; who connects to it takes `whole`.

    A client that is given the text by mistake fails to connect, which is the harmless way to be wrong.
    """

    whole: str

    def __new__(cls, address: str) -> "Location":
        location = super().__new__(cls, masked(address))
        location.whole = address
        return location

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return (str, (str(self),))


def whole(address: str) -> str:
    """The address itself, of a `Location` with its credentials. For whoever connects, and nobody else."""
    return address.whole if isinstance(address, Location) else address


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


def tracking_uri() -> Location:
    """Where MLflow keeps runs and models."""
    return Location(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}")


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
    """An address as it may be shown and recorded: `***` for user and password in front of the host, for the parameters
    behind it whose name says that they are secret, or that hold such an address themselves, and for all that
    `masked_text` knows. It is as it was where it tells nothing."""
    return _masked_address(_without_values(address))


def holds_secret(address: str) -> bool:
    """Whether something of an address is not to be shown or recorded, by its form alone."""
    return _masked_address(address) != address


def masked_text(text: str) -> str:
    """`text` without secrets: every address in it masked (one ends where white space begins), the paths of webhooks,
    values behind names such as `password=`, keys of known forms, and the values of this process's own secret variables
    wherever they stand."""
    return _masked_form(_without_values(text))


def masked_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets; what follows an option such as `--api-key` is one."""
    shown = [masked_text(argument) for argument in arguments]
    for place, argument in enumerate(arguments[:-1], start=1):
        if argument.startswith("-") and "=" not in argument and secret_name(argument.strip("-").replace("-", "_")):
            shown[place] = MASK
    return shown


def _masked_address(address: str) -> str:
    if address.startswith(("/", ".", "~")):  # a path of this machine may hold any character
        return address
    if "://" not in address:
        return _masked_form(_BARE_USER.sub(f"{MASK}@", address))
    one_word = re.sub(r"\s", "%20", address)
    shown = _masked_form(one_word)
    return address if shown == one_word else shown


def _without_values(text: str) -> str:
    for value in _secret_values(tuple(os.environ.items())):
        text = text.replace(value, MASK)
    return text


def _masked_form(text: str) -> str:
    text = _PARAMETER.sub(_masked_parameter, _USER.sub(f"{MASK}@", text))
    text = _WEBHOOK.sub(rf"\1/{MASK}", text)
    text = _PAIR.sub(_masked_pair, text)
    return _KEY.sub(MASK, _LOGIN.sub(rf"\1 {MASK}", text))


def _masked_parameter(found: re.Match[str]) -> str:
    name, value = found.groups()
    plain = unquote_plus(value)
    within = ("://" in plain or plain != value) and holds_secret(plain)  # an address or DSN as a parameter
    secret = _SECRET.search(unquote_plus(name)) or within
    return f"{name}={MASK if secret else _masked_form(value)}"


def _masked_pair(found: re.Match[str]) -> str:
    name, value = found.groups()
    opening = re.match(r"\\?[\"']|", value)
    quote_mark = opening[0] if opening else ""
    return f"{name}{quote_mark}{MASK}{quote_mark}"


@functools.lru_cache(maxsize=4)
def _secret_values(environment: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The values of secret variables and the passwords of addresses in others, in the forms in which they may stand in
    a text, the longest first."""
    found = set()
    for name, value in environment:
        if secret_name(name) and not _OF_NO_SECRET.search(name):
            found.add(value)
        found |= {login[0].rpartition("@")[0].partition(":")[2] for login in _USER.finditer(value)}
        if _WEBHOOK.search(value):
            found.add(value.partition("://")[2].partition("/")[2])
    long = {one for value in found for one in (value, unquote(value)) if len(one) >= _SHORTEST and MASK not in one}
    forms = {form for one in long for form in (one, quote(one, safe=""), quote_plus(one), json.dumps(one)[1:-1])}
    return tuple(sorted(forms, key=lambda form: (-len(form), form)))
