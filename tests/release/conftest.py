"""A lifecycle whose exports are real: a tiny random model and a real tokenizer in each phase."""

from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store, make
from k2model.artifacts.result import LifecycleResult
from k2model.documents.markup import SPECIAL_TOKENS
from k2model.recipe.schema import ModelConfig, PhaseConfig
from k2model.release import release_step
from tests.reporting.lifecycle_fixture import EFFORTS, build_lifecycle, short_recipe

VOCABULARY = len(SPECIAL_TOKENS) + 256
TINY = ModelConfig(
    vocab_size=VOCABULARY, hidden_size=16, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, ffn_size=24, init_std=0.2
)


def write_tokenizer(folder: Path) -> None:
    from k2model.tokens.bpe import learn, write

    write(learn(["the rivers are quiet"], VOCABULARY), folder)


def tiny_lifecycle(store: Store, tokenizer: Path) -> LifecycleResult:
    """All artifacts, with a tiny model; weights differ between phases and are the same in every store."""
    import torch

    from k2model.export.step import write_export
    from k2model.model.transformer import K2Model
    from k2model.training.checkpoint import InMemory

    recipe = replace(short_recipe(), model=TINY)

    def export(folder: Path, phase: PhaseConfig) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.phases.index(phase))
            model = K2Model(TINY, phase.rope_theta, phase.sequence_length)
        efforts = EFFORTS if phase.name == "sft" else ()
        length = recipe.trained_length(phase.name)
        state = InMemory(model.state_dict())
        write_export(folder, state, TINY, phase, tokenizer, trained_length=length, efforts=efforts)

    return build_lifecycle(store, recipe, export, write_tokenizer)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store.open(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def result(store: Store, tokenizer_folder: Path) -> LifecycleResult:
    return tiny_lifecycle(store, tokenizer_folder)


@pytest.fixture(scope="session")
def bundle(store: Store, result: LifecycleResult) -> Path:
    """The release as it lies in the store: read-only for tests."""
    return store.fetch(make(store, release_step(store, result)))
