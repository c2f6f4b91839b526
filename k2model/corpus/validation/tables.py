"""The small tables about the whole corpus that the suites look at: schemas, items, sources, mixtures.

Great Expectations sees pandas frames of plain columns, a row for each source, phase or feature; what
they hold was summed over parts before (`statistics`, `counts`). Nothing here decides pass or fail.
Single documents: `measures`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from k2model.corpus.documents import source_file
from k2model.corpus.validation.counts import PartCounts, Tally
from k2model.corpus.validation.drift import Drift
from k2model.recipe.mixtures import Available, portions
from k2model.recipe.schema import MixtureEntry


def schema_rows(name: str, schema: pa.Schema, expected: pa.Schema) -> Iterator[dict[str, str]]:
    """A row for each column of file `side/stem/part`: its `type` and the type `expected` ("-" = none)."""
    found = {field.name: _type_name(field.type) for field in schema}
    wanted = {field.name: _type_name(field.type) for field in expected}
    shard, _, part = name.rpartition("/")
    for column in sorted(found.keys() | wanted.keys()):
        types = {"type": found.get(column, "-"), "expected": wanted.get(column, "-")}
        yield {"shard": shard, "part": part, "column": column, **types}


def schema_frame(rows: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """`schema_rows` of all files, parts of a source that are alike by the first of them."""
    frame = pd.DataFrame(list(rows), columns=["shard", "part", "column", "type", "expected"])
    return frame.drop_duplicates(["shard", "column", "type", "expected"], ignore_index=True)


def heldout_frame(statistics: Mapping[str, Any]) -> pd.DataFrame:
    """One row per held-out source: documents `trained_on` (an `id`, the `last` place), `null_id`, `null_text`."""
    rows = []
    for stem in statistics["heldout"]["by_source"]:
        name = f"heldout/{stem}"
        nulls = statistics["null"].get(name, {})
        rows.append(
            {"shard": name, **_named(statistics["trained_on"], name, "trained_on"),
             "null_id": nulls.get("id", 0), "null_text": nulls.get("text", 0)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def identifier_frame(statistics: Mapping[str, Any]) -> pd.DataFrame:
    """One row per source of both sides: documents of `repeated_ids`, with one such `id` and where it is."""
    names = [f"{side}/{stem}" for side in ("train", "heldout") for stem in statistics[side]["by_source"]]
    return pd.DataFrame([{"shard": name, **_named(statistics["repeated_ids"], name, "repeated_ids")} for name in names])


def item_frame(folder: Path) -> pd.DataFrame:
    """One row per evaluation item with its `shard`, and `copies` of its id within the family."""
    frames = [pq.read_table(path).to_pandas().assign(shard=path.stem) for path in sorted(folder.glob("*.parquet"))]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return frame.assign(copies=frame.groupby(["shard", "id"])["id"].transform("size")) if len(frame) else frame


def source_frame(sources: Mapping[str, Tally]) -> pd.DataFrame:
    """One row per source: documents `read`, `quarantined` of them and the fraction."""
    rows = [(stem, one.read, one.quarantined, one.quarantined / max(one.read, 1)) for stem, one in sources.items()]
    return pd.DataFrame(rows, columns=["source", "read", "quarantined", "quarantined_fraction"])


def drift_frame(rows: Sequence[Drift]) -> pd.DataFrame:
    """One row per feature; empty without a previous version."""
    return pd.DataFrame([asdict(row) for row in rows])


def mixture_frame(
    mixtures: Mapping[str, Sequence[MixtureEntry]],
    phase_tokens: Mapping[str, int],
    counts: Mapping[str, PartCounts],
) -> pd.DataFrame:
    """One row per phase and entry of its mixture: `share` wanted, `documents`, `tokens`, `epochs` needed.

    `counts` by stem of source. `epochs` is null where the phase's length is not in `phase_tokens`.
    """
    rows = []
    entries = {(entry.source, entry.bucket) for mixture in mixtures.values() for entry in mixture}
    have = {key: counts.get(source_file(key[0]), PartCounts()).amount(key[1]) for key in sorted(entries)}
    available = {key: Available(amount.tokens, amount.tokens) for key, amount in have.items()}
    for phase, mixture in mixtures.items():
        length = phase_tokens.get(phase, 1)
        for portion in portions(mixture, length, available):
            amount = have[portion.entry.source, portion.entry.bucket]
            epochs = (portion.share or 0.0) * length / max(amount.tokens, 1) if phase in phase_tokens else None
            rows.append((phase, portion.entry.name, portion.share, amount.documents, amount.tokens, epochs))
    return pd.DataFrame(rows, columns=["phase", "source", "share", "documents", "tokens", "epochs"])


def _named(found: Mapping[str, Any], name: str, column: str) -> dict[str, Any]:
    example: dict[str, str] = next((one for one in found["examples"] if one["source"] == name), {})
    return {column: found["by_source"].get(name, 0), **{key: example.get(key, "") for key in ("id", "first", "last")}}


def _type_name(kind: pa.DataType) -> str:
    """A type by its content: Parquet renames the elements of lists and forgets what may not be null."""
    if pa.types.is_list(kind):
        return f"list<{_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return "struct<" + ", ".join(f"{field.name}: {_type_name(field.type)}" for field in kind) + ">"
    return str(kind)
