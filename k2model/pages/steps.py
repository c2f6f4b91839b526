"""The steps before training as runs: what each read and made as datasets, its numbers, and a page that says so.

Steps that only serve another (signatures, pairs, checks) have none; what goes through them is an input of the step they
serve, so that one can go from a model back to the sources dataset by dataset.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from k2model.artifacts import ArtifactRef, Store, fingerprint
from k2model.curation.funnel import read_curation
from k2model.recipe.schema import Recipe, SourceConfig
from k2model.registry.datasets import INPUT, MAX_DIGEST, OUTPUT, DatasetOf, dataset, used
from k2model.registry.markdown import RUN_CHARACTERS, Row, Section, as_cell, code, page
from k2model.registry.phase_record import allowed, code_tags, command_of, milliseconds
from k2model.reporting.kept import kept_lines
from k2model.units import readable_size

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

#: Kinds of artifacts that have a run, and what their step does.
KINDS = {
    "synthesis": "Documents that a teacher wrote and a program verified.",
    "corpus_raw": "Every source, read or built, as rows of one form.",
    "corpus": "What curation kept: one form, filters, duplicates and evaluation items removed, personal data replaced.",
    "corpus_valid": "The corpus without the rows that its checks set aside. Everything is trained on this.",
    "evaluation_items": "What every phase is asked, none of which is trained on.",
    "tokenizer": "Trained on the corpus, or a model's own.",
    "tokens": "The corpus as token ids, with which of them are targets.",
    "sequences": "The rows that a phase trains on, packed in training order.",
}
_FILES = ("", "file", "s3", "http", "https", "gs")  # kinds of addresses that MLflow has a source for


@dataclass(frozen=True)
class DataStep:
    """An artifact before training, by its name in the lifecycle; of one of `KINDS`."""

    name: str
    ref: ArtifactRef

    @property
    def key(self) -> str:
        return fingerprint(["data step", self.ref.identity, self.ref.digest, self.ref.uri])

    @property
    def title(self) -> str:
        return f"{self.name} {self.ref.identity[:8]}"


def data_steps(made: Mapping[str, ArtifactRef]) -> list[DataStep]:
    return [DataStep(name, ref) for name, ref in made.items() if ref.kind in KINDS]


@dataclass(frozen=True)
class StepPage:
    """What a run of a data step holds."""

    tags: dict[str, str]
    parameters: dict[str, str]
    metrics: "list[Metric]"
    datasets: "list[DatasetInput]"
    description: str
    started: int
    ended: int


def step_page(store: Store, recipe: Recipe, step: DataStep, made: Mapping[str, ArtifactRef]) -> StepPage:
    """Reads the record of the step and its small tables. Raises the store's errors."""
    from mlflow.entities import Metric

    record = store.record(step.ref)
    provenance, own = record["provenance"], DatasetOf.read(store, step.name, step.ref)
    git, ended = provenance.get("git") or {}, milliseconds(provenance["ended"])
    tags = code_tags(git.get("commit", ""), git.get("dirty", False), command_of(provenance))
    inputs = [*_read_from(store, step.ref, made)]
    datasets = [DatasetOf.read(store, name, made[name]).used(INPUT) for name in inputs]
    if step.ref.kind == "corpus_raw":
        datasets += [_source(one, record) for one in recipe.corpus.sources if one.job is None]
    rows, columns, numbers = _by_source(store, step.ref, own.profile)
    metrics = {**{name: value for name, value in step.ref.stats.items() if name != "seconds"}, **numbers}
    sections = [
        Section("", [f"**{step.title}**. {KINDS[step.ref.kind]}", "", _where(step, inputs, record)]),
        Section("Numbers", (), ("", ""), [(as_cell(name), f"{value:,.6g}") for name, value in step.ref.stats.items()]),
        Section("By source", (), columns, rows, "all are metrics of the run"),
    ]
    return StepPage(
        tags={"k2.step": step.ref.kind, "k2.recipe": recipe.name, **tags},
        parameters={"version": str(record["version"]), **_literals(record["config"])},
        metrics=[Metric(allowed(name), float(value), ended, 0) for name, value in metrics.items()],
        datasets=[*datasets, own.used(OUTPUT)],
        description=page(sections, RUN_CHARACTERS),
        started=milliseconds(provenance["started"]),
        ended=ended,
    )


