"""Where things stand in a store: what has been made, what was begun, what is gone."""

from pathlib import Path
from typing import Any

from k2model.artifacts import MissingArtifact, Store


def list_artifacts(store_uri: str) -> list[tuple[Any, ...]]:
    """Rows (artifact, state, ended, seconds, megabytes), oldest first, unfinished trainings last."""
    store = open_existing(store_uri)
    lost = set(store.lost())
    rows = []
    for record in sorted(all_records(store), key=lambda r: str(r["provenance"]["ended"])):
        name = f"{record['step']}/{record['identity'][:16]}"
        seconds = round(float(record["provenance"]["seconds"]), 1)
        state = "lost" if name in lost else "done"
        rows.append((name, state, record["provenance"]["ended"], seconds, round(record["bytes"] / 1e6, 1)))
    return rows + _unfinished(store)


def open_existing(store_uri: str) -> Store:
    """The store at `store_uri`. Raises MissingArtifact where there is none: looking must not make one."""
    if "://" not in store_uri and not (Path(store_uri) / "store.json").is_file():
        raise MissingArtifact(f"there is no store at {store_uri}; check K2_STORE or --store, or run `make lifecycle`")
    return Store.open(store_uri)


def all_records(store: Store) -> list[dict[str, Any]]:
    """The ledger's records of every step of the store."""
    return [record for step in store.steps() for record in store.records(step)]


def _unfinished(store: Store) -> list[tuple[Any, ...]]:
    """Trainings with checkpoints and no manifest yet; local stores only."""
    rows = []
    for folder in sorted(Path(store.uri).glob("*/*/checkpoints")):
        if (folder.parent / "manifest.json").exists():
            continue
        steps = sorted(p.parent.name for p in folder.glob("step-*/manifest.json"))
        state = f"at {steps[-1]}" if steps else "begun"
        rows.append((f"{folder.parent.parent.name}/{folder.parent.name}", state, "", "", ""))
    return rows
