"""Defaults, and what the environment sets."""

import copy
import json
import pickle
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
        ("https://f.example/api?code=CANARY&name=x", "https://f.example/api?code=***&name=x"),
        ("https://g.example/o?GoogleAccessId=CANARY@p&X-Goog-Signature=CANARY", "https://g.example/o?GoogleAccessId=***&X-Goog-Signature=***"),
        ("https://host/k?dsn=host%3Ddb%20password%3DCANARY", "https://host/k?dsn=***"),
        ("https://hooks.slack.com/services/T0/B0/CANARY", "https://hooks.slack.com/***"),
        ("https://discord.com/api/webhooks/1/CANARY", "https://discord.com/***"),
        ("https://x.webhook.office.com/webhookb2/CANARY@CA/IncomingWebhook/CANARY", "https://x.webhook.office.com/***"),
        ("https://api.telegram.org/bot1:CANARY/send", "https://api.telegram.org/***"),
        ("postgresql://u:CA NARY with blanks@host/db", "postgresql://***@host/db"),
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db user=me password=CANARY dbname=k2", "host=db user=me password=*** dbname=k2"),
        ("host=db password='CA NARY' dbname=k2", "host=db password='***' dbname=k2"),
        ("AccountName=a;AccountKey=CANARY==;EndpointSuffix=x", "AccountName=a;AccountKey=***"),
        ('{"api_key": "CANARY", "model": "m"}', '{"api_key": "***", "model": "m"}'),
        (r"{\"password\": \"CA\"}", r"{\"password\": \"***\"}"),
        ("AWS_SECRET_ACCESS_KEY=CANARY K2_HOME=/x", "AWS_SECRET_ACCESS_KEY=*** K2_HOME=/x"),
        ("client_secret: CANARY, again", "client_secret: ***, again"),
        ("Authorization: Bearer CANARY.CANARY_x=", "Authorization: Bearer ***"),
        ("it was hf_CANARYcanaryCANARYcanary0 then", "it was *** then"),
        ("postgresql://u:a blank CANARY@host/db is no use", "postgresql://***@host/db is no use"),
        ("no answer from http://host:5000 at all, ask me@work", "no answer from http://host:5000 at all, ask me@work"),
        ("http://host: refused, ask me@work", "http://host: refused, ask me@work"),
        ("token=12 pad_token='<|pad|>' key='x' tokens: 5", "token=12 pad_token='<|pad|>' key='x' tokens: 5"),
    ],
)
def test_secrets_in_a_text_are_masked(text: str, shown: str) -> None:
    assert settings.masked_text(text) == shown == settings.masked_text(shown)


@pytest.mark.parametrize(
    "address", ["user:CANARY@host/db", "oauth2:CA/NARY@host", "host=db password=CANARY", "s3:key:CANARY@bucket"]
)
def test_an_address_without_protocol_may_hold_a_secret_too(address: str) -> None:
    assert "CANARY" not in settings.masked(address) and settings.holds_secret(address)


def test_what_secret_variables_say_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LLM_API_KEY", 'canary "1"/+')
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:p%40ss-canary-2@host/db")
    monkeypatch.setenv("TEAM_CHAT", "https://hooks.slack.com/services/T0/B0/canary-3")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/aws")
    monkeypatch.setenv("SOME_KEY", "short")
    said = (
        'bad key canary "1"/+, as canary%20%221%22%2F%2B, as {"k": "canary \\"1\\"/+"}, p@ss-canary-2, p%40ss-canary-2'
    )
    assert settings.masked_text(said) == 'bad key ***, as ***, as {"k": "***"}, ***, ***'
    assert settings.masked_text("POST services/T0/B0/canary-3 failed") == "POST *** failed"
    assert settings.masked_text("in short, /var/run/secrets/aws") == "in short, /var/run/secrets/aws"
    assert str(K2Error("p@ss-canary-2")) == "***"
    monkeypatch.delenv("DATABASE_URL")
    assert settings.masked_text("p@ss-canary-2") == "p@ss-canary-2"


def test_a_command_line_is_shown_without_secrets() -> None:
    given = ["k2", "--api-key", "CANARY", "--set", '{"location": "s3://k:CA NARY@b", "x": 1}', "--token=CANARY", "-k"]
    assert "NARY" not in " ".join(settings.masked_arguments(given)).replace("--token=CANARY", "")
    assert settings.masked_arguments(["k2", "--key", "--set", "a=1"])[0] == "k2"


def test_a_location_tells_its_credentials_to_nobody_who_does_not_ask_for_it_whole() -> None:
    address = "postgresql://u:CANARY@host/db"
    location = settings.Location(address)
    forms = [
        str(location), f"{location}", f"{location:>40}", repr(location), location + "/x", "".join([location]),
        json.dumps({"uri": location}), str(location.encode()), str(pickle.dumps(location)),
        str(copy.deepcopy([location])), str({location: location}), location.replace("u", "v"),
    ]  # fmt: skip
    assert not [form for form in forms if "CANARY" in form]
    assert location.whole == settings.whole(location) == settings.whole(address) == address
    plain = "sqlite:////data/with blank/mlflow.db"
    assert settings.Location(plain) == plain == settings.whole(settings.Location(plain))


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
