"""The drawing vocabulary: scales, ticks, label placement, escaping."""

import itertools
import math

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
    assert timeline.spans["mid_1"] == (1092 * 2048, (1092 + 750) * 2048)
    assert timeline.total == timeline.end("sft") == (1092 + 750 + 637 + 442 + 334 + 450) * 2048


def test_phase_names_do_not_collide_when_phases_are_short() -> None:
    """K2's own proportions: pre-training is 80% of the axis, fine-tuning a hair."""
    timeline = Timeline.of(load_recipe("k2_70b").phases)
    plot = svg.Plot(timeline.scale(36, 312), svg.Scale(0, 1, 224, 38))
    drawn = str(timeline.borders(plot))
    positions = [float(part.split('"')[0]) for part in drawn.split('<text x="')[1:]]
    assert len(positions) == 6
    # Slanted by 38 degrees, lines 13 high are apart when they begin 13 / sin(38 degrees) apart.
    assert all(b - a >= 13 / math.sin(math.radians(38)) - 0.1 for a, b in itertools.pairwise(positions))


def test_a_short_phase_is_widened_and_tokens_stay_where_they_are() -> None:
    timeline = Timeline({"long": (0, 9_800), "short": (9_800, 9_900), "last": (9_900, 10_000)})
    scale = timeline.scale(100, 200)
    assert timeline.stretched
    assert [scale(border) for border in (0, 9_800, 9_900, 10_000)] == pytest.approx([100, 188, 194, 200])
    assert scale(4_900) == pytest.approx(144) and scale(9_850) == pytest.approx(191)
    even = Timeline({"one": (0, 50), "two": (50, 100)})
    assert not even.stretched and even.scale(0, 10)(25) == 2.5


def test_branches_of_one_parent_share_its_border() -> None:
    timeline = Timeline({"base": (0, 80), "a": (80, 100), "b": (80, 90)})
    assert [timeline.scale(0, 100)(tokens) for tokens in (80, 90, 100)] == [80, 90, 100]
