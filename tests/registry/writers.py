"""Many processes that register the same lines of phases at once, killed at random: what they must leave is one run, one
logged model and one version a phase, and aliases as an undisturbed registration has them.

The whole form is run by hand, on a file, on PostgreSQL, and on a server in front of it:

    python -m tests.registry.writers --writers 8 --kills 30
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from infra.stack import postgres
from infra.stack.config import LOOPBACK, free_ports
from k2model.artifacts import Store
from k2model.recipe.schema import GateConfig
from k2model.registry.tracking import tracking
from tests.registry.conftest import STEPS, Phase, make_phase

# Not forked from here: threads of MLflow's may hold a lock just then, which nobody in the child would release.
CONTEXT = get_context("forkserver")
GATES = (GateConfig("sft", "facts", 0.5),)
PHASES = ("pretrain", "mid_1", "sft")
SECONDS = 300.0


def line_of(store: Store) -> list[Phase]:
    return [make_phase(store, name, {"facts": 0.9}) for name in PHASES]


def register_line(uri: str, store: Store, line: list[Phase], recipe: str) -> None:
    parent = None
    for phase in line:
        parent = phase.register(uri, store, recipe, GATES, parent)


def write(uri: str, place: str, line: list[Phase], recipes: list[str], said: Path) -> None:
    """In a process of its own; whoever cannot register a line says why and ends with 1."""
    try:
        for recipe in recipes:
            register_line(uri, Store.open(place), line, recipe)
        os._exit(0)
    except BaseException as error:
        said.write_text(f"{type(error).__name__}: {error}")
        os._exit(1)


def killed_writers(
    uri: str, store: Store, recipes: list[str], writers: int, kills: int, seed: int, folder: Path
) -> int:
    """Lets writers register all lines, killing one at random `kills` times, each of which is begun again; gives how
    many were killed in the middle. Raises AssertionError with what a writer said that ended otherwise than well."""
    draw, line, killed = random.Random(seed), line_of(store), 0
    CONTEXT.set_forkserver_preload(["mlflow", __name__])

    def begin(number: int) -> object:
        said = folder / f"writer{number}"
        process = CONTEXT.Process(target=write, args=(uri, store.uri, line, recipes, said), daemon=True)
        process.start()
        return process

    running = [begin(number) for number in range(writers)]
    for _ in range(kills):
        time.sleep(draw.uniform(0.05, 1.5))
        alive = [number for number, process in enumerate(running) if process.is_alive()]
        if not alive:
            break
        number = draw.choice(alive)
        os.kill(running[number].pid, signal.SIGKILL)
        running[number].join()
        killed += running[number].exitcode == -signal.SIGKILL
        running[number] = begin(number)
    for number, process in enumerate(running):
        process.join(SECONDS)
        said = folder / f"writer{number}"
        assert process.exitcode == 0, said.read_text() if said.exists() else f"writer {number}: {process.exitcode}"
    return killed


def check_line(uri: str, recipe: str, models_made_anew: bool = False) -> None:
    """Raises AssertionError where a line is not as one undisturbed writer leaves it.

    models_made_anew: a run may name a deleted logged model beside its own.
    """
    with tracking(uri) as client:
        experiment = client.get_experiment_by_name(f"k2/{recipe}").experiment_id
        found = client.search_runs([experiment])
        assert Counter((run.data.tags["k2.phase"], run.info.status) for run in found) == {
            (name, "FINISHED"): 1 for name in PHASES
        }
        assert len({run.info.run_name for run in found}) == len(PHASES)
        models = client.search_logged_models([experiment])
        assert sorted(model.source_run_id for model in models) == sorted(run.info.run_id for run in found)
        versions = client.search_model_versions(f"name = 'k2-{recipe}'")
        assert sorted(str(one.run_id) for one in versions) == sorted(run.info.run_id for run in found)
        number = {one.tags["k2.phase"]: int(one.version) for one in versions}
        held = {alias: int(at) for alias, at in client.get_registered_model(f"k2-{recipe}").aliases.items()}
        assert held == {**number, "candidate": number["sft"]}
        for run in found:
            assert len(client.get_metric_history(run.info.run_id, "train/loss")) == STEPS
            outputs = [output.model_id for output in run.outputs.model_outputs]
            assert len(run.inputs.dataset_inputs) == 2 and (len(outputs) == 1 or models_made_anew)
            [own] = [model.model_id for model in models if model.source_run_id == run.info.run_id]
            assert own in outputs


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """The address of an empty database of a PostgreSQL of one's own."""
    place = Path(tempfile.mkdtemp(prefix="k2-postgresql-"))
    place.chmod(0o711)  # PostgreSQL does not run as root, and has to enter it
    data, user, (port,) = place / "postgres" / "data", postgres.user(), free_ports(1)
    for name in ("postgres", "logs"):
        (place / name).mkdir()
    process = None
    try:
        from infra.stack.processes import start, wait

        postgres.make_cluster(data, user, "secret")
        process = start("postgres", postgres.command(data, port), {}, place, user)

        def answers() -> bool:
            with contextlib.suppress(Exception):
                postgres.make_role(port, "secret", "own")
                return True
            return False

        assert wait(60, answers), (place / "logs" / "postgres.log").read_text()
        yield f"postgresql+psycopg2://{postgres.DATABASE}:own@{LOOPBACK}:{port}/{postgres.DATABASE}"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of an MLflow server in front of PostgreSQL."""
    from tests.monitoring.mlflow_server import MlflowServer

    with postgresql() as address:
        server = MlflowServer(folder, address)
        server.start()
        try:
            yield server.uri
        finally:
            server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--lines", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--on", choices=("file", "postgresql", "server"), nargs="*", default=["file", "postgresql", "server"]
    )
    chosen = parser.parse_args()
    for on in chosen.on:
        with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            uri = {
                "file": lambda folder=folder: f"sqlite:///{folder}/mlflow.db",
                "postgresql": lambda: stack.enter_context(postgresql()),
                "server": lambda folder=folder: stack.enter_context(served(folder)),
            }[on]()
            store, recipes = Store.open(folder / "store"), [f"line{number}" for number in range(chosen.lines)]
            began = time.monotonic()
            killed = killed_writers(uri, store, recipes, chosen.writers, chosen.kills, chosen.seed, folder)
            for recipe in recipes:
                check_line(uri, recipe)
            print(
                f"{on}: {chosen.writers} writers, {killed} killed, {len(recipes)} lines of {len(PHASES)} phases in "
                f"{time.monotonic() - began:.0f} s: one run, logged model and version each, aliases right"
            )


if __name__ == "__main__":
    main()
