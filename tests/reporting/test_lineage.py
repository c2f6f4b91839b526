"""The drawing of a lineage, and how the report's figures read where phases branch or go on from one of their name."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from k2model.artifacts import Store
from k2model.artifacts.result import LifecycleResult
from k2model.evals.scores import ScoreRow
from k2model.recipe import load_recipe
from k2model.reporting import svg
from k2model.reporting.content import read_lineage, read_records
from k2model.reporting.figures_scores import capability_panels
from k2model.reporting.lineage import Lineage, grouped, lineage_figure
from k2model.reporting.lineage.graph import ordered, walk
from k2model.reporting.lineage.groups import MOST, Kind
from k2model.reporting.timeline import Timeline
from tests.inspect.life import SOURCE, Life


def boxes(figure: object) -> dict[str, tuple[float, float, float]]:
    """x, y and width of each box by its name."""
    drawn = str(figure).split('<g class="group">')[1:]
    found = {}
    for one in drawn:
        place = re.search(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)"', one)
        assert place, one
        found[one.split('class="box-name"')[1].split(">")[1].split("<")[0]] = tuple(map(float, place.groups()))
    return found  # type: ignore[return-value]


def test_of_many_sources_those_of_a_domain_are_one_box(tmp_path: Path) -> None:
    life = Life(Store.open(tmp_path / "store"))
    domains = ("prose", "code", "chat")
    sources = [SOURCE | {"name": f"{domains[n % 3]}/{n}", "domain": domains[n % 3]} for n in range(45)]
    sources += [SOURCE | {"name": f"{family}/{n}"} for family in ("a", "b", "c", "d") for n in range(3)]
    sources += [SOURCE | {"name": name} for name in ("e", "f", "g")]
    files = {one["name"]: [{"path": "x.parquet", "size": 9, "digest": "sha256:0"}] for one in sources[:45]}
    life.artifact("corpus_raw", {"corpus": {"sources": sources}, "inputs": files}, {}, documents=9.0)
    lineage = Lineage.of([life.store.record(life.made["corpus_raw"])])
    groups = grouped(lineage, lambda record, path: None)
    shown = {one.name for one in groups.all.values() if one.kind is Kind.SOURCE}
    assert shown == {*domains, *(f"{family}, 3 sources" for family in "abcd"), "built, 3 sources"}
    assert len(shown) <= 2 * MOST
    assert all(
        f"{one['name']}: x.parquet, 9 B" in str([g.details for g in groups.all.values()]) for one in sources[:45]
    )
    places = boxes(lineage_figure(lineage, groups))
    row = sorted((x, width) for name, (x, _, width) in places.items() if name.rstrip("…")[:5] != "corpu")
    assert all(x + width <= after for (x, width), (after, _) in itertools.pairwise(row)), "none over another"


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Life, LifecycleResult]:
    """What a release of a turn's champion is made of: the joined corpus is called as the lifecycle's was, which has no
    name in it."""
    life = Life(Store.open(tmp_path_factory.mktemp("turn") / "store"))
    life.data()
    life.phase("sft")
    life.data("batch_", ("batch/new",))
    life.join("batch_")
    life.phase("turn_1_sft", "sft", tokens="joined/tokens", own="sft")
    named = {
        name: ref for name, ref in life.made.items() if name.partition("/")[0] in ("sft", "turn_1_sft", "tokenizer")
    }
    named |= {"corpus_valid": life.made["joined/corpus_valid"], "tokens": life.made["joined/tokens"]}
    named |= {f"turn_1_sft/{kind}": named[kind] for kind in ("corpus_valid", "tokens")}
    return life, LifecycleResult(load_recipe("smoke"), named)


def test_a_report_of_a_turn_follows_what_has_no_name_in_it(turn: tuple[Life, LifecycleResult]) -> None:
    life, result = turn
    lineage = read_lineage(life.store, result, read_records(life.store, result))
    assert {(one.kind, one.digest) for one in life.made.values()} == lineage.records.keys()
    assert lineage.name(("checkpoint", life.made["turn_1_sft/checkpoint"].digest)) == "turn_1_sft/checkpoint"
    groups = grouped(lineage, lambda record, path: None)
    by_name = {one.name: name for name, one in groups.all.items()}
    ours = groups.all[by_name["turn_1_sft"]]
    assert ours.parents == {by_name["sft"]} and {by_name["sft"], by_name["tokens joined"]} == {
        *groups.edges[by_name["turn_1_sft"]]
    }
    assert {"batch/new", "notes", "chat, 2 sources", "corpora joined"} <= by_name.keys()
    places = boxes(lineage_figure(lineage, groups))
    assert places["sft"][1] < places["turn_1_sft"][1] and places["notes"][1] < places["corpus"][1] < places["sft"][1]


def test_what_an_input_names_and_is_gone_is_drawn_as_missing(turn: tuple[Life, LifecycleResult]) -> None:
    life, _ = turn
    checkpoint = life.store.record(life.made["turn_1_sft/checkpoint"])
    groups = grouped(Lineage.of([checkpoint]), lambda record, path: None)
    gone = [one for one in groups.all.values() if one.wrong]
    assert len(gone) == 2 and all("nothing here tells of it" in one.wrong[0] for one in gone)
    figure = str(lineage_figure(Lineage.of([checkpoint]), groups))
    assert figure.count("b-other wrong") == 2 and figure.count("flow weights") == 1


def branched() -> Timeline:
    phases = load_recipe("smoke").phases
    sft = phases[-1]
    return Timeline.of((*phases, replace(sft, name="sft_b"), replace(sft, name="turn_1_sft", parent="sft_b")))


def test_phases_side_by_side_are_told_apart() -> None:
    timeline = branched()
    assert timeline.before("turn_1_sft")[:3] == ["sft_b", "mid_4", "mid_3"]
    beside = [phase for phase in timeline.spans if timeline.beside(phase)]
    assert beside == ["sft", "sft_b"]
    drawn = str(timeline.borders(svg.Plot(timeline.scale(0, 900), svg.Scale(0, 1, 200, 30))))
    assert ">sft / sft_b</text>" in drawn and ">sft</text>" not in drawn and ">turn_1_sft</text>" in drawn


def test_a_score_goes_on_along_parents_and_not_from_one_branch_to_the_other() -> None:
    timeline = branched()
    rows = [ScoreRow(phase, "retrieval/128", n / 10, 9, 0.0, 1.0, "accuracy") for n, phase in enumerate(timeline.spans)]
    (panel,) = capability_panels(rows, timeline)
    lines = re.findall(r'<polyline points="([^"]*)"', str(panel.image))
    assert sorted(len(line.split()) for line in lines) == [3, 6]  # to sft; from mid_4 over sft_b to the turn
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert heights[1][0] == heights[0][4]  # both leave mid_4
    assert str(panel.image).count(">sft_b</text>") == 1


def test_a_line_of_thousands_of_turns_is_walked() -> None:
    line: dict[int, list[int]] = {turn: [turn + 1] for turn in range(5_000)} | {5_000: [0]}  # and a forged circle
    assert ordered(line)[0] == 5_000
    assert [*walk(line, 0)][-2:] == [(5_000, 5_000, False), (0, 5_001, True)]
    assert ordered({"a": ["b", "c"], "b": ["c"]}) == {"a": 2, "b": 1, "c": 0}