def _where(step: DataStep, inputs: list[str], record: Mapping[str, Any]) -> str:
    read = f"made from {', '.join(map(code, inputs))}" if inputs else "made from the sources"
    return (
        f"{code(step.ref.uri)}, sha256 {code(step.ref.digest[:16])}, {record['files']:,} files of together "
        f"{readable_size(record['bytes'])}, {read}."
    )


def _read_from(store: Store, ref: ArtifactRef, made: Mapping[str, ArtifactRef]) -> Iterator[str]:
    """Names of the artifacts of `KINDS` that one was made from, through the others."""
    names = {(one.kind, one.digest): name for name, one in made.items()}
    seen: dict[str, None] = {}
    left = [ref]
    while left:
        for item in store.record(left.pop())["inputs"].values():
            name = names.get((item["kind"], item["digest"]))
            if name is None or name in seen:
                continue
            seen[name] = None
            if made[name].kind not in KINDS:
                left.append(made[name])
    return (name for name in seen if made[name].kind in KINDS)


def _source(one: SourceConfig, record: Mapping[str, Any]) -> "DatasetInput":
    """A source of the user's, or one that the project builds."""
    from mlflow.entities import Dataset

    sources: list[dict[str, Any]] = record["config"]["corpus"]["sources"]
    entry = next((said for said in sources if said["name"] == one.name), {})
    digest = fingerprint([entry, record["digest"]])[:MAX_DIGEST]
    profile = {key: value for key in ("licence", "domain", "documents") if (value := getattr(one, key))}
    where = one.location or f"built by the project: {one.name}"
    if one.location and urlsplit(one.location).scheme in _FILES:
        made = dataset(one.name, digest, one.location, profile)
    else:
        made = Dataset(one.name, digest, "code", json.dumps({"tags": {"mlflow.source.name": where}}),
                       profile=json.dumps(profile))  # fmt: skip
    return used(made, "source", {"k2.uri": where})


def _by_source(
    store: Store, ref: ArtifactRef, profile: Mapping[str, Any]
) -> tuple[list[Row], tuple[str, ...], dict[str, float]]:
    """Rows and head of the table of an artifact's sources, and the same as metrics."""
    if ref.kind == "corpus":
        lines = kept_lines(read_curation(store, ref))
        rows: list[Row] = [
            (as_cell(one.source), readable_size(one.read), readable_size(one.kept), f"{one.share:.1%}",
             as_cell(one.lost_to)) for one in lines
        ]  # fmt: skip
        numbers = {f"kept/{one.source}": one.share for one in lines}
        return rows, ("source", "read", "kept", "share", "most lost to"), numbers
    if ref.kind == "sequences":
        found = profile.get("sources", {})
        rows = [
            (as_cell(name), f"{one['tokens']:,}", f"{one['share']:.1%}", f"{one['share_wanted']:.1%}",
             f"{one['epochs']:.2f}") for name, one in found.items()
        ]  # fmt: skip
        numbers = {f"{key}/{name}": one[key] for name, one in found.items() for key in ("share", "epochs")}
        return rows, ("source", "tokens", "real share", "wanted", "epochs"), numbers
    found = profile.get("by_source") or profile.get("train") or {}
    counted = "tokens" if ref.kind == "tokens" else "bytes"
    rows = [(as_cell(name), f"{one['documents']:,}", f"{one[counted]:,}") for name, one in found.items()]
    numbers = {f"{counted}/{name}": one[counted] for name, one in found.items()}
    return rows, ("source", "documents", counted), numbers


def _literals(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The settings of a step that are single values, by dotted name; rows of tables are in its record."""
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _literals(value, f"{prefix}{name}.")
        elif isinstance(value, str | int | float | bool):
            found[allowed(f"{prefix}{name}")] = str(value)
    return found
