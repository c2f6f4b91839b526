"""The same weights, which have learnt a few sums by heart, in every kind of backend, in fp32."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k2model.evals.backends import EndpointModel, OwnModel, TransformersModel
from k2model.export import load_exported
from k2model.export.step import write_export
from k2model.synthesis.config import EndpointConfig
from k2model.tokens import K2Tokenizer
from k2model.training.checkpoint import InMemory
from tests.evals.backends.server import Served, serving
from tests.evals.conftest import MODEL, World

ROOM = 4_096  # positions: a real item with its shots is up to this many bytes


@pytest.fixture(scope="session")
def folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the learnt model with room for real items."""
    folder = tmp_path_factory.mktemp("export")
    phase = replace(world.phase, sequence_length=ROOM)
    write_export(folder, InMemory(world.model.state_dict()), MODEL, phase, world.tokenizer)
    return folder


@pytest.fixture(scope="session")
def own(folder: Path) -> OwnModel:
    return OwnModel(load_exported(folder), K2Tokenizer.load(folder), "own", torch.float32)


@pytest.fixture(scope="session")
def transformers_model(folder: Path) -> TransformersModel:
    return TransformersModel(folder)


@pytest.fixture(scope="session")
def served(own: OwnModel) -> Iterator[Served]:
    with serving(Served(own)) as server:
        yield server


def config_of(served: Served, **changed: object) -> EndpointConfig:
    settings = {"concurrency": 4, "backoff_seconds": 0.01, "timeout_seconds": 20.0, **changed}
    return EndpointConfig(base_url=served.url, model="tiny", **settings)


@pytest.fixture(scope="session")
def endpoint(served: Served) -> Iterator[EndpointModel]:
    with EndpointModel(config_of(served)) as model:
        yield model
