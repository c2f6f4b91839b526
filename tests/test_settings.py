"""Defaults, and what the environment sets."""

from pathlib import Path

import pytest

from k2model import settings
from k2model.errors import K2Error, showable


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "K2_RECIPE",
        "K2_HOME",
        "K2_STORE",
        "MLFLOW_TRACKING_URI",
        "WORLD_SIZE",
        "K2_DETERMINISTIC",
        "K2_TRACEBACK",
        "K2_OVERRIDES",
        "K2_LIVE_METRICS",
        "K2_METRICS_PORT",
        "K2_METRICS_ADDRESS",
        "K2_EVAL_DATA",
        "K2_VERIFY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_defaults(tmp_path: Path) -> None:
    assert settings.recipe_name() == "laptop"
    assert settings.recipe_changes() == settings.registered_recipe() == ""
    assert settings.home() == tmp_path / "outputs"
    assert settings.store_uri() == f"{tmp_path}/outputs/store"
    assert settings.tracking_uri() == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert settings.world_size() == 1
    assert not settings.traceback_wanted() and not settings.deterministic_kernels()
    assert settings.live_metrics() and settings.metrics_port() is None
    assert settings.metrics_address() == "127.0.0.1"
    assert settings.eval_data() is None
    assert settings.verification() == "changed"


def test_home_moves_what_is_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_HOME", "/data/k2")
    assert settings.store_uri() == "/data/k2/store"
    assert settings.tracking_uri() == "sqlite:////data/k2/mlflow.db"


def test_each_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_RECIPE", "smoke")
    monkeypatch.setenv("K2_STORE", "s3://bucket/store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("K2_TRACEBACK", "1")
    monkeypatch.setenv("K2_DETERMINISTIC", "1")
    assert settings.recipe_name() == "smoke"
    assert settings.store_uri() == "s3://bucket/store"
    assert settings.tracking_uri() == "http://127.0.0.1:5000"
    assert settings.world_size() == 4
    assert settings.traceback_wanted() and settings.deterministic_kernels()
    monkeypatch.setenv("K2_EVAL_DATA", "/data/benchmarks")
    assert settings.eval_data() == Path("/data/benchmarks")
    monkeypatch.setenv("K2_METRICS_PORT", "9464")
    monkeypatch.setenv("K2_METRICS_ADDRESS", "0.0.0.0")
    monkeypatch.setenv("K2_LIVE_METRICS", "0")
    assert (settings.metrics_port(), settings.metrics_address()) == (9464, "0.0.0.0")
    assert not settings.live_metrics()
    monkeypatch.setenv("K2_METRICS_PORT", "http")
    with pytest.raises(ValueError, match="K2_METRICS_PORT='http' is no port"):
        settings.metrics_port()
    monkeypatch.setenv("K2_TRACEBACK", "0")
    monkeypatch.setenv("K2_DETERMINISTIC", "0")
    assert not settings.traceback_wanted() and not settings.deterministic_kernels()


def test_empty_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_RECIPE", "")
    assert settings.recipe_name() == "laptop"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:CANARY@host:5000/x", "https://***@host:5000/x"),
        ("https://CANARY@host", "https://***@host"),
        ("https://:CANARY@host", "https://***@host"),
        ("https://me@work.example:CA@NA:RY@host", "https://***@host"),
        ("https://user:CA/NA?R#Y@host/x", "https://***@host/x"),
        ("postgresql+psycopg2://user:CA NARY@host:5432/db?sslmode=require", "postgresql+psycopg2://***@host:5432/db?sslmode=require"),
        ("postgresql://host/db?user=CANARY&password=CANARY", "postgresql://host/db?user=***&password=***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3DCANARY", "mssql+pyodbc:///?odbc_connect=***"),
        ("s3://AKIACANARY:CA/NARY+x@bucket/prefix", "s3://***@bucket/prefix"),
        (
            "https://b.example/k?X-Amz-Date=1&X-Amz-Credential=CANARY&X-Amz-Signature=CANARY#CANARY",
            "https://b.example/k?X-Amz-Date=1&X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("https://host/k?x=1#token=CANARY&y=2;pwd=CANARY", "https://host/k?x=1#token=***&y=2;pwd=***"),
        ("https://c.example/k?sv=1&sig=CANARY&se=2", "https://c.example/k?sv=1&sig=***&se=2"),
        ("https://host/k?%70assword=CANARY", "https://host/k?%70assword=***"),
        ("https://host/k?next=https%3A%2F%2Fu%3ACANARY%40h", "https://host/k?next=***"),
    ],
)  # fmt: skip
def test_secrets_of_an_address_are_masked(address: str, shown: str) -> None:
    assert settings.masked(address) == shown == settings.masked(shown)
    assert settings.holds_secret(address) and not settings.holds_secret(shown)
    if " " not in address:
        assert settings.masked_text(f"no answer from {address} , ask me@work.example") == (
            f"no answer from {shown} , ask me@work.example"
        )
        cause = ValueError(f"{address} is no use")
        assert str(K2Error(f"{address} is no use")) == f"{shown} is no use"
        assert showable(cause) is None and showable(ValueError("plain")) is not None
        outer = ValueError("plain")
        outer.__context__ = cause
        assert showable(outer) is None, "a traceback would show it as well"


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////data/me@work/mlflow.db?timeout=30", "file:///data/me@work", "/data/me:a@work?key=1",
        "s3://bucket/me@work/x", "s3://bucket/at:12@x", "s3://bucket/part?-*/token=1/x.parquet",
        "http://127.0.0.1:5000/#/experiments", "postgresql://host/db?sslmode=require", "databricks://profile",
    ],
)  # fmt: skip
def test_an_address_without_secrets_is_shown_as_it_is(address: str) -> None:
    assert settings.masked(address) == address and not settings.holds_secret(address)


def test_pods_are_handed_on_what_is_set_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.HANDED_ON:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("K2_STORE", "s3://bucket/store")
    monkeypatch.setenv("AWS_REGION", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert settings.handed_on() == {"K2_STORE": "s3://bucket/store"}
    assert not [name for name in settings.HANDED_ON if settings.secret_name(name)]


@pytest.mark.parametrize(
    ("name", "secret"),
    [(name, True) for name in (*settings.SECRETS, "HF_TOKEN", "DB_PASSWORD", "SSH_PRIVATE_KEY", "github_token")]
    + [(name, False) for name in ("TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "K2_HOME", "OMP_NUM_THREADS", "KEYBOARD")],
)
def test_a_secret_is_known_by_its_name(name: str, secret: bool) -> None:
    assert settings.secret_name(name) is secret


def test_what_is_compared_is_one_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_VERIFY", "bytes")
    assert settings.verification() == "bytes"
    monkeypatch.setenv("K2_VERIFY", "byte")
    with pytest.raises(ValueError, match="K2_VERIFY='byte' is unknown: expected `changed`, or `bytes`"):
        settings.verification()
