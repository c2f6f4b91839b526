"""The rules of the house that can be read off the sources: which way imports point, and the size of a file.

`python tests/test_house.py` tells what breaks them (`make check`).
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: From the bottom up, as in docs/architecture.md: a room imports itself and those before it.
ROOMS = (
    "k2model", "settings", "errors", "units", "plain", "versions", "recipe", "artifacts", "documents", "sandbox",
    "synthesis", "ingest", "curation", "tokens", "planning", "validation", "model", "training", "export", "generation",
    "judges", "evals", "safety", "registry", "monitoring", "reporting", "release", "pages", "lifecycle", "continual",
    "promotion", "inspect", "cli", "tasks", "workflows", "infra",
)  # fmt: skip

SMALLEST, LARGEST = 40, 350  # lines of a file, but for packages' `__init__.py`

#: Files of another size, and why.
SIZED = {
    "k2model/documents/counts.py": "one class that whatever counts documents shares",
    "k2model/recipe/counts.py": "of a model alone, so that rooms which know no layout can count it",
    "k2model/monitoring/watch.py": "what settings choose from, so that neither is imported until it is wanted",
    "infra/base/services/probe.py": "it runs alone in a pod of MLflow's",
    "k2model/evals/graders/mathematics.py": "a grader is one file",
    "k2model/ingest/synthesised.py": "one of the readers of sources, each a file",
    "k2model/judges/kept.py": "what judges and their answers share",
    "k2model/reporting/templates.py": "the one way to fill a page, which three rooms share",
    "k2model/curation/texts.py": "one class: the arrays of a batch of texts",
    "k2model/recipe/schema.py": "one page of types that people read from top to bottom",
    "k2model/artifacts/files.py": "the border to storage: the same operations on a folder and an object store",
    "k2model/artifacts/store.py": "one class",
    "k2model/lifecycle/steps.py": "the one table of steps, with how each is built",
    "k2model/documents/families/spelling.py": "a task family is one file",
    "workflows/data.py": "a workflow is a file that people run",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the pipeline by its dotted name."""
    found = {}
    for top in ("k2model", "tasks", "workflows", "infra"):
        for path in (ROOT / top).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str) -> Iterator[str]:
    """The modules that one names, wherever in it: at its top, in a function, for its types, or lazily."""
    package = modules()[name].name == "__init__.py"
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{name} imports by dots"
            for one in node.names:
                yield whole if (whole := f"{node.module}.{one.name}") in modules() else node.module
        elif package and isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy_exports":
            yield from (f"{name}.{module}" for module in ast.literal_eval(node.args[1]).values())


def own_imports() -> dict[str, set[str]]:
    """The same for every module, of our own modules alone."""
    return {name: {found for found in imports(name) if found in modules() and found != name} for name in modules()}


def room_of(name: str) -> str:
    top, _, rest = name.partition(".")
    return rest.partition(".")[0] if top == "k2model" and rest else top


def upward(named: Mapping[str, set[str]]) -> list[str]:
    """Imports that point the wrong way."""
    above = {room: set(ROOMS[place + 1 :]) for place, room in enumerate(ROOMS)}
    return sorted(
        f"{name} imports {found}" for name, those in named.items() for found in those
        if room_of(found) in above[room_of(name)]
    )  # fmt: skip


def circles(named: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other, by whatever way round."""
    left = {name: set(those) for name, those in named.items()}
    while free := [name for name, those in left.items() if not those & left.keys()]:
        for name in free:
            del left[name]
    # What is left lies on a circle or above one; what nobody on the left imports is above.
    while free := [name for name in left if not any(name in those for those in left.values())]:
        for name in free:
            del left[name]
    return sorted(left)


def wrong_sizes(lines: Mapping[str, int]) -> list[str]:
    """Files that are too small or too large and not listed as such, and files that are listed in vain."""
    odd = {
        path: count for path, count in lines.items()
        if count > LARGEST or (count < SMALLEST and not path.endswith("__init__.py"))
    }  # fmt: skip
    said = [f"{path} has {odd[path]} lines, expected {SMALLEST} to {LARGEST}" for path in sorted(odd.keys() - SIZED)]
    return said + [f"{path} is listed in SIZED, and is not too small or large" for path in sorted(SIZED.keys() - odd)]


def sizes() -> dict[str, int]:
    return {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules().values()
    }


def test_every_room_has_its_place() -> None:
    assert {room_of(name) for name in modules()} == set(ROOMS)


def test_the_architecture_lists_the_rooms_in_this_order() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert ", ".join(f"`{room}`" for room in ROOMS[1:]) in " ".join(text.split())


def test_imports_point_one_way() -> None:
    assert upward(own_imports()) == []
    assert upward({"k2model.tokens.rows": {"k2model.evals.step"}}) == ["k2model.tokens.rows imports k2model.evals.step"]


def test_the_library_knows_no_orchestrator() -> None:
    tops = {
        name: {found.partition(".")[0] for found in imports(name)} for name in modules() if room_of(name) != "tasks"
    }
    assert [name for name, those in tops.items() if name.startswith("k2model") and "flytekit" in those] == []


#: Who opens Parquet: the reader of tables, and those of files that no step has written.
OPENS_PARQUET = {
    "k2model.documents.tables", "k2model.documents.benchmarks", "k2model.ingest.columnar", "k2model.inspect.artifact",
    "k2model.synthesis.behaviours", "k2model.evals.harness.data", "k2model.validation.documents.part",
}  # fmt: skip
_OPENS = re.compile(r"\b(pq|parquet)\.(read_\w+|Parquet(File|Dataset))\(|\b(ds|dataset)\.dataset\(")


def test_tables_are_read_by_the_one_reader() -> None:
    """It holds them against the schema that is asked for; pyarrow leaves out what is not there."""
    found = {name for name, path in modules().items() if _OPENS.search(path.read_text(encoding="utf-8"))}
    assert found == OPENS_PARQUET


def test_no_files_import_each_other() -> None:
    assert circles(own_imports()) == []
    assert circles({"top": {"a"}, "a": {"b"}, "b": {"a", "c"}, "c": set()}) == ["a", "b"]


def test_sizes_are_told_but_for_those_with_a_reason() -> None:
    listed = dict.fromkeys(SIZED, SMALLEST - 1)
    assert wrong_sizes(listed | {"k2model/x.py": 39, "k2model/a/__init__.py": 3}) == [
        "k2model/x.py has 39 lines, expected 40 to 350"
    ]
    told = next(iter(SIZED))
    assert wrong_sizes(listed | {told: 99})[0].startswith(f"{told} is listed")


def main() -> int:
    """Tell what breaks the rules: imports that do are an error, sizes are something to think about."""
    broken = upward(own_imports()) + [f"{name} is on a circle of imports" for name in circles(own_imports())]
    print(*broken, *wrong_sizes(sizes()), sep="\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
