"""What a cluster is given, `make package`: the workflows of `K2_RECIPE`, the code they run and the recipe, in one file.

    python -m tasks.package --image data=registry/k2-data:1 --image train=registry/k2-train:1

On board are `k2model`, `tasks`, `workflows` and, of a recipe of one's own (`K2_RECIPE=mine.py`), that file alone, as
the module `own_recipe`; images hold only what the project installs. Each pod has in its environment which recipe it
loads (`K2_RECIPE`, with `K2_OVERRIDES`) and the digest of what was registered, which `tasks._platform` compares. What
is serialized is the copy on board, so a recipe that needs more than its file is refused here: one that imports or
reads something beside it, or names places by where the file lies. A recipe named `package.module:function`
is not on board: the images must have that package.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from k2model.errors import K2Error, for_user
from k2model.recipe import Recipe, chosen_recipe, recipe_digest, recipe_file
from k2model.recipe.fields import places
from k2model.settings import home, recipe_changes, recipe_name

ROOT = Path(__file__).parents[1]
CODE = ("k2model", "tasks", "workflows")
OWN = "own_recipe"  # the module that a user's file is in a package
SHOWN = 6  # fields in a message


class PackageError(K2Error):
    """A recipe that would not be the same in a pod, or workflows that cannot be serialized."""


def package(out: Path, images: list[str]) -> Recipe:
    """Write the package of the chosen recipe to `out` (.tgz); `images` are `name=address`, of the names in `_platform`.

    Raises PackageError.
    """
    recipe = chosen_recipe(recipe_name())
    with tempfile.TemporaryDirectory(prefix="k2-package-") as folder:
        board = Path(folder)
        for part in CODE:
            shutil.copytree(ROOT / part, board / part, ignore=shutil.ignore_patterns("__pycache__"))
        environment = {"K2_RECIPE": _taken_on_board(recipe_name(), board), "K2_RECIPE_DIGEST": recipe_digest(recipe)}
        if changes := recipe_changes():
            environment["K2_OVERRIDES"] = json.dumps(json.loads(changes))  # on one line
        _check_same(recipe, board, environment)
        out.parent.mkdir(parents=True, exist_ok=True)
        told = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        asked = [word for image in images for word in ("--image", image)]
        pyflyte = Path(sys.executable).with_name("pyflyte")
        command = [str(pyflyte), "--pkgs", "workflows", "package", "--copy", "all", "--force", "--output", str(out)]
        done = _run([*command, "--source", str(board), *told, *asked], board, environment)
        if done.returncode or not out.exists():
            raise PackageError(f"pyflyte cannot serialize the workflows:\n{done.stdout}{done.stderr}")
    return recipe


def _taken_on_board(name: str, board: Path) -> str:
    """How a pod names the recipe, whose file is copied where it is a user's own."""
    found = recipe_file(name)
    if found is None:
        return name
    file, function = found
    shutil.copyfile(file, board / f"{OWN}.py")
    return f"{OWN}:{function}"


def _check_same(recipe: Recipe, board: Path, environment: dict[str, str]) -> None:
    """Raises PackageError unless the recipe is the same to a process that has nothing but the package."""
    show = "from k2model.cli.main import main; main()"
    chosen = environment | {"K2_RECIPE_DIGEST": ""}
    done = _run([sys.executable, "-c", show, "recipe", "show", "--json"], board, chosen)
    what = f"recipe '{recipe_name()}'"
    remedy = (
        "Put what it needs into the one file, or install it as a package in the images and name the recipe "
        "`package.module:function`"
    )
    if done.returncode:
        raise PackageError(
            f"{what} cannot be made from what is on board of a package, its file alone:\n{done.stderr.strip()}\n"
            f"{remedy}"
        )
    here, there = dict(_leaves(json.loads(json.dumps(asdict(recipe))))), dict(_leaves(json.loads(done.stdout)))
    differing = [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]
    if differing:
        told = [f"{name} = {here.get(name)!r} here, {there.get(name)!r} there" for name in sorted(differing)[:SHOWN]]
        raise PackageError(
            f"{what} is another one on board of a package ({len(differing)} fields differ):\n  "
            + "\n  ".join(told)
            + "\n"
            f"Name data by an address that pods reach (s3://, or a path of a shared disk), not by where the file lies. "
            f"{remedy}"
        )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list) and value:
        rows = value.items() if isinstance(value, dict) else ((_called(one, i), one) for i, one in enumerate(value))
        for name, one in rows:
            yield from _leaves(one, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _called(row: Any, place: int) -> str:
    return str(row.get("name") or place) if isinstance(row, dict) else str(place)


def _run(command: list[str], board: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A process that sees of the project and of its settings only what a pod does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("K2_")}
    paths = {"PYTHONPATH": str(board), "K2_HOME": str(board / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=board, env=kept | paths | environment, capture_output=True, text=True, check=False
    )


def main() -> int:
    """The command line; see this module."""
    options = argparse.ArgumentParser(prog="tasks.package", description="Serialize the workflows of K2_RECIPE.")
    options.add_argument("--image", action="append", default=[], metavar="NAME=ADDRESS", help="data and train")
    options.add_argument("--out", type=Path, help="default: $K2_HOME/workflows-RECIPE.tgz")
    given = options.parse_args()
    try:
        name = chosen_recipe(recipe_name()).name
        out = given.out or home() / f"workflows-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}.tgz"
        recipe = package(out.absolute(), given.image)
    except Exception as error:
        if (told := for_user(error)) is None:
            raise
        print(f"{type(told).__name__}: {told}", file=sys.stderr)
        return 1
    print(
        f"{out}  recipe {recipe.name}, {recipe_digest(recipe)[:12]}; to register it: flytectl register files --archive"
    )
    if ":" in recipe_name() and recipe_file(recipe_name()) is None:
        print(f"{recipe_name()} is not on board: the images must have that package")
    local = [f"{field} = {place}" for field, place in places(recipe) if "://" not in place]
    if local:
        print("Pods look for these on disks of their own:", *local, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
