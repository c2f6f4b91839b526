"""The small tables about the whole corpus that the suites look at: schemas, items, sources, mixtures, and drift.

Great Expectations sees pandas frames of plain columns, a row for each source, phase or feature; what they hold was
summed over parts before (`statistics`, `counts`). Nothing here decides pass or fail. Single documents: `measures`.

Drift from the previous version is the population stability index: over the bins of a distribution with shares p (this
version) and q (the previous one), PSI = sum (p - q) ln(p / q), the symmetrised Kullback-Leibler
divergence (Jeffreys 1946). Below 0.1 nothing has changed, 0.1 to 0.25 is a change to look at, above it
the population is another one: the rule of thumb of Siddiqi, "Credit Risk Scorecards", 2006, chapter 9,
after Lewis, 1994. Meaning is not compared, only lengths, origins and characters.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd
import pyarrow as pa

from k2model.documents.counts import Counts
from k2model.documents.schema import ITEM_SCHEMA, source_file
from k2model.documents.tables import read_table, with_nulls
from k2model.recipe.mixtures import Available, portions
from k2model.recipe.schema import MixtureEntry
from k2model.validation.documents.counts import documents_and_tokens

FLOOR = 1e-4  # least share of a bin: a bin that one version lacks would be infinitely far

#: Feature -> where its amounts are in the statistics of a split, and which amount is shared out.
FEATURES = {
    "length": ("lengths", "histogram"),
    "source": ("by_source", "bytes"),
    "domain": ("by_domain", "bytes"),
    "licence": ("by_licence", "bytes"),
    "duplicates": ("by_duplicates", "text_bytes"),
    "characters": ("character_classes", ""),
}


class _Bytes(TypedDict):
    bytes: float


class _TextBytes(TypedDict):
    text_bytes: float


class _Lengths(TypedDict):
    histogram: dict[str, float]


class _OfTrain(TypedDict):
    lengths: _Lengths
    by_source: dict[str, _Bytes]
    by_domain: dict[str, _Bytes]
    by_licence: dict[str, _Bytes]
    by_duplicates: dict[str, _TextBytes]
    character_classes: dict[str, float]


class Compared(TypedDict):
    """What `FEATURES` read of a `statistics.json`."""

    train: _OfTrain


@dataclass(frozen=True)
class Drift:
    """One feature: its index and the bin that contributes most, with its shares then and now."""

    feature: str
    psi: float
    bin: str
    before: float
    after: float


def drift(statistics: Mapping[str, Any], previous: Mapping[str, Any]) -> list[Drift]:
    """Of the training documents of two `statistics.json`, a row for each of `FEATURES`."""
    return [
        population_stability(
            feature, _amounts_of(statistics["train"], feature), _amounts_of(previous["train"], feature)
        )
        for feature in FEATURES
    ]


def population_stability(feature: str, now: Mapping[str, float], before: Mapping[str, float]) -> Drift:
    """PSI over the bins of both; shares below `FLOOR` count as it. Nothing has drifted nowhere."""
    names = sorted(now.keys() | before.keys())
    total_now, total_before = sum(now.values()), sum(before.values())
    if not total_now or not total_before:
        return Drift(feature, 0.0, "", 0.0, 0.0)
    parts = {}
    for name in names:
        p, q = now.get(name, 0) / total_now, before.get(name, 0) / total_before
        parts[name] = (max(p, FLOOR) - max(q, FLOOR)) * log(max(p, FLOOR) / max(q, FLOOR))
    most = max(names, key=lambda name: parts[name])
    psi = round(sum(parts.values()), 12)
    return Drift(feature, psi, most, before.get(most, 0) / total_before, now.get(most, 0) / total_now)


def _amounts_of(split: Mapping[str, Any], feature: str) -> dict[str, float]:
    table, amount = FEATURES[feature]
    if table == "lengths":
        return dict(split[table][amount])
    return {name: one[amount] if amount else one for name, one in split[table].items()}


def schema_rows(name: str, schema: pa.Schema, expected: pa.Schema) -> Iterator[dict[str, str]]:
    """A row for each column of file `split/stem/part`: its `type` and the type `expected` ("-" = none)."""
    found = {field.name: _type_name(field.type) for field in schema}
    wanted = {field.name: _type_name(field.type) for field in expected}
    shard, _, part = name.rpartition("/")
    for column in sorted(found.keys() | wanted.keys()):
        types = {"type": found.get(column, "-"), "expected": wanted.get(column, "-")}
        yield {"shard": shard, "part": part, "column": column, **types}


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
    """One row per source of both splits: documents of `repeated_ids`, with one such `id` and where it is."""
    names = [f"{split}/{stem}" for split in ("train", "heldout") for stem in statistics[split]["by_source"]]
    return pd.DataFrame([{"shard": name, **_named(statistics["repeated_ids"], name, "repeated_ids")} for name in names])


def item_frame(folder: Path) -> pd.DataFrame:
    """One row per evaluation item with its `shard`, and `copies` of its id within the family."""
    paths = sorted(folder.glob("*.parquet"))
    frames = [read_table(path, with_nulls(ITEM_SCHEMA)).to_pandas().assign(shard=path.stem) for path in paths]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return frame.assign(copies=frame.groupby(["shard", "id"])["id"].transform("size")) if len(frame) else frame


def source_frame(counts: Mapping[str, Counts]) -> pd.DataFrame:
    """One row per source: documents `read`, `quarantined` of them and the fraction."""
    numbers = ((stem, one["read"], one["quarantined"]) for stem, one in counts.items())
    rows = [(stem, read, aside, aside / max(read, 1)) for stem, read, aside in numbers]
    return pd.DataFrame(rows, columns=["source", "read", "quarantined", "quarantined_fraction"])


def account_frame(
    accounts: Mapping[str, Mapping[str, Mapping[str, int]]], counts: Mapping[str, Counts]
) -> pd.DataFrame:
    """One row per source and part that were read from files: rows `read`, those in the files of `train`, `heldout` and
    `quarantine`, `sampled_out`, and those of which nobody knows.

    accounts: what ingest said, stem -> part -> `rows`, `documents`, `heldout`, `sampled_out`, `quarantined`. counts: of
    stems, with `rows/<split>/<part>` as they lie in the files. What ingest says is in a file and is not there is as
    unaccounted for as what it never said.
    """
    made = []
    said_of = {"train": "documents", "heldout": "heldout", "quarantine": "quarantined"}
    for stem, parts in accounts.items():
        there = counts.get(stem, Counts())
        named = {name.rpartition("/")[2] for name in there if name.startswith("rows/")}
        for part in sorted(parts.keys() | named):
            said: Mapping[str, int] = parts.get(part, {})
            files = {split: there.get(f"rows/{split}/{part}", 0) for split in said_of}
            read, sampled = said.get("rows", 0), said.get("sampled_out", 0)
            moved = sum(abs(files[split] - said.get(name, 0)) for split, name in said_of.items())
            unaccounted = max(abs(read - sampled - sum(files.values())), moved)
            made.append({"source": stem, "part": part, "read": read, **files, "sampled_out": sampled,
                         "unaccounted": unaccounted})  # fmt: skip
    return pd.DataFrame(made)


def mixture_frame(
    mixtures: Mapping[str, Sequence[MixtureEntry]], phase_tokens: Mapping[str, int], counts: Mapping[str, Counts]
) -> pd.DataFrame:
    """One row per phase and entry of its mixture: `share` wanted, `documents`, `tokens`, `epochs` needed.

    `counts` by stem of source. `epochs` is null where the phase's length is not in `phase_tokens`.
    """
    rows = []
    entries = {(entry.source, entry.bucket) for mixture in mixtures.values() for entry in mixture}
    have = {key: documents_and_tokens(counts.get(source_file(key[0]), {}), key[1]) for key in sorted(entries)}
    available = {key: Available(tokens, tokens) for key, (_, tokens) in have.items()}
    for phase, mixture in mixtures.items():
        length = phase_tokens.get(phase, 1)
        for portion in portions(mixture, length, available):
            documents, tokens = have[portion.entry.source, portion.entry.bucket]
            epochs = (portion.share or 0.0) * length / max(tokens, 1) if phase in phase_tokens else None
            rows.append((phase, portion.entry.name, portion.share, documents, tokens, epochs))
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
