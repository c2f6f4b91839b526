"""What may not go into a package: a recipe that would be another one in a pod. The package itself is made and opened in
tests/workflows/test_own_recipe.py."""

import pytest

from tasks.package import PackageError, package

RECIPE = """
from dataclasses import replace
from pathlib import Path

from k2model.recipe.laptop import smoke


def mine():
    return replace(smoke(), CHANGED)
"""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            'licence=(Path(__file__).parent / "licence.txt").read_text()',
            r"(?s)cannot be made from what is on board of a package, its file alone:.*FileNotFoundError.*licence.txt",
        ),
        (
            "validation=replace(smoke().validation, previous_statistics=__file__)",
            r"another one on board of a package .1 fields differ.:\n  validation.previous_statistics = '.*mine.py' h",
        ),
    ],
)
def test_a_recipe_that_would_be_another_one_there_is_refused(tmp_path, monkeypatch, changed, message):
    (tmp_path / "mine.py").write_text(RECIPE.replace("CHANGED", changed))
    (tmp_path / "licence.txt").write_text("mit")
    monkeypatch.setenv("K2_RECIPE", str(tmp_path / "mine.py"))
    monkeypatch.delenv("K2_OVERRIDES", raising=False)
    with pytest.raises(PackageError, match=message):
        package(tmp_path / "package.tgz", [])
    assert not (tmp_path / "package.tgz").exists()
