"""What several files of tests look at, made once."""

import pytest

from k2model.continual.batches import Manifest
from tests.continual.arrivals import Line, dialogue, heldout_items, made_line, riddles, sums


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    return made_line(tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="session")
def good(line: Line) -> Manifest:
    """More of the same, with an item of the corpus and one of a benchmark of the recipe's own."""
    leaked = (heldout_items(line)[0], riddles()[0])
    asked = [dialogue(one["prompt"], one["answer"], key=f"mine {one['prompt']}") for one in leaked]
    return line.add("good", [*sums(238, 400), *asked], covers=("2026-11-01", "2026-11-02"), verifier="arithmetic")
