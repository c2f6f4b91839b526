"""What a job leaves behind: the files of each part (trained on, held out, rejected), its counts, and the report.

A count's name is a path: `family/NAME/kept`, `reason/NAME`, `unfinished/NAME`; counts of parts are summed by name.
`synthesis.json` is the sum with rates; it is a function of the job and what its teacher said. What a run did besides
(retries, replays, seconds) stands in `attachments/teacher.json`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.counts import Counts
from k2model.documents.schema import DOCUMENT_SCHEMA, part_path
from k2model.synthesis.config import EndpointConfig, SynthesisConfig, TeacherKind
from k2model.synthesis.conversation import Sample, Usage

REPORT = "synthesis.json"
SPLITS = ("train", "heldout", "rejected")
ROW_GROUP = 1_024
TOTALS = ("cases", "asked", "answered", "unfinished", "samples", "kept", "heldout", "rejected", "characters")
REJECTED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("detail", pa.string(), nullable=False)
)


def count(counts: Counts, family: str, *names: str) -> None:
    """Adds one to each of `names`, over all and of its family."""
    for name in names:
        counts[name] += 1
        counts[f"family/{family}/{name}"] += 1


def count_sample(counts: Counts, family: str, sample: Sample) -> None:
    """A sample that was judged: kept, or rejected for its reason."""
    if sample.reason:
        count(counts, family, "samples", "rejected", f"reason/{sample.reason}")
        return
    count(counts, family, "samples", "kept")
    counts["heldout"] += sample.heldout
    counts["characters"] += len(sample.document["text"])


def write_report(
    folder: Path, config: SynthesisConfig, teacher: Mapping[str, Any], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Write `synthesis.json` into `folder` from the summed counts of all parts; returns what it says."""
    report = {
        "job": config.name,
        "kind": config.kind.value,
        "source": config.source,
        "wanted": config.count,
        "complete": counts.get("cases", 0) == config.count and not counts.get("unfinished", 0),
        "teacher": dict(teacher),
        **{name: counts.get(name, 0) for name in TOTALS},
        "kept_rate": _rate(counts.get("kept", 0), counts.get("samples", 0)),
        "tokens": _tokens(config, counts),
        "rejected_by_reason": _below(counts, "reason/"),
        "unfinished_by_reason": _below(counts, "unfinished/"),
        "families": {name: _family(counts, name) for name in _families(counts)},
    }
    if config.queries_sha256:
        report["queries_sha256"] = config.queries_sha256
    (folder / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return report


def cost(endpoint: EndpointConfig, usage: Usage) -> float:
    """In the currency of the endpoint's prices, which are per million tokens."""
    priced = usage.prompt_tokens * endpoint.price_prompt + usage.completion_tokens * endpoint.price_completion
    return priced / 1e6


def _tokens(config: SynthesisConfig, counts: Mapping[str, int]) -> dict[str, float]:
    usage = Usage(counts.get("prompt_tokens", 0), counts.get("completion_tokens", 0))
    tokens: dict[str, float] = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
    if config.teacher == TeacherKind.ENDPOINT:
        tokens["cost"] = round(cost(config.endpoint, usage), 6)
    return tokens


def _family(counts: Mapping[str, int], name: str) -> dict[str, Any]:
    start = f"family/{name}/"
    row: dict[str, Any] = {
        what: counts.get(start + what, 0) for what in ("cases", "asked", "answered", "samples", "kept", "rejected")
    }
    row["kept_rate"] = _rate(row["kept"], row["samples"])
    return row | {"rejected_by_reason": _below(counts, f"{start}reason/")}


def _families(counts: Mapping[str, int]) -> list[str]:
    names = (
        name.removeprefix("family/").split("/reason/")[0].rsplit("/", 1)
        for name in counts
        if name.startswith("family/")
    )
    return sorted({name[0] if name[-1] in (*TOTALS,) else "/".join(name) for name in names})


def _below(counts: Mapping[str, int], start: str) -> dict[str, int]:
    return {name.removeprefix(start): count for name, count in sorted(counts.items()) if name.startswith(start)}


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


class PartFiles:
    """Writes samples to the file of their split."""

    def __init__(self, folder: Path, source: str, part: int):
        schemas = {split: REJECTED_SCHEMA if split == "rejected" else DOCUMENT_SCHEMA for split in SPLITS}
        self._rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
        self._writers = {split: _writer(part_path(folder, split, source, part), schemas[split]) for split in SPLITS}

    def __enter__(self) -> "PartFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for split, writer in self._writers.items():
            self._flush(split)
            writer.close()

    def write(self, sample: Sample) -> None:
        split = "rejected" if sample.reason else "heldout" if sample.heldout else "train"
        why = {"reason": sample.reason, "detail": sample.detail} if sample.reason else {}
        self._rows[split].append({**sample.document, **why})
        if len(self._rows[split]) == ROW_GROUP:
            self._flush(split)

    def _flush(self, split: str) -> None:
        writer = self._writers[split]
        if self._rows[split]:
            writer.write_table(pa.Table.from_pylist(self._rows[split], schema=writer.schema))
            self._rows[split].clear()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")
