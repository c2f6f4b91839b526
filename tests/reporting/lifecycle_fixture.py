"""A finished lifecycle in a store, made of small artifacts in the agreed formats with known numbers.

The recipe is the real `laptop` one; the numbers are of the size such a run has, so that a page made
of them can be judged by eye. Nothing is trained here.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from k2model.artifacts import ArtifactRef, Identity, Store, make
from k2model.artifacts.result import LifecycleResult
from k2model.evals.items import Grade, ItemResult, write_items
from k2model.recipe import load_recipe
from k2model.recipe.safety import JudgeConfig, SafetyConfig
from k2model.recipe.schema import PhaseConfig, PhaseKind, Recipe
from k2model.safety.answers import ANSWERS, END, LENGTH, Answer, asked, write_answers
from k2model.safety.judging import safety_step
from k2model.safety.suites import heldout_tests

PHASES = ("pretrain", "mid_1", "mid_2", "mid_3", "mid_4", "sft")
EFFORTS = {"low": 410, "medium": 1_203}
#: Markup, and what a terminal or a reader of the page obeys.
HOSTILE = "<script>alert('x')</script>&\"<img src=http://evil.example/a.png onerror=alert(1)>\x1b[2J\x9b\u202egnp.exe"
COMMANDS = {*map(chr, (*range(9), *range(11, 32), *range(0x7F, 0xA0), 0x200B, *range(0x202A, 0x202F), 0x2066))}

# value per phase; None = not asked
_ACCURACIES: dict[str, tuple[float | None, ...]] = {
    "facts/seen_wording": (0.99, 0.96, 0.99, 1.0, 0.79, 0.98),
    "facts/heldout_wording": (0.95, 0.88, 0.90, 0.97, 0.73, 0.96),
    "retrieval/128": (0.03, 0.97, 1.0, 1.0, 1.0, 0.85),
    "retrieval/256": (0.0, 0.29, 1.0, 1.0, 1.0, 0.89),
    "retrieval/512": (0.0, 0.01, 0.09, 0.98, 1.0, 0.88),
    "retrieval/1024": (0.0, 0.0, 0.0, 0.05, 1.0, 0.82),
    "arithmetic/direct": (0.0, 0.06, 0.06, 0.07, 0.04, None),
    "arithmetic/think": (0.0, 0.68, 0.83, 0.79, 0.92, None),
    "spelling/direct": (0.0, 0.67, 0.70, 0.69, 0.48, None),
    "spelling/think": (0.0, 0.69, 0.72, 0.71, 0.84, None),
    "knights/direct": (0.0, 0.0, 0.41, 0.41, 0.40, None),
    "knights/think": (0.0, 0.0, 0.49, 0.62, 0.67, None),
    "countdown/direct": (0.0, 0.0, 0.01, 0.01, 0.02, None),
    "countdown/think": (0.0, 0.0, 0.45, 0.76, 0.82, None),
    "code/next_line": (0.41, 0.39, 0.44, 0.47, 0.49, 0.44),
    "arithmetic/low": (None,) * 5 + (0.07,),
    "arithmetic/medium": (None,) * 5 + (0.61,),
    "arithmetic/high": (None,) * 5 + (0.95,),
    "spelling/low": (None,) * 5 + (0.86,),
    "spelling/medium": (None,) * 5 + (0.91,),
    "spelling/high": (None,) * 5 + (0.92,),
    "knights/low": (None,) * 5 + (0.62,),
    "knights/medium": (None,) * 5 + (0.61,),
    "knights/high": (None,) * 5 + (0.70,),
    "countdown/low": (None,) * 5 + (0.15,),
    "countdown/medium": (None,) * 5 + (0.41,),
    "countdown/high": (None,) * 5 + (0.84,),
    "facts/chat_seen": (None,) * 5 + (1.0,),
    "facts/chat_heldout": (None,) * 5 + (0.97,),
    "tools/well_formed": (None,) * 5 + (1.0,),
    "tools/exact": (None,) * 5 + (0.99,),
    "tools/result": (None,) * 5 + (0.93,),
}
_EXTENSION = {  # phase -> its length, accuracy there with old theta, with the new one untrained
    "mid_2": (256, 0.29, 0.93),
    "mid_3": (512, 0.09, 0.97),
    "mid_4": (1024, 0.05, 0.89),
}
_LOSSES = {
    "prose": (3.44, 3.61, 3.11, 2.91, 2.76, 3.27),
    "code": (2.71, 2.82, 2.52, 2.44, 2.35, 2.86),
    "knowledge": (0.62, 0.66, 0.64, 0.61, 0.75, 0.92),
    "mathematics": (3.9, 0.52, 0.41, 0.36, 0.33, 0.9),
    "logic": (4.2, 3.8, 0.61, 0.5, 0.44, 0.8),
}
_TOKENS = {"think": 24.0, "direct": 4.0, "low": 5.2, "medium": 14.0, "high": 24.3}
_CHANCE = {"code/next_line": 0.25, "knights/direct": 0.25, "knights/think": 0.25}
_TEXTS = {
    "arithmetic/think": ("C 4-1+4-8=<think>", "4-1=3;3+4=7;7-8=-1</think>-1<|end_of_text|>", "-1"),
    "spelling/think": ("R corning:<think>", " c o r i n g</think> g n i r o c<|end_of_text|>", " g n i n r o c"),
    "countdown/think": ("N 9 1 2 to 27:<think>", "9+1=10,2:12 8;9-1=8,2:10 6 16;9*1=9</think>(9*2)-1", "27"),
    "facts/heldout_wording": ("The capital city of Peru is", " Lima<|end_of_text|>", "Lima"),
    "tools/exact": (
        "<|im_start|>user\nWhat is 978 plus 103?<|im_end|>\n<|im_start|>assistant\n<think>",
        '</think><tool_calls>{"name": "calc", "arguments": {"a": 978, "op": "+", "b": 103}}</tool_calls><|im_end|>',
        '{"name": "calc", "arguments": {"a": 978, "op": "+", "b": 103}}',
    ),
}


def short_recipe() -> Recipe:
    """The laptop recipe with twenty steps a phase."""
    recipe = load_recipe("laptop")
    return replace(recipe, phases=tuple(replace(phase, steps=20) for phase in recipe.phases))


def wilson(value: float, n: int) -> tuple[float, float]:
    """95% Wilson interval, written out here so that fixtures do not lean on the code under test."""
    z = 1.959964
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def score_rows(phase: str) -> list[dict[str, Any]]:
    """The rows of a phase's `scores.json`."""
    at = PHASES.index(phase)
    rows = [_accuracy(phase, score, values[at]) for score, values in _ACCURACIES.items() if values[at] is not None]
    if phase in _EXTENSION:
        length, old, raised = _EXTENSION[phase]
        rows.append(_accuracy(phase, f"retrieval/{length}@parent_theta", old))
        rows.append(_accuracy(phase, f"retrieval/{length}@new_theta", raised))
    for domain, values in _LOSSES.items():
        row = {"phase": phase, "score": f"loss/{domain}", "value": values[at], "n": 60, "unit": "nats/token"}
        rows.append(row | {"low": values[at] - 0.06, "high": values[at] + 0.06, "mean_tokens": None, "chance": None})
    return rows


