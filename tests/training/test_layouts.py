"""Every layout trains what one process trains: the same rows give the same losses, in fp32 within 1e-5."""

from pathlib import Path
from typing import Any

import pytest

from k2model.artifacts import ArtifactRef, Store
from k2model.recipe.schema import Recompute
from k2model.training import load_model_state
from tests.training.job import Job, metrics, phase, run, sequences

STEPS = 20
MODEL = {"n_heads": 4, "n_kv_heads": 2}
FOUR_KEY_HEADS = {"n_heads": 4, "n_kv_heads": 4}
ONE_KEY_HEAD = {"n_heads": 4, "n_kv_heads": 1}
ADAMW = {"optimizer_name": "adamw", "precision": "fp32", "steps": STEPS, "z_loss": 1e-3}
MUON = {"optimizer_name": "muon", "precision": "fp32", "steps": STEPS}

TWO: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "data": (ADAMW, MODEL, {}),
    "data in micro-batches": (ADAMW, MODEL, {"micro_batch": 1}),
    "data with recomputation": (ADAMW, MODEL, {"recompute": Recompute.FULL}),
    "zero 1": (ADAMW, MODEL, {"zero_stage": 1}),
    "zero 2 in micro-batches": (ADAMW, MODEL, {"zero_stage": 2, "micro_batch": 1}),
    "zero 3 with recomputation": (ADAMW, MODEL, {"zero_stage": 3, "recompute": Recompute.FULL}),
    "zero 1 offloaded": (ADAMW, MODEL, {"zero_stage": 1, "offload": True}),
    "zero 2 offloaded": (ADAMW, MODEL, {"zero_stage": 2, "offload": True}),
    "zero 3 offloaded": (ADAMW, MODEL, {"zero_stage": 3, "offload": True}),
    "context": (ADAMW, MODEL, {"context": 2}),
    "context, one key head": (ADAMW, ONE_KEY_HEAD, {"context": 2, "recompute": Recompute.FULL}),
    "context and zero 1": (ADAMW, MODEL, {"context": 2, "zero_stage": 1}),
    "context and zero 3": (ADAMW, MODEL, {"context": 2, "zero_stage": 3}),
    "context with Muon": (MUON, MODEL, {"context": 2}),
    "tensor": (ADAMW, MODEL, {"tensor": 2}),
    "tensor and zero 3": (ADAMW, MODEL, {"tensor": 2, "zero_stage": 3, "recompute": Recompute.SELECTIVE}),
    "tensor, zero 1, recomputation": (ADAMW, MODEL, {"tensor": 2, "zero_stage": 1, "recompute": Recompute.FULL}),
}
FOUR: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "data": (ADAMW, MODEL, {}),
    "data 2 x context 2, zero 2": (ADAMW, MODEL, {"context": 2, "zero_stage": 2}),
    "context 4, one key head, zero 3": (ADAMW, ONE_KEY_HEAD, {"context": 4, "zero_stage": 3}),
    "data 2 x tensor 2": (ADAMW, MODEL, {"tensor": 2}),
    "data 2 x tensor 2, zero 1": (ADAMW, MODEL, {"tensor": 2, "zero_stage": 1}),
    "data 2 x tensor 2, zero 2, micro-batches": (ADAMW, MODEL, {"tensor": 2, "zero_stage": 2, "micro_batch": 1}),
    "data 2 x tensor 2, zero 3": (ADAMW, MODEL, {"tensor": 2, "zero_stage": 3}),
    "tensor 2 x context 2, zero 1, recomputation": (
        ADAMW,
        MODEL,
        {"tensor": 2, "context": 2, "zero_stage": 1, "recompute": Recompute.FULL},
    ),
    "tensor 4": (ADAMW, FOUR_KEY_HEADS, {"tensor": 4, "micro_batch": 1}),
    "data 2 x context 2 with Muon": (MUON, MODEL, {"context": 2}),
}


def key(base: dict[str, Any], model: dict[str, Any]) -> str:
    return f"{base['optimizer_name']} {model['n_kv_heads']}"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtifactRef]:
    """What one process trains, by optimizer and number of key heads."""
    cases = {key(base, model): (base, model) for base, model, _ in [*TWO.values(), *FOUR.values()]}
    return {
        name: run({"store": str(tmp_path_factory.mktemp("alone")), "phase": base, "model": model})
        for name, (base, model) in cases.items()
    }


def trained(folder: Path, cases: dict[str, Any], workers: int) -> dict[str, ArtifactRef]:
    """All cases, one after the other in one job."""
    specs = []
    for number, (base, model, layout) in enumerate(cases.values()):
        store = Store.open(folder / f"store-{number}")
        sequences(store, phase(**base))
        specs.append({"store": store.uri, "phase": {**base, **layout}, "model": model})
    return dict(zip(cases, Job(folder / "job", specs, workers=workers).result(), strict=True))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtifactRef]:
    return trained(tmp_path_factory.mktemp("two"), TWO, 2)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArtifactRef]:
    return trained(tmp_path_factory.mktemp("four"), FOUR, 4)


def check(made: ArtifactRef, reference: ArtifactRef, norms: float) -> None:
    """`norms`: tolerance of gradient norms (relative) and weights, coarser under Muon, whose products are in bf16; a
    tenth of it is that of losses."""
    ours, theirs = metrics(made), metrics(reference)
    assert len(ours) == STEPS and made.identity == reference.identity, "the layout bears no identity"
    losses = 0.1 * norms
    assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=losses)
    assert [row["grad_norm"] for row in ours] == pytest.approx([row["grad_norm"] for row in theirs], rel=norms)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["targets"] == other["targets"] and mine["domains"] == pytest.approx(other["domains"], rel=losses)
        if other["parameter_norm"] is not None:
            assert mine["parameter_norm"] == pytest.approx(other["parameter_norm"], rel=0.1 * norms)
            assert mine["update_ratio"] == pytest.approx(other["update_ratio"], rel=1e-3)
    state, expected = load_model_state(made.uri), load_model_state(reference.uri)
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert (tensor - expected[name]).abs().max() < norms, name


@pytest.mark.parametrize("case", TWO)
def test_two_workers_train_what_one_trains(
    case: str, two: dict[str, ArtifactRef], alone: dict[str, ArtifactRef]
) -> None:
    base, model, _ = TWO[case]
    check(two[case], alone[key(base, model)], norms=1e-3 if base is MUON else 1e-4)


@pytest.mark.parametrize("case", FOUR)
def test_four_workers_train_what_one_trains(
    case: str, four: dict[str, ArtifactRef], alone: dict[str, ArtifactRef]
) -> None:
    base, model, _ = FOUR[case]
    check(four[case], alone[key(base, model)], norms=1e-3 if base is MUON else 1e-4)


def test_losses_by_domain_add_up_to_the_loss(alone: dict[str, ArtifactRef]) -> None:
    for row in metrics(alone["adamw 2"]):
        assert set(row["domains"]) == {"prose", "code"}
        low, high = sorted(row["domains"].values())
        assert low <= row["loss"] <= high
