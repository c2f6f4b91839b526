"""The report's sections on the run itself: training, timings, lineage, provenance."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from k2model.recipe.schema import PhaseConfig, Recipe
from k2model.reporting.content import ReportContent
from k2model.reporting.timeline import Timeline
from k2model.training.log import Intervention, StepMetrics


@dataclass(frozen=True)
class PhaseLine:
    """A row of the training table. Times are of the logged steps, start-up and checkpoints excluded."""

    phase: PhaseConfig
    tokens_seen: int
    lr_first: float
    lr_peak: float
    lr_final: float
    loss_final: float | None
    seconds: float
    seconds_per_step: float
    tokens_per_second: float
    mfu: float | None


def phase_line(phase: PhaseConfig, metrics: list[StepMetrics], timeline: Timeline) -> PhaseLine:
    seconds = [metric.seconds for metric in metrics if metric.seconds > 0]
    tail = metrics[-max(1, len(metrics) // 10) :]
    typical = median(seconds) if seconds else 0.0
    return PhaseLine(
        phase=phase,
        tokens_seen=timeline.end(phase.name),
        lr_first=metrics[0].lr if metrics else 0.0,
        lr_peak=max((metric.lr for metric in metrics), default=0.0),
        lr_final=metrics[-1].lr if metrics else 0.0,
        loss_final=fmean(metric.loss for metric in tail) if metrics else None,
        seconds=sum(seconds),
        seconds_per_step=typical,
        tokens_per_second=phase.tokens_per_step / typical if typical else 0.0,
        mfu=median(metric.mfu for metric in metrics) if metrics else None,
    )


@dataclass(frozen=True)
class UndoneLine:
    """A row of the table of interventions."""

    phase: str
    steps: str
    resumed_from: int
    reason: str
    before: float | None
    within: float | None
    after: float | None


def undone_lines(interventions: Mapping[str, list[Intervention]]) -> list[UndoneLine]:
    """Of all phases in order; `within` is the highest loss of the spike that was a number."""
    return [
        UndoneLine(
            phase, f"{one.first_step}–{one.last_step}", one.resumed_from, one.reason, one.before,
            max((loss for loss in one.losses if loss is not None), default=None), one.after,
        )
        for phase, found in interventions.items()
        for one in found
    ]  # fmt: skip


@dataclass(frozen=True)
class LineageLine:
    name: str
    step: str
    version: str
    identity: str
    digest: str
    size: int
    seconds: float
    inputs: tuple[tuple[str, str, str], ...]  # (role, name in this lifecycle or kind, digest)


def lineage_lines(content: ReportContent) -> list[LineageLine]:
    """Every artifact in the order it was made, its inputs by the names used here."""
    names = {(ref.kind, ref.digest): name for name, ref in content.result.artifacts.items()}
    lines = []
    for name, record in content.records.items():
        inputs = tuple(
            (role, names.get((item["kind"], item["digest"]), item["kind"]), item["digest"])
            for role, item in record["inputs"].items()
        )
        lines.append(
            LineageLine(
                name, record["step"], str(record["version"]), record["identity"], record["digest"],
                int(record["bytes"]), _seconds(record), inputs,
            )
        )  # fmt: skip
    return lines


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
        note("Lock file", _lock(made.get("lock_file")))
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


@dataclass(frozen=True)
class TimePart:
    """One step; `share` of the longest line of the figure."""

    name: str
    kind: str
    seconds: float
    share: float


@dataclass(frozen=True)
class TimeLine:
    """A step of the data, or a phase with its four steps."""

    label: str
    seconds: float
    parts: tuple[TimePart, ...]


def timings(content: ReportContent) -> list[TimeLine]:
    """Seconds of every step in the order of the pipeline, those of a phase on one line."""
    lines: dict[str, list[tuple[str, float]]] = {}
    for name, record in content.records.items():
        lines.setdefault(name.split("/")[0], []).append((name, _seconds(record)))
    longest = max(sum(seconds for _, seconds in parts) for parts in lines.values()) or 1.0
    return [
        TimeLine(
            label,
            sum(seconds for _, seconds in parts),
            tuple(
                TimePart(name, _KINDS.get(name.rpartition("/")[2], "data"), seconds, seconds / longest)
                for name, seconds in parts
            ),
        )
        for label, parts in lines.items()
    ]


def parameters(recipe: Recipe) -> int:
    from k2model.model import count_parameters

    return count_parameters(recipe.model)


def model_facts(recipe: Recipe) -> list[tuple[str, str]]:
    """The architecture in one line each."""
    model = recipe.model
    return [
        ("Parameters", f"{parameters(recipe):,}"),
        ("Layers", str(model.n_layers)),
        ("Hidden size", f"{model.hidden_size:,}"),
        ("Heads", f"{model.n_heads} query, {model.n_kv_heads} key/value, {model.head_dim} wide"),
        ("Feed-forward", f"{model.ffn_size:,} (SwiGLU)"),
        ("Vocabulary", f"{model.vocab_size:,}"),
    ]


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["provenance"].get("seconds", 0.0))


def _lock(lock: Mapping[str, str] | None) -> str:
    return f"{lock['path']}, sha256 {lock['sha256'][:16]}" if lock else ""
