"""The report's sections on the run itself: training, timings, lineage, provenance; lines as the template shows them."""

from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

from k2model.model import count_parameters
from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.reporting.content import ReportContent
from k2model.reporting.timeline import Timeline
from k2model.training.log import Intervention, StepMetrics

Shown = dict[str, Any]


def phase_line(phase: PhaseConfig, metrics: list[StepMetrics], timeline: Timeline) -> Shown:
    """A row of the training table. Times are of the logged steps, start-up and checkpoints excluded."""
    seconds = [metric.seconds for metric in metrics if metric.seconds > 0]
    tail = metrics[-max(1, len(metrics) // 10) :]
    typical = median(seconds) if seconds else 0.0
    return {
        "phase": phase,
        "tokens_seen": timeline.end(phase.name),
        "lr_peak": max((metric.lr for metric in metrics), default=0.0),
        "lr_final": metrics[-1].lr if metrics else 0.0,
        "loss_final": fmean(metric.loss for metric in tail) if metrics else None,
        "seconds": sum(seconds),
        "seconds_per_step": typical,
        "tokens_per_second": phase.tokens_per_step / typical if typical else 0.0,
        "mfu": median(metric.mfu for metric in metrics) if metrics else None,
    }


def undone_lines(interventions: Mapping[str, list[Intervention]]) -> list[Shown]:
    """The interventions of all phases in order; `within` is the highest loss of the spike that was a number."""
    return [
        {
            "phase": phase,
            "steps": f"{one.first_step}–{one.last_step}",
            "resumed_from": one.resumed_from,
            "reason": one.reason,
            "before": one.before,
            "within": max((loss for loss in one.losses if loss is not None), default=None),
            "after": one.after,
        }
        for phase, found in interventions.items()
        for one in found
    ]


def lineage_lines(content: ReportContent) -> list[Shown]:
    """Every artifact in the order it was made; `inputs` are (role, name in this lifecycle or kind, digest)."""
    return [
        {
            **record,
            "name": name,
            "seconds": _seconds(record),
            "inputs": [
                (role, content.lineage.name((item["kind"], item["digest"])), item["digest"])
                for role, item in record["inputs"].items()
            ],
        }
        for name, record in content.records.items()
    ]


def provenance_lines(records: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Distinct values over all artifacts: an artifact kept from an earlier run may have its own commit."""
    found: dict[str, dict[str, None]] = {}

    def note(label: str, value: object) -> None:
        if value:
            found.setdefault(label, {})[str(value)] = None

    for record in records.values():
        made = record["provenance"]
        git = made.get("git") or {}
        note("Commit", git.get("commit", "") + (" (with local changes)" if git.get("dirty") else ""))
        if lock := made.get("lock_file"):
            note("Lock file", f"{lock['path']}, sha256 {lock['sha256'][:16]}")
        note("Python", made.get("python"))
        note("Platform", made.get("platform"))
        note("Host", made.get("host"))
        note("Packages", ", ".join(f"{name} {version}" for name, version in (made.get("packages") or {}).items()))
    starts = [record["provenance"]["started"] for record in records.values() if record["provenance"].get("started")]
    ends = [record["provenance"]["ended"] for record in records.values() if record["provenance"].get("ended")]
    if starts and ends:
        note("Made", f"{min(starts)} to {max(ends)}")
    return [(label, "; ".join(values)) for label, values in found.items()]


def total_seconds(content: ReportContent) -> float:
    return sum(_seconds(record) for record in content.records.values())


_KINDS = {"sequences": "pack", "checkpoint": "train", "export": "export", "scores": "evaluate"}


def timings(content: ReportContent) -> list[Shown]:
    """Seconds of every step in the order of the pipeline, those of a phase on one line.

    `share` of a part is of the longest line.
    """
    lines: dict[str, dict[str, float]] = {}
    for name, record in content.records.items():
        lines.setdefault(name.split("/")[0], {})[name] = _seconds(record)
    longest = max(sum(parts.values()) for parts in lines.values()) or 1.0
    return [
        {
            "label": label,
            "seconds": sum(parts.values()),
            "parts": [
                {
                    "name": name,
                    "kind": _KINDS.get(name.rpartition("/")[2], "data"),
                    "seconds": one,
                    "share": one / longest,
                }
                for name, one in parts.items()
            ],
        }
        for label, parts in lines.items()
    ]


def model_facts(recipe: Recipe) -> list[tuple[str, str]]:
    """The architecture in one line each."""
    model = recipe.model
    return [
        ("Parameters", f"{count_parameters(model):,}"),
        ("Layers", str(model.n_layers)),
        ("Hidden size", f"{model.hidden_size:,}"),
        ("Heads", f"{model.n_heads} query, {model.n_kv_heads} key/value, {model.head_dim} wide"),
        ("Feed-forward", f"{model.ffn_size:,} (SwiGLU)"),
        ("Vocabulary", f"{model.vocab_size:,}"),
    ]


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["provenance"].get("seconds", 0.0))
