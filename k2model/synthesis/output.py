"""What a job leaves behind: the files of each part (trained on, held out, rejected), its counts, and the report.

A count's name is a path: `family/NAME/kept`, `reason/NAME`, `unfinished/NAME`; counts of parts are summed by name.
`synthesis.json` is the sum with rates; it is a function of the job and what its teacher said. What a run did besides
(retries, replays, seconds, money) stands in `attachments/teacher.json`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from k2model.documents.counts import Counts
from k2model.documents.schema import DOCUMENT_SCHEMA, part_path
from k2model.recipe.synthesis import EndpointConfig, SynthesisConfig
from k2model.synthesis.conversation import Sample, Usage

REPORT = "synthesis.json"
RUN_STATISTICS = "attachments/teacher.json"
SPLITS = ("train", "heldout", "rejected")
ROW_GROUP = 1_024
TOTALS = ("cases", "asked", "answered", "unfinished", "samples", "kept", "heldout", "rejected", "characters")
FAMILY_TOTALS = ("cases", "asked", "answered", "samples", "kept", "rejected")
REJECTED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("detail", pa.string(), nullable=False)
)


class SynthesisReport(TypedDict):
    """What others read of `synthesis.json`."""

    kept: int
    rejected_by_reason: dict[str, int]


def count(counts: Counts, family: str, *names: str) -> None:
    """Adds one to each of `names`, over all and of its family."""
    counts.update(start + name for start in ("", f"family/{family}/") for name in names)


def write_report(
    folder: Path, config: SynthesisConfig, teacher: Mapping[str, Any], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Write `synthesis.json` into `folder` from the summed counts of all parts; returns what it says."""
    counts = Counts(counts)
    usage = Usage(counts["prompt_tokens"], counts["completion_tokens"])
    tokens = {"prompt": usage.prompt_tokens, "completion": usage.completion_tokens}
    families = sorted({name.split("/")[0] for name in counts.below("family")})
    report = {
        "job": config.name,
        "kind": config.kind.value,
        "source": config.source,
        "wanted": config.count,
        "complete": counts["cases"] == config.count and not counts["unfinished"],
        "teacher": dict(teacher),
        **_account(counts, TOTALS),
        "tokens": tokens,
        "unfinished_by_reason": counts.below("unfinished"),
        "families": {name: _account(Counts(counts.below(f"family/{name}")), FAMILY_TOTALS) for name in families},
    }
    if config.queries_sha256:
        report["queries_sha256"] = config.queries_sha256
    (folder / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return report


def _account(counts: Counts, totals: tuple[str, ...]) -> dict[str, Any]:
    """The counts `totals`, the share of samples that were kept (None without any), and why the others were not."""
    rate = round(counts["kept"] / counts["samples"], 6) if counts["samples"] else None
    by_reason = counts.below("reason")
    return {**{name: counts[name] for name in totals}, "kept_rate": rate, "rejected_by_reason": by_reason}


def cost(endpoint: EndpointConfig, usage: Usage) -> float:
    """In the currency of the endpoint's prices, which are per million tokens."""
    priced = usage.prompt_tokens * endpoint.price_prompt + usage.completion_tokens * endpoint.price_completion
    return priced / 1e6


@contextmanager
def part_files(folder: Path, source: str, part: int) -> Iterator[Callable[[Sample], None]]:
    """Gives a function that writes a sample to the part's file of its split; each split has a file, if of no row."""
    rows: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    writers: dict[str, pq.ParquetWriter] = {}

    def flush(split: str) -> None:
        if rows[split]:
            writers[split].write_table(pa.Table.from_pylist(rows[split], schema=writers[split].schema))
            rows[split].clear()

    def write(sample: Sample) -> None:
        split = "rejected" if sample.reason else "heldout" if sample.heldout else "train"
        why = {"reason": sample.reason, "detail": sample.detail} if sample.reason else {}
        rows[split].append({**sample.document, **why})
        if len(rows[split]) == ROW_GROUP:
            flush(split)

    with ExitStack() as opened:
        for split in SPLITS:
            path = part_path(folder, split, source, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            schema = REJECTED_SCHEMA if split == "rejected" else DOCUMENT_SCHEMA
            writers[split] = opened.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
            opened.callback(flush, split)
        yield write
