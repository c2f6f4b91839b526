"""What a release has to hold, whatever its own lists say: the closed list of its parts, and how they hang together.

A list can be shortened together with what it lists. So the recipe says which phases there are, each phase needs its
artifacts in the lineage and its weights, log and samples in the folder, and the lineage says which files the weights,
the training state, curation, validation and safety results are, by sha256. What none of these asks for is no part of a
release.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from k2model.artifacts import FileEntry, Manifest
from k2model.export.architecture import RELEASED, TRAINING_STATE

ATTACHMENTS = "attachments"
LINEAGE = "lineage.json"
TURNS = "line/turns.json"  # of a model that went on after its lifecycle
RECIPE = "recipe/recipe.json"
MODEL_FOLDER = RELEASED  # the weights of the last phase
ALWAYS = (
    "README.md", "MODEL_CARD.md", LINEAGE, RECIPE, "data/composition.json", "data/curation.json",
    "data/validation.json", "data/sources.json", "evaluation/scores.json", "evaluation/scores.csv",
    f"{ATTACHMENTS}/provenance.json",
)  # fmt: skip
OF_A_PHASE = ("data/composition-{}.csv", f"{ATTACHMENTS}/training/{{}}.jsonl", f"{ATTACHMENTS}/samples/{{}}.jsonl")
PARTS = ("sequences", "checkpoint", "export", "scores")  # artifacts of a phase
WEIGHTS, CONFIG = re.compile(r"model[\w.-]*\.safetensors"), "config.json"
_OF_A_LINE = re.compile(r"line/(turns|ledger/\d{8}|arrivals/[^/]+)\.json")
#: Files that are those of an artifact: the artifact's name and the path there, where `{}` is a phase.
_SAME = {
    "data/curation.json": ("corpus", "curation.json"),
    "data/validation.json": ("corpus_valid", "validation.json"),
}


class Phase(TypedDict):
    name: str
    parent: str


class Stated(TypedDict):
    """What is asked of a release's recipe; the rest of it is kept."""

    name: str
    licence: str
    phases: tuple[Phase, ...]
    adopted: NotRequired[tuple[dict[str, Any], ...]]
    release_training_state: NotRequired[bool]


class Source(TypedDict):
    kind: str
    digest: str


class Entry(TypedDict):
    name: str
    step: str
    digest: str
    inputs: dict[str, Source]
    files: tuple[FileEntry, ...]


class Lineage(TypedDict):
    recipe: str
    artifacts: tuple[Entry, ...]


def phase_folder(phase: str) -> str:
    """Where a release keeps the weights of a phase."""
    return f"checkpoints/{phase}"


def problems_of(recipe: Stated, lineage: Lineage, listed: Mapping[str, str], attached: bool = True) -> list[str]:
    """One line for each thing that a release lacks, has too much or that contradicts another.

    listed: sha256 of its files by path. attached: whether those below `attachments/` are among them.
    """
    named = {entry["name"]: entry for entry in lineage["artifacts"]}
    phases = [phase["name"] for phase in recipe["phases"]]
    said = [f"{RECIPE}: it has no phases, of which a release holds the models"] if not phases else []
    if lineage["recipe"] != recipe["name"]:
        said.append(f"{LINEAGE}: it is of recipe '{lineage['recipe']}', {RECIPE} of '{recipe['name']}'")
    said += _of_lineage(recipe, lineage, named)
    expected = dict(_expected(recipe, named))
    for path, (sha256, whose) in expected.items():
        if path not in listed:
            if attached or not path.startswith(f"{ATTACHMENTS}/"):
                said.append(
                    f"{path}: missing, and not listed either; a release has it{f' of {whose}' if whose else ''}"
                )
        elif sha256 and listed[path] != sha256:
            said.append(f"{path}: is not the file of {whose} in {LINEAGE}")
    for path in sorted(listed.keys() - expected.keys()):
        if not (TURNS in listed and _OF_A_LINE.fullmatch(path)):
            said.append(f"{path}: not part of the release, though it is listed")
    return said


def _expected(recipe: Stated, named: Mapping[str, Entry]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Path -> sha256 and the artifact that says it, "" where none does."""
    phases = [phase["name"] for phase in recipe["phases"]]
    yield from ((path, ("", "")) for path in ALWAYS)
    yield from ((pattern.format(phase), ("", "")) for phase in phases for pattern in OF_A_PHASE)
    if recipe.get("adopted"):
        yield "adopted.json", ("", "")
    same = _SAME | {
        f"evaluation/safety-{name.removesuffix('/safety')}.json": (name, "safety.json")
        for name in named if name.endswith("/safety")
    }  # fmt: skip
    for path, (name, there) in same.items():
        files = named[name]["files"] if name in named else ()
        yield path, (next((file.sha256 for file in files if file.path == there), ""), name)
    for folder, phase in [
        *((phase_folder(phase), phase) for phase in phases),
        *((MODEL_FOLDER, p) for p in phases[-1:]),
    ]:
        if export := named.get(f"{phase}/export"):
            yield from ((f"{folder}/{file.path}", (file.sha256, export["name"])) for file in export["files"])
    if recipe.get("release_training_state") and (trained := named.get(f"{phases[-1]}/checkpoint" if phases else "")):
        for file in trained["files"]:
            if file.path.startswith("final/"):
                yield f"{TRAINING_STATE}/{file.path.removeprefix('final/')}", (file.sha256, trained["name"])


def _of_lineage(recipe: Stated, lineage: Lineage, named: Mapping[str, Entry]) -> Iterator[str]:
    entries = lineage["artifacts"]
    if len(named) < len(entries):
        yield f"{LINEAGE}: it has two artifacts of one name"
    known = {(entry["step"], entry["digest"]) for entry in entries}
    for entry in entries:
        digest = Manifest(entry["files"]).digest
        if digest != entry["digest"]:
            yield f"{LINEAGE}: {entry['name']} states digest {entry['digest']}, its files give {digest}"
        for role, source in entry["inputs"].items():
            if (source["kind"], source["digest"]) not in known:
                yield (
                    f"{LINEAGE}: {entry['name']} was made of {role} {source['kind']} {source['digest']}, "
                    "which is not in the lineage"
                )
    wanted = [("corpus", "corpus"), ("corpus_valid", "corpus_valid")]
    wanted += [(f"{phase['name']}/{part}", part) for phase in recipe["phases"] for part in PARTS]
    for name, step in wanted:
        if name not in named:
            yield f"{LINEAGE}: it lacks {name}, which every release is made of"
        elif named[name]["step"] != step:
            yield f"{LINEAGE}: {name} was made by the step {named[name]['step']}, expected {step}"
    for phase in recipe["phases"]:
        name = phase["name"]
        pairs = [(f"{name}/export", f"{name}/checkpoint"), (f"{name}/checkpoint", f"{name}/sequences")]
        for made, origin in [*pairs, (f"{name}/checkpoint", f"{phase['parent']}/checkpoint")]:
            if made in named and origin in named and not _made_of(named[made], named[origin]):
                yield f"{LINEAGE}: {made} was not made of {origin}, as {RECIPE} says"
        files = {file.path for file in named[f"{name}/export"]["files"]} if f"{name}/export" in named else set()
        if f"{name}/export" in named and not (CONFIG in files and any(map(WEIGHTS.fullmatch, files))):
            yield f"{LINEAGE}: {name}/export holds no weights with their {CONFIG}"


def _made_of(made: Entry, source: Entry) -> bool:
    return any((one["kind"], one["digest"]) == (source["step"], source["digest"]) for one in made["inputs"].values())
