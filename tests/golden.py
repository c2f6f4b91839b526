"""What the `smoke` recipe makes, kept in `golden.json`: a refactor proves by it that nothing moved.

    make golden        # run the recipe and write the file anew, after a change that is meant

For each step the file has its version, a fingerprint of its settings, the digests of its inputs and of what it made;
and the loss curve of each phase. Settings and losses can be compared anywhere. Digests of data depend on the text of
Python's own library, so they are compared where Python and the libraries are those of the file; weights depend on the
processor's arithmetic too, so they are compared bit for bit on the same processor and as losses elsewhere.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from k2model.artifacts import Store, fingerprint
from k2model.lifecycle.plan import decide
from k2model.lifecycle.steps import RunsOn, rows
from k2model.recipe import load_recipe

FILE = Path(__file__).with_name("golden.json")
LIBRARIES = ("pyarrow", "numpy", "duckdb", "tokenizers", "great-expectations", "py3langid")
TOLERANCE = 0.02  # of a loss, relative, on a processor that sums in another order
SHOWN = 16  # digits of a digest


def snapshot(home: Path) -> dict[str, Any]:
    """Everything that is compared, of a finished `smoke` lifecycle below `home`."""
    store, recipe = Store.open(home / "store"), load_recipe("smoke")
    steps: dict[str, Any] = {}
    losses: dict[str, list[float]] = {}
    for decision, reference in decide(store, recipe, list(rows(recipe))):
        record = next(r for r in store.records(decision.step) if r["identity"] == reference.identity)
        settings = {name: value for name, value in record["config"].items() if (decision.step, name) != SOURCES}
        steps[decision.name] = {
            "version": record["version"],
            "settings": fingerprint(settings)[:SHOWN],
            "inputs": {name: one["digest"][:SHOWN] for name, one in record["inputs"].items()},
            "digest": record["digest"][:SHOWN],
        }
        if decision.step == "checkpoint":
            lines = (Path(reference.uri) / "attachments" / "metrics.jsonl").read_text().splitlines()
            losses[decision.name.split("/")[0]] = [json.loads(line)["loss"] for line in lines]
    return {"libraries": libraries(), "processor": processor(), "steps": steps, "losses": losses}


SOURCES = ("corpus_raw", "sources")  # versions of Python's library and of data packages: not settings


def libraries() -> dict[str, str]:
    """What the bytes of data depend on beside the project."""
    from k2model.ingest import source_versions

    return source_versions() | {name: version(name) for name in LIBRARIES}


def processor() -> str:
    """What the bits of weights depend on beside the project and its libraries."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = [line.split(":")[1].strip() for line in lines if line.startswith(("model name", "cpu family", "model\t"))]
    return " ".join([torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine(), *model[:3]])


def differences(golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs and must not, a line each."""
    if list(golden["steps"]) != list(found["steps"]):
        return [f"the table of steps gives {list(found['steps'])} for {list(golden['steps'])}"]
    said = []
    computed = {row.name for row, _ in rows(load_recipe("smoke")) if row.runs_on is not RunsOn.DATA}
    computed |= {"items_seen", "safety", "report", "release"}  # they are of weights, answers and scores
    for name, was in golden["steps"].items():
        now, exact = found["steps"][name], golden["libraries"] == found["libraries"]
        if name.split("/")[-1] in computed:
            exact = exact and golden["processor"] == found["processor"]
        compared = ("version", "settings", "inputs", "digest") if exact else ("version", "settings")
        said += [f"{name}: {field} {was[field]} -> {now[field]}" for field in compared if was[field] != now[field]]
    for phase, curve in golden["losses"].items():
        same = golden["processor"] == found["processor"] and golden["libraries"] == found["libraries"]
        bound = 0.0 if same else TOLERANCE
        far = [abs(a - b) > bound * abs(a) for a, b in zip(curve, found["losses"][phase], strict=True)]
        if any(far):
            said.append(f"{phase}: loss at step {far.index(True) + 1} {curve} -> {found['losses'][phase]}")
    return said


def unversioned(golden: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Steps that make something else of equal inputs and settings, and have the version they had."""
    if (golden["libraries"], golden["processor"]) != (found["libraries"], found["processor"]):
        return []
    same = ("version", "settings", "inputs")
    return [
        name
        for name, was in golden["steps"].items()
        if (now := found["steps"].get(name))
        and was["digest"] != now["digest"]
        and all(was[field] == now[field] for field in same)
    ]


def write(found: Mapping[str, Any], file: Path = FILE) -> None:
    """Write the file anew. Ends the program when a step has changed what it makes and not its version."""
    forgotten = unversioned(json.loads(file.read_text()), found) if file.exists() else []
    if forgotten:
        sys.exit(
            f"{', '.join(forgotten)}: other bytes of equal inputs and settings. Users' stores would keep the old ones: "
            "raise the step's version in k2model/versions.py, then write the file again"
        )
    file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    from tests.smoke import lifecycle

    with tempfile.TemporaryDirectory() as folder:
        result = lifecycle(Path(folder))
        if result.returncode:
            sys.exit(result.stdout[-2000:] + result.stderr[-4000:])
        made = snapshot(Path(folder))
    for line in differences(json.loads(FILE.read_text()), made) if FILE.exists() else []:
        print(line)
    write(made)
