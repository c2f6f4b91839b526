"""The release artifact: weights, tokenizer, recipe, data, logs, scores and lineage in one folder.

What a second run of the same recipe reproduces byte for byte stands outside `attachments/`; training logs, samples,
times and package versions stand inside. A release names no folder, host or command line of the machines that it was
made on. The store's references and nothing else are read, so it can be built again from a store at any time.
"""

import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, MissingArtifact, Step, Store, artifact_name
from k2model.artifacts.record import ref_of
from k2model.artifacts.result import LifecycleResult
from k2model.evals.cells import results_of
from k2model.evals.items import ItemResult
from k2model.evals.scores import ScoreRow
from k2model.export.architecture import TRAINING_STATE
from k2model.recipe.continual import ContinualConfig
from k2model.recipe.fields import stated_fields, without_places
from k2model.recipe.promotion import PromotionConfig
from k2model.recipe.repeats import repeated_of
from k2model.recipe.schema import AdoptedModel, Recipe
from k2model.release.card import composition_csv, model_card, readme, sources
from k2model.release.manifest import ATTACHMENTS, LINEAGE, MODEL_FOLDER, TURNS, phase_folder, write_manifests
from k2model.reporting.content import (
    read_adopted,
    read_clean_scores,
    read_records,
    read_undone,
    scores_with_overlap,
)
from k2model.reporting.safety import tested_phases
from k2model.reporting.scores import scores_csv
from k2model.safety.judging import RESULT
from k2model.settings import masked
from k2model.tokens import read_composition
from k2model.training.log import METRICS
from k2model.versions import STEP_VERSIONS

UNPUBLISHED = "a folder that is not published"


def release_step(store: Store, result: LifecycleResult, line: Mapping[str, bytes] = MappingProxyType({})) -> Step:
    """The artifact `release`, a folder that `verify_release` checks and transformers loads.

    line: of a model that went on after its lifecycle, the files by path that tell how (`k2model.continual.candidate`);
    `line/turns.json` is shown on the card.

    To make it raises the store's errors, naming the file, when an artifact lacks what a release holds.
    """
    complete = recipe_as_json(result.recipe)
    origins_of_models = {one.name: published_origin(one) for one in result.recipe.adopted}
    inputs = {name.replace("/", "."): ref for name, ref in result.artifacts.items()}

    def produce(folder: Path) -> dict[str, float]:
        records = read_records(store, result)
        for name in ("recipe", "data", "evaluation", f"{ATTACHMENTS}/training", f"{ATTACHMENTS}/samples"):
            (folder / name).mkdir(parents=True)
        _write_models(store, result, folder)
        if result.recipe.release_training_state:
            _write_training_state(store, result.phases[-1].checkpoint, folder / TRAINING_STATE)
        _write_json(folder / "recipe" / "recipe.json", complete)
        origins, efforts = _write_data(store, result, folder / "data")
        rows = _write_evaluation(store, result, folder / "evaluation")
        _write_logs(store, result, folder / ATTACHMENTS)
        _write_json(folder / LINEAGE, lineage(store, result, records))
        provenance = {name: _without_machine(record["provenance"]) for name, record in records.items()}
        _write_json(folder / ATTACHMENTS / "provenance.json", provenance)
        undone = {one.phase.name: read_undone(store, one.checkpoint) for one in result.phases}
        # Where they were read is no part of what they are, and another copy may lie elsewhere.
        adopted = [
            {k: v for k, v in one.items() if k != "location"} | {"origin": origins_of_models[one["name"]]}
            for one in read_adopted(store, result)
        ]
        if adopted:
            _write_json(folder / "adopted.json", adopted)
        safety = tested_phases(store, result.recipe, result.artifacts)
        for one in safety:
            (folder / "evaluation" / f"safety-{one.name}.json").write_bytes(store.read(one.ref, RESULT))
        for path, content in line.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        turns = json.loads(line[TURNS])["turns"] if line else []
        text = model_card(result, rows, origins, undone, efforts, adopted, safety, turns)
        (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(readme(result, bool(line)), encoding="utf-8")
        write_manifests(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}

    # The card says where adopted models are from, so that is a part of what a release is.
    origin = {"adopted_from": origins_of_models} if origins_of_models else {}
    told = {"line": {path: hashlib.sha256(content).hexdigest() for path, content in line.items()}} if line else {}
    return Step(Identity("release", STEP_VERSIONS["release"], {"recipe": complete, **origin, **told}, inputs), produce)


def recipe_as_json(recipe: Recipe) -> dict[str, Any]:
    """All of a recipe that says how its models are made, its hardware fields too, as nested JSON; enums by value.
    Places are left out, and how a line of models goes on from there."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in stated_fields(value)}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    how = dataclasses.replace(recipe, continual=ContinualConfig(), promotion=PromotionConfig())
    made: dict[str, Any] = plain(without_places(how))
    return made


def published_origin(adopted: AdoptedModel) -> str:
    """Where an adopted model is from, as a release may tell it: what the recipe says, else the address it was read
    from; that of a folder of one machine says nothing to others, and too much of that machine."""
    origin = adopted.origin
    local = not adopted.source and "://" not in origin
    return UNPUBLISHED if local or re.match(r"file:|[/~.\\]|[A-Za-z]:[/\\]", origin) else masked(origin)


def _without_machine(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Code, packages and times, which others need. Command lines name folders and every override of who ran it, and
    these and the host are of one machine."""
    return {name: value for name, value in provenance.items() if name not in ("argv", "host")}


def _write_training_state(store: Store, checkpoint: ArtifactRef, folder: Path) -> None:
    """Weights and optimizer state of the last phase, so that others can go on where it ended."""
    from k2model.training.checkpoint import FINAL

    source = store.fetch(checkpoint, lambda path: path.startswith(f"{FINAL}/")) / FINAL
    folder.mkdir()
    for path in sorted(source.iterdir()):
        shutil.copyfile(path, folder / path.name)


def _write_models(store: Store, result: LifecycleResult, folder: Path) -> None:
    """The export of every phase, and the last one again as the model of the release."""
    last = result.phases[-1]
    exports = [(phase_folder(one.phase.name), one.export) for one in result.phases] + [(MODEL_FOLDER, last.export)]
    for place, ref in exports:
        source = store.fetch(ref)
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source)
            if name.parts[0] not in (ATTACHMENTS, "manifest.json", "artifact.json"):
                (folder / place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / place / name)


