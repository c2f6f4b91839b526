"""Maps over depth and length, the loss by position and accuracy over thinking: what is drawn, and where."""

import re
from xml.etree import ElementTree

from k2model.evals.efforts import EffortPoint, effort_points
from k2model.evals.items import Grade, ItemResult
from k2model.evals.longcontext.asking import DepthCell
from k2model.evals.scores import ScoreRow
from k2model.recipe import load_recipe
from k2model.reporting.figures_context import (
    budget_panels,
    depth_panels,
    effort_panels,
    long_context_panels,
    position_panel,
)  # fmt: skip

CELLS = [DepthCell("needle", length, depth, float(length <= 512 and depth != 0.5), 4)
         for length in (256, 512, 1024) for depth in (0.0, 0.5, 1.0)]  # fmt: skip


def asked(score: str, right: bool, thinking: int = 0, cluster: str = "c", item: str = "i") -> ItemResult:
    grade = Grade.RIGHT if right else Grade.WRONG
    return ItemResult(score, item, cluster, "p", "g", "a", "w", grade, float(right), thinking_tokens=thinking)


def loss(phase: str, end: int, value: float) -> ScoreRow:
    return ScoreRow(phase, f"position_loss/{end}", value, 8, value - 0.1, value + 0.1, "nats/token")


def test_a_map_has_a_cell_for_each_depth_and_length_and_the_border_of_training() -> None:
    (panel,) = depth_panels(CELLS, trained_length=512)
    assert panel.title == "Needle"
    drawn = ElementTree.fromstring(str(panel.image))
    cells = [one for one in drawn.iter("rect")]
    assert len(cells) == 9
    told = {one.find("title").text: float(one.get("fill-opacity")) for one in cells}
    assert told["512 tokens, depth 0%: 100% of 4"] > 0.7 > 0.1 > told["512 tokens, depth 50%: 0% of 4"]
    assert len({one.get("x") for one in cells}) == len({one.get("y") for one in cells}) == 3
    (border,) = drawn.iter("line")
    x = [float(one.get("x")) for one in cells if "1,024" in one.find("title").text]
    assert abs(float(border.get("x1")) - min(x)) < 1
    assert "<line" not in str(depth_panels(CELLS)[0].image)


def test_losses_by_position_are_a_line_for_each_checkpoint() -> None:
    rows = {"mid_1": [loss("mid_1", end, 3 + end / 512) for end in (128, 256, 512)],
            "mid_2": [loss("mid_2", end, 3 - end / 1024) for end in (512, 128, 256)], "none": []}  # fmt: skip
    panel = position_panel(rows)
    lines = re.findall(r'<polyline points="([^"]*)"', str(panel.image))
    assert len(lines) == 2
    falling = [[float(pair.split(",")[1]) for pair in line.split()] for line in lines]
    assert falling[0] == sorted(falling[0], reverse=True) and falling[1] == sorted(falling[1])  # y grows downwards
    assert ">mid_1<" in panel.image and ">mid_2<" in panel.image and ">none<" not in panel.image
    assert position_panel({"mid_1": []}) is None


def test_budgets_are_hollow_dots_on_the_line_of_their_effort() -> None:
    results = [
        *(asked("order_4/low", False, 0, item=str(i)) for i in range(4)),
        *(asked("order_4/high", i > 0, 40, item=str(i)) for i in range(4)),
        *(asked("order_4/high@16", i > 2, 16, item=str(i)) for i in range(4)),
        *(asked("knights_3/high", True, 9, item=str(i)) for i in range(4)),
    ]
    panels = effort_panels(effort_points(results))
    assert [panel.title for panel in panels] == ["Order of 4", "Knights & Knaves, 3 people"]
    (panel,) = budget_panels(results)
    dots = re.findall(r'<circle[^>]*class="(full|hollow) m-(c\d)"[^>]*><title>([^<]*)', str(panel.image))
    assert sorted(dots) == [
        ("full", "c0", "low: 0% of 4 with 0 tokens (median 0), 0% cut off"),
        ("full", "c1", "high: 75% of 4 with 40 tokens (median 40), 0% cut off"),
        ("hollow", "c1", "high, at most 16: 25% of 4 with 16 tokens (median 16), 0% cut off"),
    ]


def test_the_report_shows_the_last_phase_that_has_a_map() -> None:
    recipe = load_recipe("smoke")
    needles = [asked("needle/256", True, cluster="depth 0.00"), asked("needle/256", False, cluster="depth 1.00")]
    results = {"mid_1": needles, "mid_3": needles, "sft": [asked("arithmetic/high", True)]}
    panels = long_context_panels(results, [loss("mid_1", 128, 3.0), loss("mid_1", 256, 2.9)], recipe)
    assert [panel.title for panel in panels] == ["Needle", "Loss by position, nats per token"]
    assert long_context_panels({}, [], recipe) == []


def test_names_of_efforts_that_thought_equally_long_lie_on_no_other() -> None:
    efforts = ("low", "medium", "high")
    points = [EffortPoint("arithmetic", one, None, 8, 0.0, 0.0, 0.3, 0.0, 0.0, 1.0) for one in efforts]
    (panel,) = effort_panels(points)
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{one}<', str(panel.image))[1]) for one in efforts]
    assert min(abs(a - b) for a in heights for b in heights if a != b) >= 14 and len(set(heights)) == 3
