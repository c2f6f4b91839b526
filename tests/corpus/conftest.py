"""One tiny corpus for the whole folder, built once."""

from pathlib import Path

import pytest

from tests.corpus import tiny


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    tiny.build(folder)
    return folder
