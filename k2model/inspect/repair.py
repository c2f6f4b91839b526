"""What a fault costs, what to do about it, and the repair: what is damaged is moved aside, never removed.

    _damaged/0001/faults.json           what was found, and what was moved from where
    _damaged/0001/<step>/<key[:16]>/    as it lay in the store

An artifact without its folder counts as not made, so the next run makes it anew, of the same digest, and all that was
made from it stays as it is. A record and a ledger's entry say the same: the one that is missing or damaged is written
from the other, and the artifact stays. On disk a folder moves by one rename; on an object store files are copied, then
removed, the manifest first, so that an artifact which is gone by half never counts.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from k2model.artifacts.files import Files, LocalFiles, files_at, writing
from k2model.artifacts.lease import Lease
from k2model.artifacts.manifest import MANIFEST, RECORD
from k2model.artifacts.outside import inside
from k2model.artifacts.owner import MADE
from k2model.artifacts.places import PARTS, RECORDS
from k2model.artifacts.record import record_to_json
from k2model.inspect.check import Checked
from k2model.inspect.inventory import LEDGER, SAME, Fault, Inventory, Known
from k2model.settings import store_uri
from k2model.units import whole_number

DAMAGED = "_damaged"
WHOLE = ("bytes", "manifest", "link", "place")  # kinds of faults for which an artifact is moved as a whole


@dataclass(frozen=True)
class Cost:
    """Of the faults of one artifact: what was made from it or links to it, in the store; how long its step took
    (seconds, None where nobody knows); what to do; the command that makes it anew, "" where none does."""

    artifact: str
    faults: tuple[Fault, ...]
    dependents: tuple[str, ...]
    seconds: float | None
    remedy: str
    command: str


def costs(checked: Checked) -> list[Cost]:
    """The faults by artifact, with what they cost."""
    by_artifact = groupby(sorted(checked.faults, key=lambda fault: fault.artifact), lambda fault: fault.artifact)
    return [_cost(checked, name, tuple(faults)) for name, faults in by_artifact]


def _cost(checked: Checked, name: str, faults: tuple[Fault, ...]) -> Cost:
    inventory = checked.inventory
    one = inventory.known.get(name)
    dependents = dict.fromkeys([*sorted(checked.links.get(name, ())), *inventory.dependents(name)])
    told = (one.told if one else None) or {}
    seconds = told.get("provenance", {}).get("seconds")
    remedy, anew = _remedy(inventory, one, {fault.kind for fault in faults})
    command = _command(inventory, name, told) if anew else ""
    return Cost(name, faults, tuple(dependents), seconds if anew else None, remedy, command)


def _remedy(inventory: Inventory, one: Known | None, kinds: set[str]) -> tuple[str, bool]:
    """What to do, and whether a run has to make the artifact anew for it."""
    if one is None:
        if kinds == {"line"}:
            return "nothing can make it anew: bring it back from a copy of the store (docs/operations.md)", False
        return "`k2 check --repair` moves it aside", False
    if "lost" in kinds:
        return "run again, or leave it if it was removed on purpose (`k2 check --without-lost`)", True
    if kinds & {*WHOLE} or _both_are_needed(one, kinds):
        return "`k2 check --repair` moves it aside; run again", True
    if kinds & {"record", "ledger", "disagreement"}:
        good = "ledger's entry" if "record" in kinds else "artifact's record"
        return (
            f"`k2 check --repair` writes it from the {good}, which agrees with the manifest; nothing is made anew",
            False,
        )
    if "part" in kinds:
        return "`k2 check --repair` moves the part aside; run again, which makes what is missing", True
    if "checkpoint" in kinds:
        return (
            "`k2 check --repair` moves the checkpoint aside; it is made anew only with its whole training: for that, "
            f"move {one.name} away as well"
        ), False
    if "source" in kinds:
        return "run again what made the artifact that it links", True
    if "unlisted" in kinds:
        return "`k2 check --repair` moves what is not of the artifact aside; nothing is made anew", False
    return "run again where the input was made, or bring it here; what was made of it is whole", False


def _both_are_needed(one: Known, kinds: set[str]) -> bool:
    """Whether record and ledger cannot mend each other: neither is good, or both are and say two things."""
    if "disagreement" in kinds:
        return any((one.record or {}).get(name) != (one.entry or {}).get(name) for name in SAME)
    return bool(kinds & {"record", "ledger"}) and one.told is None


def _command(inventory: Inventory, name: str, told: Mapping[str, Any]) -> str:
    """The command that made it, with the recipe's name where something made from it tells that."""
    argv = [str(part) for part in told.get("provenance", {}).get("argv", ())]
    if not argv:
        return ""
    recipes = (_recipe(inventory.known[one].told) for one in [name, *inventory.dependents(name)])
    recipe = next((one for one in recipes if one), "") or _only_recipe(inventory)
    own = inventory.store.uri == store_uri()
    settings = ([f"K2_RECIPE={recipe}"] if recipe else []) + ([] if own else [f"K2_STORE={inventory.store.uri}"])
    return " ".join([*map(shlex.quote, settings), shlex.join(argv)])


