"""What a node checks before it joins, and how long it waits for the others."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from k2model.errors import K2Error
from k2model.recipe import load_recipe
from tasks.pods import check_gpus, training_pod
from tasks.pytorch_job import rendezvous
from tests.smoke import ROOT

#: As a user without capabilities; `limited`: under a limit of 8 MiB.
CHECK = """
import os, resource, sys
from k2model.recipe import load_recipe
from tasks.pods import training_pod
from tasks.pytorch_job import check_pinned_memory
recipe = load_recipe(sys.argv[1])
limit = 8 * 2**20 if sys.argv[2] == "limited" else resource.RLIM_INFINITY
try:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
except (ValueError, PermissionError):
    sys.exit("this user may not raise the limit")
if os.getuid() == 0:
    os.setuid(10_001)  # and with it goes what root may
check_pinned_memory(training_pod(recipe, recipe.phase("pretrain")))
print("fine")
"""


def checked(recipe: str, limit: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHECK, recipe, limit], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_node_that_may_not_pin_memory_says_so_before_nccl_does() -> None:
    done = checked("k2_70b", "limited")
    assert "K2Error: this node lets a pod pin 8.4 MB of memory" in done.stderr and "LimitMEMLOCK" in done.stderr
    assert checked("k2_1b", "limited").stdout == "fine\n", "which has no InfiniBand"


def test_a_node_without_a_limit_joins() -> None:
    done = checked("k2_70b", "unlimited")
    if "may not raise" in done.stderr:
        pytest.skip("only root may raise the limit on the memory that a process pins")
    assert done.stdout == "fine\n", done.stderr


def test_a_pod_that_asked_for_gpus_never_trains_without_them() -> None:
    import torch

    recipe = load_recipe("k2_1b")
    asked = training_pod(recipe, recipe.phase("sft"))
    seen = torch.cuda.device_count()
    with pytest.raises(K2Error, match=rf"sees {seen} of the {seen + 1} GPUs .*--torch-args"):
        check_gpus(replace(asked, gpus=seen + 1))
    check_gpus(replace(asked, gpus=0))


def test_the_task_itself_refuses_cpus_for_gpus() -> None:
    """Before it asks the store or the plan for anything."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    task = "from tasks.training import TRAIN_TASKS; TRAIN_TASKS['sft'].task_function('checkpoint', 'sft', None, {})"
    own = told | {"K2_RECIPE": "k2_1b", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", task], cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    assert "K2Error: torch" in done.stderr and "sees 0 of the 8 GPUs" in done.stderr, done.stderr


def test_nodes_wait_as_long_as_the_recipe_says() -> None:
    recipe = load_recipe("k2_8b")
    assert set(rendezvous(recipe).values()) == {3_600} and set(rendezvous(load_recipe("laptop")).values()) == {900}
    assert training_pod(recipe, recipe.phase("sft")).infiniband == 8
