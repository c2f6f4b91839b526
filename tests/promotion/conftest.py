"""One store with the models of several lifecycles for all tests of the folder; each begins its ledger anew."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.continual.small_line import SUMS
from tests.promotion.lifecycles import Home, Trained
from tests.registry.conftest import tracking_uri  # noqa: F401  a fixture


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, dict[str, Trained]]:
    home = Home.at(tmp_path_factory.mktemp("lifecycles"))
    items = [asked for asked, _ in SUMS]
    return home, {
        "good": home.trained(1, True),
        "other": home.trained(2, True),
        "ruined": home.trained(3, False),
        "dirty": home.trained(4, True, git={"commit": "d" * 40, "dirty": True}),
        "outside": home.trained(5, True, git=None),
        "told": home.trained(6, True, seen=items),
        "told some": home.trained(7, True, seen=items[:2]),
    }


@pytest.fixture(scope="session")
def trained(_made: tuple[Home, dict[str, Trained]]) -> dict[str, Trained]:
    """Models that know their sums, and `ruined` ones that know nothing."""
    return _made[1]


@pytest.fixture
def home(_made: tuple[Home, dict[str, Trained]]) -> Iterator[Home]:
    yield _made[0]
    shutil.rmtree(Path(_made[0].store.uri) / "_continual", ignore_errors=True)
