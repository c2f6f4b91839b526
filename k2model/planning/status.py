"""Where things stand in a store: what has been made and what is gone. Trainings have a table of their own."""

from typing import Any

from k2model.artifacts import MissingArtifact, Store
from k2model.artifacts.files import files_at


def list_artifacts(store: Store) -> list[tuple[Any, ...]]:
    """Rows (artifact, state, ended, seconds, megabytes), oldest first."""
    lost = set(store.lost())
    rows = []
    for record in sorted(all_records(store), key=lambda r: str(r["provenance"]["ended"])):
        name = f"{record['step']}/{record['identity'][:16]}"
        seconds = round(float(record["provenance"]["seconds"]), 1)
        state = "lost" if name in lost else "done"
        rows.append((name, state, record["provenance"]["ended"], seconds, round(record["bytes"] / 1e6, 1)))
    return rows


def open_existing(store_uri: str) -> Store:
    """The store at `store_uri`. Raises MissingArtifact where there is none: looking must not make one."""
    if not files_at(store_uri).exists("store.json"):
        raise MissingArtifact(f"there is no store at {store_uri}; check K2_STORE or --store, or run `make lifecycle`")
    return Store.open(store_uri)


def all_records(store: Store) -> list[dict[str, Any]]:
    """The ledger's records of every step of the store."""
    return [record for step in store.steps() for record in store.records(step)]
