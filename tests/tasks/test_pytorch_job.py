"""What a node checks before it joins, and how long it waits for the others."""

import subprocess
import sys

import pytest

from k2model.recipe import load_recipe
from tasks.pods import training_pod
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


def test_nodes_wait_as_long_as_the_recipe_says() -> None:
    recipe = load_recipe("k2_8b")
    assert set(rendezvous(recipe).values()) == {3_600} and set(rendezvous(load_recipe("laptop")).values()) == {900}
    assert training_pod(recipe, recipe.phase("sft")).infiniband == 8
