"""Why a step runs, field by field."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from k2model.artifacts import Difference, Identity, Store, differences, nearest_record
from k2model.recipe.laptop import laptop
from k2model.recipe.schema import CheckpointConfig, MixtureEntry, PhaseConfig
from tests.artifacts.samples import write_corpus

PRETRAIN, MID_1 = laptop().phases[:2]


def identity(phase: PhaseConfig, version: str = "1", **inputs: Any) -> Identity:
    return Identity("checkpoint", version, {"phase": phase}, inputs)


def explain(wanted: Identity, store: Store) -> list[Difference] | None:
    """None when nothing like it was ever made."""
    near = nearest_record(wanted, store.records(wanted.step))
    return differences(wanted, near) if near else None


def test_names_the_changed_field(store: Store) -> None:
    store.build(identity(MID_1), write_corpus)
    changed = replace(MID_1, optimizer=replace(MID_1.optimizer, lr=1e-5))
    assert explain(identity(changed), store) == [("phase.optimizer.lr", 4e-3, 1e-5)]


def test_nothing_to_say_about_what_was_made_or_never_made(store: Store) -> None:
    assert explain(identity(MID_1), store) is None
    store.build(identity(MID_1), write_corpus)
    assert explain(identity(MID_1), store) == []
    assert explain(identity(replace(MID_1, checkpoints=CheckpointConfig(save_every=1))), store) == [], (
        "hardware is no reason"
    )


def test_compares_within_the_same_phase(store: Store) -> None:
    store.build(identity(MID_1), write_corpus)
    store.build(identity(PRETRAIN), write_corpus)  # the latest, but of another phase
    assert explain(identity(replace(MID_1, seed=7)), store) == [("phase.seed", 0, 7)]
    assert explain(identity(replace(laptop().phases[2], seed=7)), store) is None


def test_compares_with_the_latest(store: Store) -> None:
    for seed in (1, 2, 3):
        store.build(identity(replace(MID_1, seed=seed)), write_corpus)
    assert explain(identity(replace(MID_1, seed=9)), store) == [("phase.seed", 3, 9)]


def test_versions_inputs_and_lists(store: Store, tmp_path: Path) -> None:
    def write_other(folder: Path) -> dict[str, float]:
        (folder / "x").write_text("x")
        return {}

    rows = store.build(Identity("sequences", "1", {"seed": 1}), write_corpus)
    others = store.build(Identity("sequences", "1", {"seed": 2}), write_other)
    one = replace(PRETRAIN, mixture=(MixtureEntry("prose", 1.0),))
    two = replace(PRETRAIN, mixture=(MixtureEntry("prose", 1), MixtureEntry("code", 2.0)))
    store.build(identity(one, sequences=rows), write_corpus)
    assert explain(identity(two, "2", sequences=others), store) == [
        ("inputs.sequences", rows.digest, others.digest),
        ("phase.mixture.code", None, {"source": "code", "weight": 2.0, "epochs": 0.0, "copies": 0, "bucket": ""}),
        ("phase.mixture.prose.weight", 1.0, 1),  # an int is another value than a float
        ("version", "1", "2"),
    ]


def test_rows_go_by_name_and_their_order_is_told(store: Store) -> None:
    def mixed(*entries: MixtureEntry) -> Identity:
        return identity(replace(PRETRAIN, mixture=entries))

    prose, code, twice = MixtureEntry("prose", 1.0), MixtureEntry("code", 2.0), MixtureEntry("code", 3.0, bucket="2+")
    store.build(mixed(prose, code), write_corpus)
    assert explain(mixed(twice, prose, code), store) == [
        ("phase.mixture.code[2+]", None, {"source": "code", "weight": 3.0, "epochs": 0.0, "copies": 0, "bucket": "2+"})
    ]
    assert explain(mixed(code, prose), store) == [("the order of phase.mixture", "prose, code", "code, prose")]


def test_an_input_is_compared_by_what_it_takes_the_place_of(store: Store) -> None:
    rows = store.build(Identity("sequences", "1", {}), write_corpus)
    store.build(identity(MID_1, sequences=rows), write_corpus)
    later = identity(replace(MID_1, seed=1), sequences=replace(rows, digest="0" * 64))
    near = nearest_record(later, store.records("checkpoint"), {"sequences": rows.digest})
    assert near and differences(later, near, {"sequences": rows.digest}) == [("phase.seed", 0, 1)]


def test_survives_the_loss_of_the_artifact(store: Store) -> None:
    import shutil

    ref = store.build(identity(MID_1), write_corpus)
    shutil.rmtree(ref.uri)
    assert explain(identity(replace(MID_1, steps=1)), store) == [("phase.steps", MID_1.steps, 1)]