def _write_data(store: Store, result: LifecycleResult, folder: Path) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Compositions, curation, validation and sources; returns the rows of the sources, and the replies by reasoning
    effort that the last phase learned."""
    compositions = {one.phase.name: read_composition(store, one.sequences) for one in result.phases}
    _write_json(folder / "composition.json", compositions)
    for phase, composition in compositions.items():
        (folder / f"composition-{phase}.csv").write_text(composition_csv(composition), encoding="utf-8")
    (folder / "curation.json").write_bytes(store.read(result.corpus, "curation.json"))
    (folder / "validation.json").write_bytes(store.read(result.corpus_valid, "validation.json"))
    origins = sources(store.fetch(result.corpus_valid, lambda path: path.endswith(".parquet")))
    _write_json(folder / "sources.json", origins)
    return origins, compositions[result.phases[-1].phase.name].get("efforts", {})


def _write_evaluation(store: Store, result: LifecycleResult, folder: Path) -> list[ScoreRow]:
    clean = read_clean_scores(store, result)
    rows = scores_with_overlap(store, result, clean)
    _write_json(folder / "scores.json", [row.to_dict() for row in rows])
    (folder / "scores.csv").write_text(scores_csv(rows, clean), encoding="utf-8")
    return rows


def _write_logs(store: Store, result: LifecycleResult, folder: Path) -> None:
    for one in result.phases:
        (folder / "training" / f"{one.phase.name}.jsonl").write_bytes(store.read(one.checkpoint, METRICS))
        _write_samples(folder / "samples" / f"{one.phase.name}.jsonl", results_of(store, one.scores))


def _write_samples(path: Path, results: Sequence[ItemResult]) -> None:
    """What came of each item as a line that people and scripts read without Parquet; pass@k follows from these."""
    rows = (dataclasses.asdict(one) | {"grade": one.grade.value} for one in results if not repeated_of(one.score))
    told = (row | {"value": None if math.isnan(row["value"]) else row["value"]} for row in rows)
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in told), encoding="utf-8")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def lineage(store: Store, result: LifecycleResult, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of `lineage.json`: every artifact by step, identity, inputs and digest, with the files that the
    digest is made of, so that it can be computed again by whoever has them.

    records: the store's, by the artifact's name in the lifecycle. What stands between two steps of the result (the
    cleaned corpus) is listed too, by its kind, so that every input is there. Raises MissingArtifact when it is not in
    the store any more.
    """
    named = [_entry(store, name, records[name], ref) for name, ref in result.artifacts.items()]
    between = [_entry(store, name, one, ref_of(one, store.uri)) for name, one in _between(store, records).items()]
    return {"recipe": result.recipe.name, "artifacts": [*between, *named]}


def _between(store: Store, records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records of all inputs, of inputs' inputs and so on, that `records` do not hold: by kind, where that names
    another as well (the corpus of a batch beside the lifecycle's) by it and the beginning of their identity."""
    known = {(record["step"], record["digest"]) for record in records.values()}
    found: dict[str, list[dict[str, Any]]] = {}
    waiting = list(records.values())
    while waiting:
        for source in waiting.pop()["inputs"].values():
            if (source["kind"], source["digest"]) not in known:
                known.add((source["kind"], source["digest"]))
                waiting.append(_record(store, source["kind"], source["digest"]))
                found.setdefault(source["kind"], []).append(waiting[-1])
    named = {
        kind if len(those) == 1 and kind not in records else artifact_name(kind, one["identity"]): one
        for kind, those in found.items() for one in those
    }  # fmt: skip
    return dict(sorted(named.items()))


def _record(store: Store, kind: str, digest: str) -> dict[str, Any]:
    for record in reversed(store.records(kind)):
        if record["digest"] == digest:
            return record
    raise MissingArtifact(
        f"{store.uri} has no record of {kind} {digest[:16]}, which the release was made from. Run the pipeline again "
        "on this store, or release from the store that the corpus was made in"
    )


def _entry(store: Store, name: str, record: dict[str, Any], ref: ArtifactRef) -> dict[str, Any]:
    _, manifest = store.look_up(ref)
    files = (file.content for file in manifest.files if file.bears_digest)
    return {
        "name": name,
        "step": record["step"],
        "version": record["version"],
        "identity": record["identity"],
        "config": record["config"],
        "inputs": {
            role: {"kind": source["kind"], "digest": source["digest"]} for role, source in record["inputs"].items()
        },
        "digest": record["digest"],
        "files": sorted(files, key=lambda file: str(file["path"])),
    }