def _recipe(record: Mapping[str, Any] | None) -> str:
    found = ((record or {}).get("config") or {}).get("recipe")
    return str(found.get("name", "")) if isinstance(found, dict) else ""


def _only_recipe(inventory: Inventory) -> str:
    """The name of the recipe that all of a store is of, "" where there are several."""
    names = {name for one in inventory.known.values() if (name := _recipe(one.told))}
    return names.pop() if len(names) == 1 else ""


@dataclass(frozen=True)
class Moved:
    """path: where it lay, from the store's root on; to: where it lies. mended: written anew from what was good."""

    path: str
    to: str = ""
    mended: str = ""


def repair(checked: Checked) -> list[Moved]:
    """Moves aside what a run would make anew, and mends what can be mended.

    Raises LeaseHeld where somebody is at work on a damaged artifact, and StoreWriteError; what was moved stays moved.
    """
    root = files_at(checked.inventory.store.uri)
    aside = _Aside(root)
    for cost in costs(checked):
        one = checked.inventory.known.get(cost.artifact)
        if one is None:
            for fault in cost.faults:
                if fault.kind in ("ledger", "place"):
                    aside.move(fault.path)
            continue
        with Lease(root, f"_leases/{one.name}", f"{one.name} in {root.uri}"):
            _repair_artifact(aside, one, cost.faults)
    aside.close(checked.faults)
    return aside.moved


def _repair_artifact(aside: "_Aside", one: Known, faults: Iterable[Fault]) -> None:
    kinds = {fault.kind for fault in faults}
    if kinds & {*WHOLE} or _both_are_needed(one, kinds):
        aside.move(one.name)
        if one.entry_path and ("disagreement" in kinds or "ledger" in kinds):
            aside.move(one.entry_path)
        return
    if one.finished and one.record and kinds & {"ledger", "disagreement"}:
        if one.entry_path:
            aside.move(one.entry_path)
        aside.write(f"{LEDGER}/{one.record['step']}/{one.record['identity']}.json", one.record)
    elif one.finished and one.entry and "record" in kinds:
        aside.move(f"{one.name}/{RECORD}")
        aside.write(f"{one.name}/{RECORD}", one.entry)
    elif "ledger" in kinds:  # of an artifact that is not here
        aside.move(one.entry_path)
    for fault in faults:
        if fault.kind == "unlisted":
            aside.move(fault.path)
        elif fault.kind == "checkpoint":
            aside.move("/".join(fault.path.split("/")[:4]))
        elif fault.kind == "part":
            _move_part(aside, one, fault)


def _move_part(aside: "_Aside", one: Known, fault: Fault) -> None:
    """The damaged file, and the records that list it: without one a part is made anew."""
    _, _, made = fault.path.partition(f"/{MADE}/")
    for record in [path for path in one.parts if path.startswith(f"{PARTS}/{one.name}/{RECORDS}/")]:
        if record == fault.path or (made and f'"{made.split("/")[0]}"'.encode() in aside.root.read(record)):
            aside.move(record)
    aside.move(fault.path)


class _Aside:
    """A numbered folder of the store, which is made with the first thing that is moved there."""

    def __init__(self, root: Files) -> None:
        self.root = root
        self.moved: list[Moved] = []
        self._folder = ""

    def move(self, path: str) -> None:
        """A file or a folder of the store; nothing happens where there is none (any more)."""
        if not self._folder:
            names = {there.split("/")[1] for there in self.root.sizes(DAMAGED) if "/" in there}
            self._folder = f"{DAMAGED}/{max((whole_number(name) or 0 for name in names), default=0) + 1:04d}"
        target = f"{self._folder}/{path}"
        moved = _move_locally if isinstance(self.root, LocalFiles) else _move_remotely
        if moved(self.root, path, target):
            self.moved.append(Moved(path, target))

    def write(self, path: str, record: dict[str, Any]) -> None:
        self.root.write(path, record_to_json(record))
        self.moved.append(Moved(path, mended="written anew"))

    def close(self, faults: Iterable[Fault]) -> None:
        """Leaves an account beside what was moved."""
        if self.moved and self._folder:
            account = {"faults": [*map(asdict, faults)], "moved": [*map(asdict, self.moved)]}
            self.root.write(f"{self._folder}/faults.json", (json.dumps(account, indent=1) + "\n").encode())


def _move_locally(root: Files, path: str, target: str) -> bool:
    source, place = Path(root.uri, path), inside(root.uri, target)
    if not source.is_symlink() and not source.exists():
        return False
    with writing(root.uri, target):
        place.parent.mkdir(parents=True, exist_ok=True)
        source.rename(place)
    return True


def _move_remotely(root: Files, path: str, target: str) -> bool:
    client = root.filesystem  # type: ignore[attr-defined]
    below = root.sizes(path)
    paths = sorted(below, key=lambda one: not one.endswith(f"/{MANIFEST}")) or ([path] if root.exists(path) else [])
    with writing(root.uri, target):
        for one in paths:
            client.cp_file(f"{root.uri}/{one}", f"{root.uri}/{target}{one.removeprefix(path)}")
        for one in paths:
            root.remove(one)
    return bool(paths)
