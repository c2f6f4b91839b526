"""No secret of the stack, or of a lifecycle on it, is where somebody may come upon it.

Every password and key of both holds one canary. It is looked for, as it is and encoded, in all that servers and run
leave, say and show. A second one is no secret and lies in each of those places: a search that does not find it there is
blind.
"""

import base64
import json
import os
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from infra.stack import postgres
from infra.stack.config import ARTIFACTS_BUCKET, LIFECYCLE, STORE_BUCKET, Config, client_environment
from infra.stack.services import s3_client
from tests.infra.conftest import CANARY, ok
from tests.smoke import PYFLYTE, Finished, environment, lifecycle

PLANTED = CANARY.replace("canary", "planted")
THROUGH = (sys.executable, "-m", "infra.stack", "run")
#: Where secrets lie, for their owner alone.
SECRET_FILES = ("stack/stack.json", "stack/env", "stack/seaweedfs/s3.json", "stack/mlflow/auth.ini")
SIGNED = f"https://user:{CANARY}@data.example/rows.jsonl?X-Amz-Signature={CANARY}"


def forms(canary: str) -> list[bytes]:
    """A text of letters and digits, as it is (also in an address or JSON), in hex, and in base64 wherever it begins."""
    found, plain = [canary.encode(), canary.encode().hex().encode()], canary.encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + plain)
        found.append(encoded[-(-before * 8 // 6) : (before + len(plain)) * 8 // 6])
    return found


def holds(text: bytes, canary: str) -> bool:
    return any(form in text for form in forms(canary))


def test_a_secret_is_known_in_every_form():
    for before in range(4):
        login = base64.b64encode(f"{'admin'[:before]}{CANARY}:x".encode())
        assert holds(b"Basic " + login, CANARY) and not holds(login, PLANTED)
    assert holds(urllib.parse.quote(f"a b/{CANARY}+%").encode(), CANARY)


def test_a_lifecycle_on_the_stack_leaves_and_shows_no_secret(
    home: Path, config: Config, finished: tuple[Path, Finished]
):
    copied = copy_store(finished[0] / "store", config)
    variables = environment(home, f"{CANARY}/+@% '")
    shown = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", PLANTED])
    try:
        run = lifecycle(home, {"phases.sft.optimizer.lr": 5e-4}, THROUGH, variables)
    finally:
        shown.kill()
        shown.wait()
    assert run.returncode == 0, run.stderr[-3000:]
    signed = json.dumps({"corpus.sources.+": {"name": "web", "location": SIGNED}})
    refused = lifecycle(home, None, THROUGH, variables | {"K2_OVERRIDES": signed})
    assert refused.returncode != 0 and "data.example" in refused.stderr + refused.stdout
    said = [run.stdout, run.stderr, refused.stdout, refused.stderr, PLANTED, ingested(home, config)]
    said += [ok(home, *command) for command in (["status"], ["ui"])]

    plant(home, config)
    found: dict[str, list[str]] = {CANARY: [], PLANTED: []}
    for place, text in everything(home, config, copied, said, run.watch.commands | refused.watch.commands):
        for canary in found:
            if holds(text, canary):
                found[canary].append(place)
    files = ("home/note", "home/decks", "home/stack/logs", "home/stack/postgres", f"S3 {STORE_BUCKET}/planted.json")
    for place in (*files, "database", "MLflow /api/2.0/mlflow/runs/search", "processes", "said"):
        assert any(one.startswith(place) for one in found[PLANTED]), f"what lies in {place} is not looked at"
    assert found[CANARY] == []
    for name in SECRET_FILES:
        assert CANARY in (home / name).read_text() and stat.S_IMODE((home / name).stat().st_mode) == 0o600, name


def copy_store(store: Path, config: Config) -> set[str]:
    """The artifacts of a local store on the stack, so that what is not changed need not be made again. Gives the keys,
    whose objects no run on the stack has written."""
    client = s3_client(config.s3, LIFECYCLE, config.secrets["s3_lifecycle"])
    files = [path for path in store.rglob("*") if path.is_file() and path.relative_to(store).parts[0] != "_leases"]

    def put(path: Path) -> str:
        key = f"store/{path.relative_to(store).as_posix()}"
        client.put_object(Bucket=STORE_BUCKET, Key=key, Body=path.read_bytes())
        return key

    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(put, files))


def ingested(home: Path, config: Config) -> str:
    """What is said when a source on S3 is read, which needs a key."""
    client = s3_client(config.s3, LIFECYCLE, config.secrets["s3_lifecycle"])
    client.put_object(Bucket=STORE_BUCKET, Key="sources/rows.jsonl", Body=b'{"text": "A row of a source on S3."}\n')
    place, out = f"s3://{STORE_BUCKET}/sources/rows.jsonl", str(home / "ingested")
    return ok(home, "run", str(PYFLYTE.with_name("k2")), "data", "ingest", place, "--out", out)


def plant(home: Path, config: Config) -> None:
    (home / "note").write_bytes(base64.b64encode(f"x{PLANTED}".encode()))
    with (home / "stack" / "logs" / "mlflow.log").open("a") as log:
        log.write(f"{urllib.parse.quote(f'/{PLANTED}/')}\n")
    with (next((home / "decks").iterdir())).open("a") as deck:
        deck.write(f"<p>{PLANTED}</p>")
    s3 = s3_client(config.s3, LIFECYCLE, config.secrets["s3_lifecycle"])
    s3.put_object(Bucket=STORE_BUCKET, Key="planted.json", Body=json.dumps({"rows": ["a", PLANTED] * 99}).encode())
    tags = [{"key": "note", "value": PLANTED}]
    run = mlflow_says(config, "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "tags": tags})
    assert PLANTED.encode() in run


def everything(
    home: Path, config: Config, copied: set[str], said: list[str], commands: set[str]
) -> Iterator[tuple[str, bytes]]:
    """Places and what is there: files of the run and of the servers, objects, which SeaweedFS may have compressed, but
    for those that were copied, the database, what MLflow answers, outputs, and command lines."""
    programs = postgres.find_programs(home / "stack" / "postgres" / "data", postgres.user())
    login = ["--host=127.0.0.1", f"--port={config.ports['postgres']}", "--username=postgres"]
    admin = os.environ | {"PGPASSWORD": config.secrets["postgres_admin"]}
    # Rows into their own files, where no page divides one: in the log of what was written one may go over two.
    subprocess.run([programs / "psql", *login, "--dbname=postgres", "--command=CHECKPOINT"], env=admin, check=True)
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        if path.is_file() and name not in SECRET_FILES:
            with suppress(FileNotFoundError):  # of a server, which has removed it
                yield f"home/{name}", name.encode() + b"\n" + path.read_bytes()
    s3 = s3_client(config.s3, "admin", config.secrets["s3_admin"])
    for bucket in (STORE_BUCKET, ARTIFACTS_BUCKET):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for key in (found["Key"] for page in pages for found in page["Contents"] if found["Key"] not in copied):
            yield f"S3 {bucket}/{key}", key.encode() + b"\n" + s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    yield (
        "database",
        subprocess.run([programs / "pg_dumpall", *login], env=admin, stdout=subprocess.PIPE, check=True).stdout,
    )
    api = "/api/2.0/mlflow"
    experiments = mlflow_says(config, f"{api}/experiments/search", {"max_results": 100})
    body = experiments.partition(b"\n\n")[2]
    those = {"experiment_ids": [one["experiment_id"] for one in json.loads(body)["experiments"]], "max_results": 1000}
    yield f"MLflow {api}/experiments/search", experiments
    for path, asked in ((f"{api}/runs/search", those), (f"{api}/logged-models/search", {**those, "max_results": 50})):
        yield f"MLflow {path}", mlflow_says(config, path, asked)
    for path in ("registered-models/search", "model-versions/search", "users/get?username=admin", "no/such/call"):
        yield f"MLflow {path}", mlflow_says(config, f"{api}/{path}")
    yield "MLflow, wrong password", mlflow_says(config, f"{api}/experiments/search", password=f"{CANARY}-wrong")
    yield from (("said", text.encode()) for text in said)
    yield from (("processes", command.encode()) for command in commands)


def mlflow_says(config: Config, path: str, asked: dict | None = None, password: str = "") -> bytes:
    """Headers and body of an answer, also of one that refuses."""
    password = password or client_environment(config)["MLFLOW_TRACKING_PASSWORD"]
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    data = None if asked is None else json.dumps(asked).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(config.mlflow + path, data, headers), timeout=60) as answer:
            return str(answer.headers).strip().encode() + b"\n\n" + answer.read()
    except urllib.error.HTTPError as refused:
        return str(refused.headers).strip().encode() + b"\n\n" + refused.read()