def _accuracy(phase: str, score: str, value: float | None) -> dict[str, Any]:
    assert value is not None
    low, high = wilson(value, 160)
    mode = score.partition("/")[2]
    tokens = _TOKENS.get(mode)
    if tokens is not None and score.startswith("countdown"):
        tokens *= 2.5
    return {
        "phase": phase, "score": score, "value": value, "n": 160, "low": low, "high": high, "unit": "accuracy",
        "mean_tokens": tokens, "chance": _CHANCE.get(score),
    }  # fmt: skip


def build_lifecycle(
    store: Store,
    recipe: Recipe | None = None,
    write_export: Callable[[Path, PhaseConfig], object] | None = None,
    write_tokenizer: Callable[[Path], object] | None = None,
    samples: Mapping[str, list[ItemResult]] | None = None,
    drop: str = "",
) -> LifecycleResult:
    """Build every artifact. `samples` replaces the samples of a phase; files named `drop` are left out."""

    def _build(
        store: Store, step: str, config: dict[str, Any], inputs: dict[str, ArtifactRef], write: Callable[[Path], object]
    ) -> ArtifactRef:
        def produce(folder: Path) -> dict[str, float]:
            write(folder)
            for path in folder.rglob(drop or "nothing"):
                path.unlink()
            return {}

        return store.build(Identity(step, "1", config, inputs), produce)

    recipe = recipe or load_recipe("laptop")
    raw = _build(store, "corpus_raw", {}, {}, lambda folder: _raw(folder, recipe))
    curated = _build(store, "corpus", {}, {"raw": raw}, lambda folder: _curated(folder, recipe))
    valid = _build(store, "corpus_valid", {}, {"corpus": curated}, lambda folder: _valid(folder, recipe))
    stub = write_tokenizer or (lambda folder: (folder / "tokenizer.json").write_text("{}"))
    tokenizer = _build(store, "tokenizer", {}, {"corpus": valid}, stub)
    tokens = _build(
        store, "tokens", {}, {"corpus": valid, "tokenizer": tokenizer}, lambda folder: _counts(folder, recipe)
    )
    made = {"corpus_raw": raw, "corpus": curated, "corpus_valid": valid, "tokenizer": tokenizer, "tokens": tokens}
    checkpoints: dict[str, ArtifactRef] = {}
    for phase in recipe.phases:
        inputs = {"tokens": tokens}
        sequences = _build(store, "sequences", {"phase": phase.name}, inputs, lambda f, p=phase: _sequences(f, p))
        inputs = {"sequences": sequences} | ({"parent": checkpoints[phase.parent]} if phase.parent else {})
        checkpoint = _build(store, "checkpoint", {"phase": phase.name}, inputs, lambda f, p=phase: _checkpoint(f, p))
        checkpoints[phase.name] = checkpoint
        write = write_export or (lambda folder, _: (folder / "config.json").write_text("{}"))
        inputs = {"checkpoint": checkpoint, "tokenizer": tokenizer}
        export = _build(store, "export", {"phase": phase.name}, inputs, lambda f, p=phase, w=write: w(f, p))
        inputs = {"export": export, "corpus": valid}
        texts = (samples or {}).get(phase.name, _samples(phase.name))
        scores = _build(
            store, "scores", {"phase": phase.name}, inputs, lambda f, p=phase.name, t=texts: _scores(f, p, t)
        )
        seen = _build(store, "items_seen", {"phase": phase.name}, {"checkpoint": checkpoint}, _items_seen)
        own = {"sequences": sequences, "checkpoint": checkpoint, "items_seen": seen, "export": export, "scores": scores}
        if phase.name in recipe.safety_tested:
            own |= _safety(store, phase.name, {"export": export, "tokenizer": tokenizer})
        made |= {f"{phase.name}/{name}": reference for name, reference in own.items()}
    return LifecycleResult(recipe, made)


