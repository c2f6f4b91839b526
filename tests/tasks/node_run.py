"""One node of a job of several, as the training operator starts it: the Flyte task of a phase in a process of its own,
on a machine of its own (`tests.netns`)."""

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

from tests.netns import INTERFACE, Network
from tests.training.job import MODEL, Spec, phase, slowed

PORT = 29400
SHUTDOWN_SECONDS = 3  # from SIGTERM to SIGKILL of a worker: one that waits for a lost node in C hears nothing


class Node:
    """`spec`: store, phase (changes), pause (seconds a step). Its folder has `stderr.txt` and `outcome.json`."""

    def __init__(self, net: Network, node: int, nodes: int, folder: Path, spec: Spec, **settings: Any) -> None:
        self.net, self.node, self.folder = net, node, folder
        folder.mkdir(parents=True)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["k2model.training.attempt", "torch.distributed.launcher.api", "tests.training.job", __name__]
        )
        self.process = context.Process(target=_run, args=(net, node, nodes, str(folder), spec, settings))
        self.process.start()

    def outcome(self, timeout: float) -> dict[str, Any]:
        """What it `made` (None without rank 0), or the `error` that ended it. Raises AssertionError after `timeout`
        seconds."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running, see {self.folder}"
        assert self.process.exitcode == 0, (self.folder / "stderr.txt").read_text()[-3000:]
        found: dict[str, Any] = json.loads((self.folder / "outcome.json").read_text())
        return found


def _run(net: Network, node: int, nodes: int, folder: str, spec: Spec, settings: dict[str, Any]) -> None:
    os.setsid()
    net.enter(node)
    said = os.open(Path(folder, "stderr.txt"), os.O_CREAT | os.O_WRONLY)
    os.dup2(said, 2)
    home = Path(folder, "home")
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("K2_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ |= {
        "K2_RECIPE": "smoke",
        "K2_OVERRIDES": json.dumps(
            {
                "phases.pretrain.parallelism": {"nodes": nodes, "workers_per_node": 1},
                "phases.pretrain.global_batch": 4 * nodes,  # of the row that the job is sized by
            }
        ),
        "K2_HOME": str(home),
        "HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
    }
    if nodes > 1:  # what the operator says, and the pod template
        os.environ |= {
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": "1",
            "PET_NODE_RANK": str(node),
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": f"{net.names[0]}:{PORT}",
            "GLOO_SOCKET_IFNAME": INTERFACE,
        }
    from k2model.training import rendezvous

    for name, value in settings.items():
        assert hasattr(rendezvous, name)
        setattr(rendezvous, name, value)
    Path(folder, "outcome.json").write_text(json.dumps(_outcome(spec)))


def _outcome(spec: Spec) -> dict[str, Any]:
    from dataclasses import replace

    from flytekit.exceptions.user import FlyteRecoverableException
    from flytekit.extend import IgnoreOutputs

    from k2model.artifacts import ArtifactRef
    from k2model.lifecycle import LifecyclePlan
    from k2model.recipe.laptop import smoke
    from tasks.training import TRAIN_TASKS

    recipe = replace(smoke(), model=MODEL, phases=(phase(**spec["phase"]),))
    inputs = {"sequences": ArtifactRef(**spec["rows"])}
    try:
        with slowed(spec.get("pause", 0.0)):  # workers are forked and inherit it
            made = TRAIN_TASKS["pretrain"](
                step="checkpoint", phase="pretrain", plan=LifecyclePlan(recipe, spec["store"]), inputs=inputs
            )
        return {"made": vars(made)}
    except IgnoreOutputs:  # of a node without rank 0
        return {"made": None}
    except Exception as error:
        return {"error": str(error), "recoverable": isinstance(error, FlyteRecoverableException)}
