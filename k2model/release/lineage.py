"""Lineage of a release: every artifact of the lifecycle by step, identity, inputs and digest.

The files that a digest is made of are listed too, so that it can be computed again by whoever has
the files. Times, hosts and package versions go to `attachments/provenance.json`.
"""

from dataclasses import asdict
from typing import Any

from k2model.artifacts import Manifest, MissingArtifact, Store, read_manifest
from k2model.artifacts.identity import ArtifactRef
from k2model.artifacts.record import ref_of
from k2model.artifacts.result import LifecycleResult

LINEAGE = "lineage.json"
MODEL_FOLDER = "model"


def phase_folder(phase: str) -> str:
    """Where a release keeps the weights of a phase."""
    return f"checkpoints/{phase}"


def lineage(store: Store, result: LifecycleResult, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The content of `lineage.json`; `records` are the store's records by name, see `read_records`.

    What stands between two steps of the result (the cleaned corpus) is listed too, by its kind, so that every input
    is there. Raises MissingArtifact when it is not in the store any more.
    """
    between = _between(store, records)
    named = [_entry(name, records[name], _manifest(store, ref)) for name, ref in result.artifacts.items()]
    return {
        "recipe": result.recipe.name,
        "artifacts": [
            *(_entry(name, record, _manifest(store, ref_of(record, store.uri))) for name, record in between.items()),
            *named,
        ],
    }


def _between(store: Store, records: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By kind the records of all inputs, of inputs' inputs and so on, that `records` do not hold."""
    known = {(record["step"], record["digest"]) for record in records.values()}
    found: dict[str, dict[str, Any]] = {}
    waiting = list(records.values())
    while waiting:
        for source in waiting.pop()["inputs"].values():
            if (source["kind"], source["digest"]) not in known:
                known.add((source["kind"], source["digest"]))
                found[source["kind"]] = _record(store, source["kind"], source["digest"])
                waiting.append(found[source["kind"]])
    return dict(sorted(found.items()))


def _record(store: Store, kind: str, digest: str) -> dict[str, Any]:
    for record in reversed(store.records(kind)):
        if record["digest"] == digest:
            return record
    raise MissingArtifact(
        f"{store.uri} has no record of {kind} {digest[:16]}, which the release was made from. Run the pipeline again "
        "on this store, or release from the store that the corpus was made in"
    )


def provenance(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Who made each artifact, when, with which code and packages; how long it took."""
    return {name: record["provenance"] for name, record in records.items()}


def _entry(name: str, record: dict[str, Any], manifest: Manifest) -> dict[str, Any]:
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
        "files": sorted((asdict(file) for file in manifest.files if file.bears_digest), key=lambda f: f["path"]),
    }


def _manifest(store: Store, ref: ArtifactRef) -> Manifest:
    """The manifest of an artifact, in this store if it was moved here."""
    try:
        return read_manifest(f"{store.uri}/{ref.name}")
    except MissingArtifact:
        return read_manifest(ref.uri)
