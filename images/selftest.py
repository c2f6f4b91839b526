"""What an image checks of itself: `python /opt/k2/selftest.py data|train|eval|mlflow`, in a minute, without network.

It imports every package that the image is made for and does a small piece of the work: `data` takes the smoke recipe
from its sources to validated tokens, `train` takes optimizer steps through DeepSpeed, `eval` generates, `mlflow` serves
a run to a client. Ends with an exception where anything is not as it should be.
"""

import ctypes
import importlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

ABSENT = {
    "data": {"torch", "deepspeed", "transformers"},
    "train": set(),
    "eval": {"deepspeed", "great-expectations"},
    "mlflow": set(),
}
NOT_IMPORTED = {"reasoning_gym": "the project loads single modules of it, see k2model.documents.families.task"}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def imports(image: str) -> list[str]:
    """Import each package that the project (or a server with its database and S3) names, but those left out on purpose.

    Raises ImportError, and AssertionError for one that is there though it should not be.
    """
    named = [text.partition(";") for text in requires("k2-lifecycle") or ()] if image != "mlflow" else []
    wanted = {canonical(r.split("=")[0].split("<")[0].split(">")[0].strip()) for r, _, marker in named if not marker}
    wanted = wanted or {"mlflow", "psycopg2-binary", "boto3", "flask-wtf"}
    found: dict[str, set[str]] = {}
    for module, dists in packages_distributions().items():
        for dist in dists:
            found.setdefault(canonical(dist), set()).add(module)
    there = ABSENT[image] & found.keys()
    assert not there, f"the {image} image should be without {there}"
    wanted -= ABSENT[image]
    if missing := wanted - found.keys():
        raise ImportError(f"not installed: {', '.join(sorted(missing))}")
    modules: set[str] = set()
    for (
        name
    ) in wanted:  # of a package of several modules that which has its name: the others are for those who need more
        own = name.replace("-", "_")
        modules |= {own} if own in found[name] else {one for one in found[name] if not one.startswith("_")}
    modules -= NOT_IMPORTED.keys()
    for module in sorted(modules):
        importlib.import_module(module)
    return sorted(modules)


def data() -> str:
    """The data of the smoke recipe, through Flyte's local execution."""
    import workflows.data

    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"K2_RECIPE": "smoke", "K2_HOME": home, "TMPDIR": home, "K2_STORE": ""}
        command = [str(Path(sys.executable).with_name("pyflyte")), "run", workflows.data.__file__, "prepare_data"]
        subprocess.run(command, env=environment, cwd=home, check=True, timeout=600)
        made = [path.name for path in (Path(home) / "store" / "tokens").glob("*/manifest.json")]
    assert made, "the data pipeline ended without token shards"
    return "token shards of the smoke recipe made"


def train() -> str:
    """Twenty optimizer steps on one repeated batch: the loss must fall by half."""
    import torch

    from k2model.recipe import chosen_recipe
    from k2model.training.batch import Batch
    from k2model.training.engine import Engine
    from k2model.training.layout import Layout
    from k2model.training.world import World

    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    recipe = chosen_recipe("smoke")
    phase = recipe.phases[0]
    world = World()
    with world.joined():
        engine = Engine(recipe.model, phase, Layout.of(world, phase.parallelism))
        shape = (phase.global_batch, phase.sequence_length)
        tokens_BT = torch.randint(0, recipe.model.vocab_size, shape, generator=torch.Generator().manual_seed(1))
        zeros = torch.zeros_like(tokens_BT)
        batch = Batch(tokens_BT, tokens_BT.roll(-1, 1), zeros, zeros, tokens_BT.numel(), 0)
        losses = []
        for _ in range(20):
            outcome = engine.step(batch, lr=1e-2, targets=batch.targets, sources=1)
            losses.append(float(outcome.loss.nats_S.sum()) / batch.targets)
    if Path("/opt/venv").exists():
        ctypes.CDLL("libibverbs.so.1")  # without it NCCL takes TCP for InfiniBand, and says nothing
    assert losses[-1] < losses[0] / 2, f"the loss does not fall: {losses}"
    return f"loss {losses[0]:.2f} -> {losses[-1]:.2f} in {len(losses)} steps"


def evaluate() -> str:
    """Greedy generation with a key-value cache equals the whole text read again for every token."""
    import torch

    from k2model.generation import Engine, Request
    from k2model.model import K2Model
    from k2model.recipe import chosen_recipe

    recipe = chosen_recipe("smoke")
    torch.manual_seed(0)
    model = K2Model(recipe.model, recipe.phases[0].rope_theta, 64).eval()
    prompt = [3, 1, 4, 1, 5]
    ((_, found),) = Engine(model).run([Request(prompt, 8)])
    text = list(prompt)
    with torch.no_grad():
        for _ in range(8):
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert found.tokens == text[len(prompt) :], (found.tokens, text)
    return f"{len(found.tokens)} tokens generated"


def mlflow() -> str:
    """A server with logins on SQLite: no login is refused, a client's metric is read back."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "auth.ini").write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
            "admin_username = admin\nadmin_password = selftest-only-1\n"
        )
        address = "http://127.0.0.1:5999"
        more = {"MLFLOW_AUTH_CONFIG_PATH": f"{folder}/auth.ini", "MLFLOW_FLASK_SERVER_SECRET_KEY": "selftest"}
        login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "selftest-only-1"}
        program = [str(Path(sys.executable).with_name("mlflow")), "server", "--app-name", "basic-auth"]
        program += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder]
        server = subprocess.Popen(
            [*program, "--host", "127.0.0.1", "--port", "5999", "--workers", "1"],
            env=os.environ | more, start_new_session=True,
        )  # fmt: skip
        try:
            _until(lambda: urllib.request.urlopen(f"{address}/health", timeout=2).status == 200, 180)
            try:
                urllib.request.urlopen(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=10)
                raise AssertionError("the API answers without a login")
            except urllib.error.HTTPError as error:
                assert error.code == 401, error
            os.environ |= login
            from mlflow import MlflowClient

            client = MlflowClient(address)
            run = client.create_run("0").info.run_id
            client.log_metric(run, "loss", 1.5, step=3)
            assert client.get_run(run).data.metrics == {"loss": 1.5}
        finally:
            os.killpg(server.pid, 15)
            server.wait(60)
    return "a run logged and read back"


def _until(works: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if works():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"no answer within {seconds:.0f} s"
        time.sleep(0.5)


WORK: dict[str, Callable[[], str]] = {"data": data, "train": train, "eval": evaluate, "mlflow": mlflow}


def main(image: str) -> None:
    if Path("/opt/venv").exists():  # in an image
        assert os.getuid() != 0, "runs as root"
        assert not os.access("/opt/venv", os.W_OK), "the user can write to /opt/venv"
        assert Path("/opt/venv/sbom.json").stat().st_size > 1000, "no list of contents"
    modules = imports(image)
    print(f"{image}: {len(modules)} packages imported; {WORK[image]()}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in WORK:
        sys.exit(f"usage: selftest.py {'|'.join(WORK)}")
    main(sys.argv[1])
