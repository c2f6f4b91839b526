"""What a cluster is given: the workflows of `K2_RECIPE`, the code they run and the recipe, in one file (`make package`)
or registered with Flyte (`make register`).

    python -m tasks.package --image data=registry/k2-data@sha256:... --image train=... --image eval=...
    python -m tasks.package --register --project k2 --domain production

What could not run is refused before anything is serialized (`tasks.preflight`). On board are `k2model`, `tasks`,
`workflows` and, of a recipe of one's own (`K2_RECIPE=mine.py`), that file alone, as the module `own_recipe`; images
hold only what the project installs. Each pod has in its environment which recipe it loads (`K2_RECIPE`, with
`K2_OVERRIDES`), the digest of what was registered, which `tasks._platform` compares, and where store, tracking server
and S3 are (`k2model.settings.HANDED_ON`). What is serialized is the copy on board, so a recipe that needs more than its
file is refused here: one that imports or reads something beside it, or names places by where the file lies. A recipe
named `package.module:function` is not on board: the images must have that package.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from k2model.errors import for_user, visible
from k2model.recipe import Recipe, chosen_recipe, recipe_digest, recipe_file
from k2model.recipe.cluster import claimed
from k2model.recipe.fields import places
from k2model.settings import eval_data, handed_on, home, recipe_changes, recipe_name
from tasks._temporary import own_temporary_folder
from tasks.preflight import PackageError, chosen_images, named_images, refuse

ROOT = Path(__file__).parents[1]
CODE = ("k2model", "tasks", "workflows")
OWN = "own_recipe"  # the module that a user's file is in a package
SHOWN = 6  # fields in a message


def package(out: Path, images: Mapping[str, str], register: Sequence[str] = ()) -> Recipe:
    """Write the package of the chosen recipe to `out` (.tgz), or register what would be in it where `register` has the
    options of `pyflyte register`; `images` are addresses by the names in `_platform`, in place of the recipe's.

    Raises PackageError.
    """
    recipe = chosen_recipe(recipe_name())
    images = chosen_images(recipe, images)
    settings = handed_on()
    refuse(recipe, images, settings)
    with tempfile.TemporaryDirectory(prefix="k2-package-") as folder:
        board = Path(folder)
        for part in CODE:
            shutil.copytree(ROOT / part, board / part, ignore=shutil.ignore_patterns("__pycache__"))
        environment = chosen_in_pods(recipe, _taken_on_board(recipe_name(), board))
        _check_same(recipe, board, environment)
        pods = environment | settings
        told = [word for name, value in pods.items() for word in ("--env", f"{name}={value}")]
        told += [word for name, image in images.items() for word in ("--image", f"{name}={image}")]
        pyflyte = str(Path(sys.executable).with_name("pyflyte"))
        if register:
            account = ["--service-account", recipe.cluster.service_account]
            command = [pyflyte, "register", *register, *account, "--copy", "all", *told, str(board / "workflows")]
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            command = [pyflyte, "--pkgs", "workflows", "package", "--copy", "all", "--force", "--output", str(out)]
            command += ["--source", str(board), *told]
        done = _run(command, board, environment)
        if done.returncode or not (register or out.exists()):
            doing = "register" if register else "serialize"
            raise PackageError(f"pyflyte cannot {doing} the workflows:\n{done.stdout}{done.stderr}")
    return recipe


def chosen_in_pods(recipe: Recipe, called: str) -> dict[str, str]:
    """What tells a pod which recipe it loads; it is `called` so on board."""
    chosen = {"K2_RECIPE": called, "K2_RECIPE_DIGEST": recipe_digest(recipe)}
    if changes := recipe_changes():
        chosen["K2_OVERRIDES"] = json.dumps(json.loads(changes))  # on one line
    return chosen


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
    options = argparse.ArgumentParser(prog="tasks.package", description="Package or register K2_RECIPE's workflows.")
    options.add_argument("--image", action="append", default=[], metavar="NAME=ADDRESS", help="data, train and eval")
    options.add_argument("--out", type=Path, help="default: $K2_HOME/workflows-RECIPE.tgz")
    options.add_argument("--register", action="store_true", help="with Flyte, which FLYTECTL_CONFIG names")
    options.add_argument("--project", default="k2")
    options.add_argument("--domain", default="development")
    options.add_argument("--version", help="default: of what is registered")
    given = options.parse_args()
    own_temporary_folder()
    register = ["--project", given.project, "--domain", given.domain] if given.register else []
    register += ["--version", given.version] if given.register and given.version else []
    try:
        images = named_images(given.image)
        name = chosen_recipe(recipe_name()).name
        out = given.out or home() / f"workflows-{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}.tgz"
        recipe = package(out.absolute(), images, register)
    except Exception as error:
        if (told := for_user(error)) is None:
            raise
        print(visible(f"{type(told).__name__}: {told}"), file=sys.stderr)
        return 1
    called = f"recipe {recipe.name}, {recipe_digest(recipe)[:12]}"
    where = f"registered in {given.project}-{given.domain}" if register else out
    print(f"{where}  {called}" + ("" if register else "; to register it: make register"))
    if ":" in recipe_name() and recipe_file(recipe_name()) is None:
        print(f"{recipe_name()} is not on board: the images must have that package")
    local = [(field, place) for field, place in places(recipe) if "://" not in place]
    local += [("K2_EVAL_DATA", str(folder)) for folder in (eval_data(),) if folder]
    claims = claimed(recipe.cluster)
    absent = [f"{field} = {place}" for field, place in local if not any(map(Path(place).is_relative_to, claims))]
    if absent:
        print("Images must have these, since no disk that cluster.claims mounts does:", *absent, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
