"""Score rows, gates and the terminal's table."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from k2model.artifacts import Identity, Store
from k2model.artifacts.result import LifecycleResult
from k2model.errors import EvaluationError
from k2model.evals.clean_scores import CleanScore
from k2model.evals.scores import ScoreRow, load_scores, read_scores
from k2model.recipe.evaluation import BenchmarkConfig
from k2model.recipe.schema import GateConfig
from k2model.registry.gates import gate_results
from k2model.release.card import model_card
from k2model.reporting.content import read_content
from k2model.reporting.report import render
from k2model.reporting.scores import parse, score_order, scores_csv
from k2model.reporting.summary import data_summary, lifecycle_summary, summary_table


def row(phase: str, score: str, value: float) -> ScoreRow:
    return ScoreRow(phase, score, value, 100, value, value, "accuracy")


def test_repeats_are_named_after_what_they_repeat_and_follow_it() -> None:
    rows = [row("a", name, 0.5) for name in ("exam/maj@16", "exam/pass@16", "exam/pass@2", "exam")]
    assert list(score_order(rows)) == ["exam", "exam/pass@2", "exam/maj@16", "exam/pass@16"]
    assert parse("exam/pass@2").title == "exam, pass@2" and not parse("exam/pass@2").variant
    forced = parse("aime_like/high@512/pass@8")
    assert (forced.mode_title, forced.variant, forced.asked) == ("high effort, pass@8", "512", "high")
    assert parse("aime_like/high").mode == "high" != parse("aime_like/high/pass@8").mode


ROWS = [row("a", "arithmetic/think", 0.75), row("a", "arithmetic/direct", 0.5), row("b", "tools/exact", 0.9)]


def rendered(table: object) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_load_scores_keeps_order_and_values(store: Store, result: LifecycleResult) -> None:
    rows = load_scores(store, [phase.scores for phase in result.phases])
    assert [r.phase for r in rows] == sorted((r.phase for r in rows), key=[p.phase.name for p in result.phases].index)
    assert {(r.phase, r.score): r.value for r in rows}["sft", "tools/result"] == 0.93


def test_unknown_fields_are_ignored_missing_ones_named() -> None:
    good = {"phase": "a", "score": "s", "value": 1, "n": 2, "low": 0, "high": 1, "unit": "accuracy"}
    content = json.dumps([good | {"extra": 1}]).encode()
    assert read_scores(content, "scores.json") == [ScoreRow("a", "s", 1, 2, 0, 1, "accuracy")]
    del good["low"]
    with pytest.raises(EvaluationError, match="row 0 lacks low"):
        read_scores(json.dumps([good]).encode(), "scores.json")


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (GateConfig("a", "arithmetic/think", 0.75), 0.75, True),
        (GateConfig("a", "arithmetic/think", 0.76), 0.75, False),
        (GateConfig("a", "arithmetic/think", 0.25, minus="arithmetic/direct"), 0.25, True),
        (GateConfig("a", "arithmetic/think", 0.30, minus="arithmetic/direct"), 0.25, False),
        (GateConfig("b", "arithmetic/think", 0.0), None, False),
        (GateConfig("a", "arithmetic/think", 0.0, minus="arithmetic/low"), None, False),
        (GateConfig("a", "arithmetic/think", 0.0, minus="chance"), None, False),
    ],
)
def test_gates(gate: GateConfig, value: float | None, passed: bool) -> None:
    (found,) = gate_results([gate], ROWS)
    assert (found.value, found.passed) == (value, passed)


def test_table_has_scores_by_phase_and_gates_below() -> None:
    text = rendered(summary_table(ROWS, ["b", "a"], [GateConfig("a", "arithmetic/think", 0.9)]))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert ["score", "b", "a"] in lines
    assert ["arithmetic/think", "0.75"] in lines
    assert ["tools/exact", "0.90"] in lines
    assert lines[-1] == ["a", "arithmetic/think", "≥", "0.90", "✗", "0.75"]


def test_a_benchmark_of_the_recipes_own_is_shown_in_its_group_everywhere(store: Store, result: LifecycleResult) -> None:
    own = [
        replace(row("sft", "law/civil", 0.4375), group="Law", completed=0.5, cut_off=3, too_long=1, chance=0.25),
        replace(row("sft", "anatomy", 0.5), group="Knowledge", cut_off=0, too_long=0),
    ]
    text = rendered(summary_table([*ROWS, *own], ["a", "b", "sft"], [GateConfig("sft", "law/civil", 0.1, "chance")]))
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert [name for name in names if name in ("anatomy", "arithmetic/think", "tools/exact", "law/civil")] == [
        "anatomy", "arithmetic/think", "tools/exact", "law/civil",
    ]  # fmt: skip
    assert "✓ 0.19" in text
    content = read_content(store, result, {})
    shown = [*content.scores, replace(own[0], overlap=0.25), own[1]]
    clean = content.clean | {("sft", "law/civil"): CleanScore(16, 4, 0, 12, 0.333333, 0.138, 0.609, 0.75)}
    header, *lines = scores_csv(shown, clean).splitlines()
    assert header.endswith(
        ",overlap,group,completed,cut_off,too_long,unscored,clean_n,clean_value,clean_low,clean_high"
    )
    assert lines[-2].endswith(",0.25,0.25,Law,0.5,3,1,0,12,0.333333,0.138,0.609") and lines[-1].endswith(",,,,")
    benchmark = BenchmarkConfig("law/civil", licence="CC0-1.0")
    evaluation = replace(result.recipe.evaluation, benchmarks=(benchmark,))
    owning = replace(result, recipe=replace(result.recipe, evaluation=evaluation))
    page = render(replace(content, result=owning, scores=shown, clean=clean))
    assert "<small>0.33 unseen</small><small>3% cut off</small>" in page
    assert page.index(">Tools<") < page.index(">Law<") and "3 cut off, 1 too long, 0.50 over the completed" in page
    assert 'data-score="law/civil"' in page and "law, civil" in page
    card = model_card(owning, shown, [], {})
    assert "| law/civil |  |" in card and "| law/civil | completion | exact | 0 | removed | CC0-1.0 |" in card
    assert "recipe's own" not in model_card(result, content.scores, [], {})


def test_table_leaves_variants_to_the_report(store: Store, result: LifecycleResult) -> None:
    text = rendered(lifecycle_summary(store, result))
    assert "retrieval/1024" in text and "@" not in text
    assert text.count("✓") == len(result.recipe.gates)


def test_what_was_kept_of_each_source_and_every_warning_is_told(
    store: Store, result: LifecycleResult, gates: dict[str, Identity]
) -> None:
    lines = [line.strip() for line in rendered(data_summary(store, result, gates)).splitlines() if line.strip()]
    prose = next(line for line in lines if line.startswith("prose"))
    assert prose.split()[1:6] == ["4.0", "MB", "720.0", "KB", "18.0%"]
    assert "quality 67.5%, exact duplicates 10.0%" in prose
    assert lines[-2:] == [
        "! sft/sequences_checks: composition/share_as_wanted not met by 1 of 3 of all (source='chat', share=0.02, "
        "share_wanted=0.1)",
        "change its <weight>",
    ]


def test_a_last_phase_without_gates_is_told(store: Store, result: LifecycleResult) -> None:
    told = "No gate is declared on sft: checkpoints are registered, but none is promoted to champion."
    assert told not in rendered(lifecycle_summary(store, result))
    others = tuple(gate for gate in result.recipe.gates if gate.phase != "sft")
    for gates in ((), others):
        ungated = replace(result, recipe=replace(result.recipe, gates=gates))
        assert told in rendered(lifecycle_summary(store, ungated))
        page, card = render(read_content(store, ungated, {})), model_card(ungated, [], [], {})
        assert told in page and page.count('<h3 id="gates">') == 1
        assert f"## Gates\n\n{told}\n" in card and told not in model_card(result, [], [], {})


def test_a_score_stands_beside_what_its_phase_had_seen(store: Store, result: LifecycleResult) -> None:
    content = read_content(store, result, {})
    found = content.clean["mid_1", "spelling/think"]
    assert (found.n, found.seen, found.clean_n, found.value, found.seen_value) == (1, 1, 0, None, 0.5)
    assert content.clean["mid_1", "arithmetic/think"].overlap == 0.0
    overlaps = {one.score: one.overlap for one in content.scores if one.phase == "mid_1"}
    assert overlaps["spelling/think"] == 1.0 and overlaps["arithmetic/think"] == 0.0
    assert overlaps["loss/prose"] is None and overlaps["code/next_line"] is None  # whose items are not kept
