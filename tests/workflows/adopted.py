"""Recipes that begin with somebody else's model, and a lifecycle made row by row in this process."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from k2model.artifacts import ArtifactRef, Store, make
from k2model.artifacts.result import LifecycleResult
from k2model.lifecycle.steps import Work, full_name, inputs_of, rows
from k2model.recipe import Recipe
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.laptop import smoke
from k2model.recipe.safety import SafetyConfig
from k2model.recipe.schema import (
    AdoptedModel,
    CorpusConfig,
    FieldMapping,
    MixtureEntry,
    ModelConfig,
    OptimizerConfig,
    OptimizerName,
    Parallelism,
    SourceConfig,
)
from k2model.recipe.validate import validate_recipe

STEPS = 3


def write_sources(home: Path) -> Path:
    """Notes and chats of a gardener's."""
    rng = Random(0)
    words = [f"w{n}" for n in range(400)]
    notes = [" ".join(rng.choice(words) + " of the" for _ in range(40)) for _ in range(60)]
    talks = [[{"role": "user", "content": f"Where grows {rng.choice(words)} {n}?"},
              {"role": "assistant", "content": f"Behind the {rng.choice(words)}."}] for n in range(60)]  # fmt: skip
    (home / "notes.jsonl").write_text("".join(json.dumps({"text": note}) + "\n" for note in notes))
    (home / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    return home


def recipe(home: Path, model: ModelConfig, adopted: AdoptedModel, *kinds: str, **changed: Any) -> Recipe:
    """One phase after the other, of the kinds `sft` or `mid_1`, each from the one before, the first from `adopted`."""
    base = smoke()
    text = SourceConfig("notes", location=str(home / "notes.jsonl"), domain="prose", licence="CC0-1.0", heldout=0.1)
    chats = SourceConfig(
        "talks", location=str(home / "talks.jsonl"), domain="chat", licence="CC0-1.0", heldout=0.1,
        fields=FieldMapping(text="", messages="messages"),
    )  # fmt: skip
    phases, parent = [], adopted.name
    for kind in kinds:
        phase = replace(
            base.phase(kind),
            parent=parent,
            steps=STEPS,
            rope_theta=adopted.rope_theta,
            mixture=(MixtureEntry("talks" if kind == "sft" else "notes", 1.0),),
            optimizer=OptimizerConfig(OptimizerName.ADAMW, lr=1e-3),
            schedule=replace(base.phase(kind).schedule, warmup_steps=0),
            parallelism=Parallelism(workers_per_node=1),
            keep_optimizer_state=adopted.training_state,
            mixing=replace(base.phase(kind).mixing, min_short=0.0),  # the notes are a little longer than a row
        )
        phases.append(phase)
        parent = kind
    made = replace(
        base,
        name="garden",
        model=model,
        corpus=CorpusConfig(sources=(text, chats), heldout_items=8),
        tokenizer=replace(base.tokenizer, vocab_size=model.vocab_size),
        validation=replace(base.validation, min_documents_per_source=5, max_epochs=500.0),
        phases=tuple(phases),
        evaluation=replace(base.evaluation, families=()),
        safety=SafetyConfig(),
        continual=ContinualConfig(),
        gates=(),
        notes=(),
        adopted=(adopted,),
        **changed,
    )
    validate_recipe(made)
    return made


def lifecycle(store: Store, whole: Recipe) -> LifecycleResult:
    """Every step of the table, made in this process."""
    made: dict[str, ArtifactRef] = {}
    for row, owner in rows(whole):
        reference = make(store, row.build(Work(store, whole, owner, inputs_of(row, owner, made))))
        if not row.guards:
            made[full_name(row, owner)] = reference
    return LifecycleResult(whole, made)
