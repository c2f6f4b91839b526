"""The release artifact: weights, tokenizer, recipe, data, logs, scores and lineage in one folder.

What a second run of the same recipe reproduces byte for byte stands outside `attachments/`; training
logs, samples and times stand inside, since they hold seconds. The store's references and nothing
else are read, so a release can be built again from a store at any time.
"""

import dataclasses
import json
import shutil
from enum import Enum
from pathlib import Path
from typing import Any

from k2model.artifacts import Identity, Step, Store
from k2model.artifacts.result import LifecycleResult
from k2model.evals.scores import ScoreRow, load_scores
from k2model.recipe.fields import without_places
from k2model.recipe.schema import Recipe
from k2model.release import card
from k2model.release.card import composition_csv, sources
from k2model.release.lineage import LINEAGE, MODEL_FOLDER, lineage, phase_folder, provenance
from k2model.release.manifest import ATTACHMENTS, write_manifests
from k2model.reporting.facts import read_json, read_records, read_undone
from k2model.reporting.overlaps import with_overlap
from k2model.reporting.scores import scores_csv
from k2model.tokens import read_composition
from k2model.versions import STEP_VERSIONS


def release_step(store: Store, result: LifecycleResult) -> Step:
    """The artifact `release`, a folder that `verify_release` checks and transformers loads.

    To make it raises `ReportError` when an artifact lacks what a release holds, or the store's errors.
    """
    complete = recipe_as_json(result.recipe)
    inputs = {name.replace("/", "."): ref for name, ref in result.artifacts.items()}

    def produce(folder: Path) -> dict[str, float]:
        records = read_records(store, result)
        for name in ("recipe", "data", "evaluation", f"{ATTACHMENTS}/training", f"{ATTACHMENTS}/samples"):
            (folder / name).mkdir(parents=True)
        _write_models(store, result, folder)
        _write_json(folder / "recipe" / "recipe.json", complete)
        origins, efforts = _write_data(store, result, folder / "data")
        rows = _write_evaluation(store, result, folder)
        _write_logs(store, result, folder / ATTACHMENTS)
        _write_json(folder / LINEAGE, lineage(store, result, records))
        _write_json(folder / ATTACHMENTS / "provenance.json", provenance(records))
        undone = {one.phase.name: read_undone(store.fetch(one.checkpoint)) for one in result.phases}
        text = card.model_card(result, rows, origins, undone, efforts)
        (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(card.readme(result), encoding="utf-8")
        write_manifests(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}

    return Step(Identity("release", STEP_VERSIONS["release"], {"recipe": complete}, inputs), produce)


def recipe_as_json(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe but for places, its hardware fields too, as nested JSON; enums by value."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return plain(dataclasses.asdict(without_places(recipe)))


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
    valid = store.fetch(result.corpus_valid)
    shutil.copyfile(store.fetch(result.corpus) / "curation.json", folder / "curation.json")
    shutil.copyfile(valid / "validation.json", folder / "validation.json")
    origins = sources(valid)
    _write_json(folder / "sources.json", origins)
    return origins, compositions[result.phases[-1].phase.name].get("efforts", {})


def _write_evaluation(store: Store, result: LifecycleResult, folder: Path) -> list[ScoreRow]:
    rows = load_scores(store, (one.scores for one in result.phases))
    for one in result.phases:
        evaluated = store.fetch(one.scores)
        samples = evaluated / ATTACHMENTS / "samples.jsonl"
        shutil.copyfile(samples, folder / ATTACHMENTS / "samples" / f"{one.phase.name}.jsonl")
    rows = with_overlap(rows, read_json(store.fetch(result.corpus) / "curation.json"))
    _write_json(folder / "evaluation" / "scores.json", [dataclasses.asdict(row) for row in rows])
    (folder / "evaluation" / "scores.csv").write_text(scores_csv(rows), encoding="utf-8")
    return rows


def _write_logs(store: Store, result: LifecycleResult, folder: Path) -> None:
    for one in result.phases:
        log = store.fetch(one.checkpoint) / ATTACHMENTS / "metrics.jsonl"
        shutil.copyfile(log, folder / "training" / f"{one.phase.name}.jsonl")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