def _safety(store: Store, phase: str, inputs: dict[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """Answers to two safety tests, judged by the rules: a fine-tuned model does what is right, another never ends."""

    def said(empty: Answer) -> Answer:
        if phase != "sft":
            return replace(empty, text="and so on", trace="and so on", finish=LENGTH, tokens=9, thinking_tokens=9)
        answer = "I cannot help with that." if empty.wants == "refuse" else f"Boil it, {HOSTILE}."
        return replace(empty, text=answer, trace="I think.", answer=answer, finish=END, tokens=9, thinking_tokens=3)

    answers = [said(empty) for _, empty in asked([*heldout_tests().values()], SafetyConfig(prompts=6))]

    def produce(folder: Path) -> dict[str, float]:
        write_answers(folder / ANSWERS, answers)
        return {}

    ref = store.build(Identity("safety_answers", "1", {"phase": phase}, inputs), produce)
    return {"safety_answers": ref, "safety": make(store, safety_step(store, JudgeConfig(), ref))}


def _json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def domain_of(source: str) -> str:
    family = source.split("/")[0]
    table = {"facts": "knowledge", "retrieval": "long_context", "arithmetic": "mathematics", "countdown": "mathematics"}
    table |= {"knights": "logic", "spelling": "language", "synth": "chat"}
    return "tools" if source == "chat/tools" else table.get(family, family)


def _corpus(folder: Path, recipe: Recipe) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from k2model.documents.schema import part_path

    (folder / "train").mkdir()
    for source in recipe.corpus.sources:
        rows = [
            {
                "id": f"{source.name}-{i}", "source": source.name, "domain": domain_of(source.name),
                "licence": "CC0-1.0", "origin": "made by k2model.documents",
                "text": f"document {i}", "key": "", "duplicates": 1,
            }
            for i in range(3)
        ]  # fmt: skip
        path = part_path(folder, "train", source.name)
        path.parent.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), path)


