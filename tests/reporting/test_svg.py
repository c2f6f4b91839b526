"""The drawing vocabulary: scales, ticks, label placement, escaping."""

import itertools

import pytest

from k2model.recipe import load_recipe
from k2model.reporting import svg
from k2model.reporting.timeline import Timeline


def test_scale_maps_ends_and_middle() -> None:
    assert [svg.Scale(0, 10, 100, 300)(v) for v in (0, 5, 10)] == [100, 200, 300]
    assert svg.Scale(1, 100, 0, 10, log=True)(10) == pytest.approx(5)


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 7.2e6, 4, [0, 2e6, 4e6, 6e6]),
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.0044, 2, [0, 0.002, 0.004]),
        (3, 3, 4, [3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, count: int, expected: list[float]) -> None:
    assert svg.ticks(low, high, count) == expected


def test_spread_keeps_order_gap_and_borders() -> None:
    placed = svg.spread([50, 50, 51, 98, 99], gap=10, low=0, high=100)
    assert placed[0] < placed[1] < placed[2] < placed[3] < placed[4]
    assert all(b - a >= 10 - 1e-9 for a, b in itertools.pairwise(placed))
    assert min(placed) >= 0 and max(placed) <= 100
    assert svg.spread([20, 80], gap=10, low=0, high=100) == [20, 80]
    assert svg.spread([0, 0, 0], gap=100, low=0, high=100) == [0, 50, 100]


def test_elements_escape_text_and_attributes() -> None:
    drawn = str(svg.text(0, 0, "<b>&", class_='x" onload="y'))
    assert drawn == '<text x="0" y="0" class="x&#34; onload=&#34;y" text-anchor="start">&lt;b&gt;&amp;</text>'


@pytest.mark.parametrize(
    ("value", "text"), [(2_236_416, "2.2M"), (30_000, "30k"), (128, "128"), (1.2e13, "12T"), (0.004, "0.004")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert svg.short_number(value) == text


def test_timeline_adds_tokens_along_parents() -> None:
    timeline = Timeline.of(load_recipe("laptop").phases)
    assert timeline.spans["mid_1"] == (1092 * 2048, (1092 + 677) * 2048)
    assert timeline.total == timeline.end("sft") == (1092 + 677 + 637 + 442 + 334 + 450) * 2048


def test_phase_names_do_not_collide_when_phases_are_short() -> None:
    """K2's own proportions: pre-training is 80% of the axis, fine-tuning a hair."""
    spans = {"pretrain": (0, 12_288), "mid_1": (12_288, 14_057), "mid_2": (14_057, 14_647), "sft": (14_647, 14_700)}
    plot = svg.Plot(svg.Scale(0, 14_700, 36, 312), svg.Scale(0, 1, 224, 38))
    drawn = str(Timeline(spans).borders(plot))
    positions = [float(part.split('"')[0]) for part in drawn.split('<text x="')[1:]]
    assert len(positions) == 4
    assert all(b - a >= 12 for a, b in itertools.pairwise(positions))
