"""From any artifact back to the sources, and the differences between two of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from k2model.artifacts import MissingArtifact, Store
from k2model.planning.status import all_records, open_existing


def trace(store_uri: str, reference: str) -> list[tuple[Any, ...]]:
    """Rows (indented artifact, digest, names of its inputs), each artifact once, depth first."""
    records = all_records(open_existing(store_uri))
    start = find_record(records, reference)
    by_digest = {(record["step"], record["digest"]): record for record in records}
    return list(_walk(start, by_digest, 0, set()))


def differences(store_uri: str, first: str, second: str) -> list[tuple[Any, ...]]:
    """Rows (dotted field, first's value, second's): of configs, inputs and, where there are any, scores."""
    store = open_existing(store_uri)
    records = all_records(store)
    flat = [_flatten(store, find_record(records, reference)) for reference in (first, second)]
    fields = list(dict.fromkeys([*flat[0], *flat[1]]))
    return [(f, flat[0].get(f, ""), flat[1].get(f, "")) for f in fields if flat[0].get(f) != flat[1].get(f)]


def find_record(records: list[dict[str, Any]], reference: str) -> dict[str, Any]:
    """The newest record whose step, `step/key` or digest begins with `reference`. Raises MissingArtifact."""
    for record in sorted(records, key=lambda r: str(r["provenance"]["ended"]), reverse=True):
        name = f"{record['step']}/{record['identity']}"
        if record["step"] == reference or ("/" in reference and name.startswith(reference)):
            return record
        if len(reference) >= 6 and record["digest"].startswith(reference):
            return record
    steps = sorted({record["step"] for record in records})
    raise MissingArtifact(
        f"no artifact matches '{reference}'; name a step ({', '.join(steps) or 'the store is empty'}), step/key or the "
        "first six characters of a digest; `k2 status` lists them"
    )


def _walk(
    record: dict[str, Any], by_digest: dict[tuple[str, str], dict[str, Any]], depth: int, seen: set[tuple[str, str]]
) -> Iterator[tuple[Any, ...]]:
    name = f"{'  ' * depth}{record['step']}/{record['identity'][:16]}"
    content = (record["step"], record["digest"])
    if content in seen:
        yield (name, record["digest"][:12], "(see above)")
        return
    seen.add(content)
    yield (name, record["digest"][:12], ", ".join(record["inputs"]))
    for source in record["inputs"].values():
        if found := by_digest.get((source["kind"], source["digest"])):
            yield from _walk(found, by_digest, depth + 1, seen)


def _flatten(store: Store, record: dict[str, Any]) -> dict[str, Any]:
    flat = dict(_leaves(record["config"], "config"))
    flat |= {f"inputs.{name}": source["digest"][:12] for name, source in record["inputs"].items()}
    scores = Path(store.uri) / record["step"] / record["identity"][:16] / "scores.json"
    if scores.is_file():
        flat |= {f"scores.{row['score']}": round(row["value"], 4) for row in json.loads(scores.read_text())}
    return flat


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for position, item in enumerate(value):
            label = item.get("name") or item.get("source") or position if isinstance(item, dict) else position
            yield from _leaves(item, f"{path}.{label}")
    else:
        yield path, value