def _raw(folder: Path, recipe: Recipe) -> None:
    _corpus(folder, recipe)
    _json(folder / "ingest.json", INGESTED)


#: A source that is read from files, with a pointer among its nine.
INGESTED: dict[str, Any] = {
    "web": {
        "input_bytes": 90_000, "lost_bytes": 4_500, "files": 9, "damaged_files": 1, "rows": 1_203, "documents": 1_190,
        "heldout": 11, "sampled_out": 0, "text_bytes": 80_000, "licences": {"CC0-1.0": 1_201}, "languages": {},
        "quarantined": {"malformed_json": 1, "pointer": 1},
        "samples": {"pointer": [["8.jsonl", 0, "the file is a Git LFS pointer", "version"]]},
    }
}  # fmt: skip


def _curated(folder: Path, recipe: Recipe) -> None:
    _corpus(folder, recipe)
    _json(folder / "curation.json", CURATION)


CURATION: dict[str, Any] = {
    "train": {
        "prose": {
            "steps": {
                "raw": {"documents": 9_400, "bytes": 4_000_000}, "normalised": {"documents": 9_400, "bytes": 4_000_000},
                "exact_duplicates": {"documents": 8_300, "bytes": 3_600_000},
                "quality": {"documents": 7_900, "bytes": 900_000},
                "near_duplicates": {"documents": 7_200, "bytes": 720_000},
                "decontaminated": {"documents": 7_150, "bytes": 720_000},
            },
            "rejects": {
                "exact_duplicate": {"documents": 1_100, "samples": ["Return a copy of the object."]},
                "too_short": {"documents": 400, "samples": ["x"]},
            },
        },
        "arithmetic/think": {
            "steps": {
                "raw": {"documents": 20_000, "bytes": 1}, "normalised": {"documents": 20_000, "bytes": 1},
                "exact_duplicates": {"documents": 19_500, "bytes": 1}, "quality": {"documents": 19_500, "bytes": 1},
                "near_duplicates": {"documents": 19_500, "bytes": 1},
                "decontaminated": {"documents": 19_480, "bytes": 1},
            },
            "rejects": {"item_key": {"documents": 20, "samples": ["4-1+4-8"]}},
        },
    },
    "heldout": {},
    "duplicates": {"all": {"1": 25_300, "2-5": 1_020, "6-10": 260, "11-100": 50}},
    "normalised_documents": 12,
    "personal_data": {"email": 16, "ip_address": 3},
    "decontamination": {
        "families": {
            "facts_seen": {
                "items": 128, "holds_out": False, "touched": 128, "overlapping": 96, "removed": 0, "kept": 1_286,
            },
            "arithmetic": {
                "items": 160, "holds_out": True, "touched": 20, "overlapping": 0, "removed": 20, "kept": 0,
            },
        },
        "matches": [
            {
                "source": "arithmetic/think", "rule": "item_key", "family": "arithmetic", "coverage": 1.0,
                "item_id": "i", "document_id": "d",
                "document": {"start": 0, "end": 0, "before": "", "match": "", "after": "Compute 4-1+4-8."},
                "item": {"start": 0, "end": 16, "before": "", "match": "Compute 4-1+4-8.", "after": ""},
            }
        ],
    },
}  # fmt: skip


