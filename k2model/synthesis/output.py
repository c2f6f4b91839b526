"""The account of a job: what was asked, answered, kept and rejected, and why. Counts add up over parts.

A count's name is a path: `family/NAME/kept`, `reason/NAME`, `unfinished/NAME`. `synthesis.json` is the sum with
rates; it is a function of the job and what its teacher said. What a run did besides (retries, replays, seconds)
stands in `attachments/teacher.json`.

The three files of a part, written row group by row group: what is trained on, what is held out, what is rejected.
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
TOTALS = ("cases", "asked", "answered", "unfinished", "samples", "kept", "heldout", "rejected", "characters")


class Account:
    """Counts while a part runs."""

    def __init__(self) -> None:
        self.counts = Counts()

    def opened(self, family: str) -> None:
        self._add(family, "cases")

    def asked(self, family: str) -> None:
        self._add(family, "asked")

    def answered(self, family: str, usage: Usage) -> None:
        self._add(family, "answered")
        self.counts["prompt_tokens"] += usage.prompt_tokens
        self.counts["completion_tokens"] += usage.completion_tokens

    def unfinished(self, family: str, reason: str) -> None:
        self._add(family, "unfinished")
        self.counts[f"unfinished/{reason}"] += 1

    def judged(self, family: str, sample: Sample) -> None:
        self._add(family, "samples")
        if sample.reason:
            self._add(family, "rejected")
            self.counts[f"reason/{sample.reason}"] += 1
            self.counts[f"family/{family}/reason/{sample.reason}"] += 1
            return
        self._add(family, "kept")
        self.counts["heldout"] += sample.heldout
        self.counts["characters"] += len(sample.document["text"])

    def _add(self, family: str, what: str) -> None:
        self.counts[what] += 1
        self.counts[f"family/{family}/{what}"] += 1


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


SIDES = ("train", "heldout", "rejected")
ROW_GROUP = 1_024
REJECTED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("detail", pa.string(), nullable=False)
)


class PartFiles:
    """Writes samples to the file of their side."""

    def __init__(self, folder: Path, source: str, part: int):
        schemas = {side: REJECTED_SCHEMA if side == "rejected" else DOCUMENT_SCHEMA for side in SIDES}
        self._rows: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        self._writers = {side: _writer(part_path(folder, side, source, part), schemas[side]) for side in SIDES}

    def __enter__(self) -> "PartFiles":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for side, writer in self._writers.items():
            self._flush(side)
            writer.close()

    def write(self, sample: Sample) -> None:
        side = "rejected" if sample.reason else "heldout" if sample.heldout else "train"
        why = {"reason": sample.reason, "detail": sample.detail} if sample.reason else {}
        self._rows[side].append({**sample.document, **why})
        if len(self._rows[side]) == ROW_GROUP:
            self._flush(side)

    def _flush(self, side: str) -> None:
        writer = self._writers[side]
        if self._rows[side]:
            writer.write_table(pa.Table.from_pylist(self._rows[side], schema=writer.schema))
            self._rows[side].clear()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd")
