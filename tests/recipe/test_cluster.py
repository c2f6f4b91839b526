"""What a recipe may say of a cluster."""

import pytest

from k2model.recipe import load_recipe
from k2model.recipe.validate import RecipeError


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cluster.part.memory_gib": 0}, r"cluster.part.memory_gib=0 must be at least 1"),
        ({"cluster.training_retries": -1}, r"cluster.training_retries=-1 must be a number, 0 or above"),
        ({"cluster.failures_per_gpu_day": "nan"}, r"cluster.failures_per_gpu_day=nan must be a number, 0 or above"),
        ({"cluster.price_per_gpu_hour": "inf"}, r"cluster.price_per_gpu_hour=inf must be a number, 0 or above"),
        ({"cluster.user": 0}, r"cluster.user=0 is root"),
        ({"cluster.gpu_nodes": ["h200"]}, r"cluster.gpu_nodes has 'h200', expected label=value"),
        ({"cluster.environment": ["NCCL_DEBUG"]}, r"cluster.environment has 'NCCL_DEBUG', expected NAME=value"),
        (
            {"cluster.sandbox_profile": "/etc/k2.json"},
            r"sandbox_profile='/etc/k2.json' must be a path below",
        ),
        ({"cluster.sandbox_profile": "a/../../k2.json"}, r"sandbox_profile='a/../../k2.json' must be a path below"),
        ({"cluster.claims": ["datasets"]}, r"cluster.claims has 'datasets', expected the name of a claim and a path"),
        ({"cluster.claims": ["datasets=/a/../b"]}, r"has 'datasets=/a/../b', expected the name of a claim and a path"),
        ({"cluster.claims": ["datasets=/tmp/data"]}, r"has 'datasets=/tmp/data', and a pod has something else at /tmp"),
        ({"cluster.claims": ["a=/data", "b=/data/b"]}, r"has 'a=/data', and a pod has something else at /data/b"),
        ({"cluster.claims": ["a=/data", "b=/data"]}, r"has two claims at one path"),
        ({"cluster.system_cpus": 96}, r"cluster.cpus_per_node=96 less cluster.system_cpus=96 leaves nothing for a pod"),
        ({"cluster.memory_gib_per_node": 0}, r"cluster.memory_gib_per_node=0 less .*; say what a node with GPUs has"),
        (
            {"phases.sft.parallelism.workers_per_node": 16},
            r"phases.sft.parallelism.workers_per_node=16, .* a GPU of",
        ),
        ({"phases.sft.parallelism.workers_per_node": 4}, r"workers_per_node=4, and a node has cluster.gpus_per_node=8"),
        ({"cluster.shared_memory_gib": 1_650}, r"cluster.shared_memory_gib=1650 is as much as a pod's memory"),
    ],
)
def test_what_no_pod_can_be_made_of_is_refused(changed: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("k2_70b", changed)


def test_a_pod_never_asks_for_a_whole_node() -> None:
    cluster = load_recipe("k2_70b").cluster
    assert (cluster.gpu_pod.cpus, cluster.gpu_pod.memory_gib) == (88, 1_650)
    assert (cluster.cpus_per_node, cluster.memory_gib_per_node) == (96, 1_850)