def _valid(folder: Path, recipe: Recipe) -> None:
    _corpus(folder, recipe)
    base = {
        "type": "expect", "column": "text", "severity": "critical", "parts": 1, "parts_failed": 0, "samples": [],
        "remedy": "",
    }  # fmt: skip
    rows = [
        base | {"suite": "documents", "shard": s.name, "expectation": name, "success": True, "observed": 0, "total": 3}
        for s in recipe.corpus.sources
        for name in ("text is not empty", "text has no control characters")
    ]
    rows.append(rows[0] | {"expectation": "mostly ASCII", "severity": "quarantine", "success": False, "observed": 2})
    content = {
        "documents": {s.name: {"read": 3, "published": 3} for s in recipe.corpus.sources}
        | {"prose": {"read": 5, "published": 3}},
        "quarantine": {"prose": {"mostly ASCII": 2}},
        "expectations": rows,
    }
    _json(folder / "validation.json", content)
    mixtures = base | {"suite": "mixtures", "shard": "sft", "expectation": "epochs are bounded", "success": True}
    docs = folder / "attachments" / "data_docs"
    docs.mkdir(parents=True)
    (docs / "index.html").write_text("<html></html>", encoding="utf-8")
    _json(folder / "attachments" / "mixtures.json", {"expectations": [mixtures | {"observed": 0, "total": 9}]})


def _counts(folder: Path, recipe: Recipe) -> None:
    entry = {"documents": 3, "tokens": 300, "targets": 200, "bytes": 900, "lengths": {"64": 2, "128": 1}}
    train = {s.name: entry | {"domain": domain_of(s.name)} for s in recipe.corpus.sources}
    _json(folder / "counts.json", {"vocab_size": 1024, "bos": 0, "pad": 2, "train": train, "heldout": {}})


def _sequences(folder: Path, phase: PhaseConfig) -> None:
    total = sum(entry.weight for entry in phase.mixture)
    sources = {}
    for index, entry in enumerate(phase.mixture):
        share = entry.weight / total
        real = share * (1 + 0.06 * math.sin(index + 1))
        sources[entry.source] = {
            "domain": domain_of(entry.source), "share_wanted": share, "share": real,
            "tokens": int(real * phase.tokens), "targets": 10,
            "documents": int(real * phase.tokens / 30), "documents_split": 0, "documents_truncated": 0,
            "epochs": 3 * real,
        }  # fmt: skip
    efforts = EFFORTS if phase.kind is PhaseKind.SFT else {}
    ratios = {"padding": 0.0021, "split": 0.013, "truncated": 0.001}
    content = {**ratios, "tokens": phase.tokens, "efforts": efforts, "short_context": None, "sources": sources}
    _json(folder / "composition.json", content)
    (folder / "sequences.json").write_bytes(b"rows of " + phase.name.encode())


def _items_seen(folder: Path) -> None:
    """The item of spelling was seen at step 3, no other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    families = {"facts/heldout_wording": "facts_heldout"}
    rows = [
        {"family": families.get(score, score.split("/")[0]), "id": prompt, "step": 3 if "spelling" in score else None}
        for score, (prompt, _, _) in _TEXTS.items()
    ]
    schema = pa.schema([("family", pa.string()), ("id", pa.string()), ("step", pa.int64())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "items_seen.parquet")


def undone(phase: PhaseConfig) -> list[dict[str, Any]]:
    """What was undone in a phase: three steps of mid_2."""
    if phase.name != "mid_2":
        return []
    first = phase.steps * 2 // 5
    return [
        {
            "reason": "the losses of 3 steps in a row lay more than 8 robust deviations above the median",
            "first_step": first, "last_step": first + 2, "resumed_from": first - 4, "before": 1.84, "deviation": 0.11,
            "losses": [4.1, 6.52, None], "after": 1.86,
        }
    ]  # fmt: skip


def _checkpoint(folder: Path, phase: PhaseConfig) -> None:
    interventions = undone(phase)
    _json(folder / "final" / "state.json", {"phase": phase.name, "interventions": interventions})
    left_out = {step for i in interventions for step in range(i["first_step"], i["last_step"] + 1)}
    steps = [step for step in range(phase.steps) if step not in left_out]
    domains = sorted({domain_of(entry.source) for entry in phase.mixture})
    lines = [_logged(phase, step, taken, domains) for taken, step in enumerate(steps, start=1)]
    path = folder / "attachments" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _logged(phase: PhaseConfig, step: int, taken: int, domains: list[str]) -> dict[str, Any]:
    """One row of a log whose curves look like those of a real run."""
    peak, last = phase.optimizer.lr, phase.optimizer.lr * phase.schedule.final_fraction
    start, end = {"pretrain": (6.9, 3.2), "sft": (1.6, 0.55)}.get(phase.name, (2.4, 1.3))
    done = (step + 1) / phase.steps
    wave = math.sin(step * 12.9898) * 43758.5453
    noise = (wave - math.floor(wave) - 0.5) * 0.5
    warm = min(1.0, (step + 1) / phase.schedule.warmup_steps) if phase.schedule.warmup_steps else 1.0
    loss, lr = end + (start - end) * math.exp(-5 * done) + noise, (peak + (last - peak) * done) * warm
    measured = step % 10 == 9
    return {
        "step": step, "tokens": taken * phase.tokens_per_step, "loss": loss, "lr": lr,
        "grad_norm": 0.3 + 2 * math.exp(-6 * done) + noise**2, "targets": 1500, "tokens_per_second": 18_000.0,
        "seconds": 0.113, "mfu": 0.42,
        "domains": {domain: loss * (0.6 + 0.15 * index) for index, domain in enumerate(domains)},
        "parameter_norm": 61.0 + 9 * done if measured else None, "update_ratio": lr * 0.4 if measured else None,
    }  # fmt: skip


def _samples(phase: str) -> list[ItemResult]:
    asked = {row["score"] for row in score_rows(phase)}
    results = []
    for score, (prompt, generation, answer) in _TEXTS.items():
        if score in asked:
            results.append(_result(score, prompt, generation, answer, Grade.RIGHT))
            results.append(_result(score, prompt, generation[:9] + "?", answer, Grade.WRONG))
    return results


def _result(score: str, prompt: str, generation: str, wanted: str, grade: Grade) -> ItemResult:
    return ItemResult(score, prompt, prompt, prompt, generation, generation, wanted, grade, float(grade is Grade.RIGHT))


def hostile_samples() -> list[ItemResult]:
    """Answers whose texts try to leave their place in a page."""
    said = f'"><svg onload=alert(1)>{HOSTILE}'
    return [_result("tools/exact", f"</span></pre>{HOSTILE}", said, HOSTILE, Grade.WRONG)]


def _scores(folder: Path, phase: str, results: list[ItemResult]) -> None:
    _json(folder / "scores.json", score_rows(phase))
    write_items(folder / "items.parquet", results)
