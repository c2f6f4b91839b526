"""The report of a month: what must hold is told, what is lost stands out, and texts from outside are texts."""

import re
from dataclasses import replace

from k2model.continual.month.days import Day, Delivery, Form
from k2model.continual.month.outcome import Champion, Check, Line, Month, claim, lost, old
from k2model.continual.month.page import render
from k2model.continual.verdict.capabilities import Row
from k2model.evals.scores import ScoreRow


def row(score: str, before: float, after: float, p: float = 1.0, unit: str = "accuracy") -> Row:
    gain = after - before if unit == "accuracy" else 1 - after / before
    return Row(
        score, unit, 128, 128, before, before - 0.05, before + 0.05, after, after - 0.05, after + 0.05, after - before,
        gain, gain - 0.05, 0.15, gain > -0.1, "", 0, 1, 2, 0, 0, p, 1.0, p_all=p,
    )  # fmt: skip


def score(name: str, value: float) -> ScoreRow:
    return ScoreRow("sft", name, value, 128, value - 0.05, value + 0.05, "accuracy")


def month(**changes: object) -> Month:
    names = ("ordering", "rivers", "arithmetic/high", "countdown/high")
    models = [Champion(turn, since, {n: score(n, 0.3 + turn / 10) for n in names}) for turn, since in ((0, 0), (2, 3))]
    day = Day(2, (Delivery("<b>bad</b>", "a batch", False, (), "chat", form=Form.EMPTY),), (2,))
    found = Month(
        (Line(day, ("<b>bad</b>: a batch",), (("<i>refused</i>", "fail"),)), Line(Day(25), (), ())),
        tuple(models),
        (models[1],),
        (
            row("ordering", 0.0, 0.9, 0.0),
            row("arithmetic/high", 0.98, 0.97),
            row("loss/prose", 3.7, 3.8, 1.0, "nats/token"),
        ),
        (row("arithmetic/high", 0.98, 0.6, 0.0), row("countdown/high", 0.8, 0.03, 0.0)),
        (),
        {"month": 1_700_000},
        (Check("Something holds", True, "it does"), Check("Another thing", False, "it does not")),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


def test_the_page_tells_every_check_day_and_score() -> None:
    page = render(month(), "laptop")
    for said in ("Something holds", "Another thing", "it does not", "arithmetic/high", "nothing ran", "0 → 90%"):
        assert said in page, said
    assert "<script" not in page and not re.search(r'(?:src|href)="http', page)


def test_names_of_batches_and_reasons_are_escaped() -> None:
    page = render(month(), "laptop")
    assert "<b>bad</b>" not in page and "<i>refused</i>" not in page
    assert "&lt;b&gt;bad&lt;/b&gt;" in page


def test_only_what_is_worse_beyond_doubt_is_lost() -> None:
    assert lost(row("a", 0.9, 0.5, 0.001))
    assert not lost(row("a", 0.9, 0.5, 0.2)), "in doubt"
    assert not lost(row("a", 0.5, 0.9, 0.001)), "gained"
    assert lost(row("loss/prose", 3.0, 3.5, 0.001, "nats/token"))


def test_what_the_month_brought_is_no_old_capability() -> None:
    rows = [row(name, 0.5, 0.5) for name in ("ordering", "rivers", "loss/rivers", "loss/prose", "spelling/high")]
    assert [one.score for one in old(rows)] == ["spelling/high"]
    assert [one.score for one in old(rows, losses=True)] == ["loss/prose"]


def test_the_claim_is_told_whatever_it_says() -> None:
    assert claim(month()) == []
    beside = (row("spelling/high", 0.9, 0.7, 0.001), row("loss/prose", 3.0, 3.2, 1.0, "nats/token"))
    found = claim(month(beside=beside, tokens={"month": 2_000_000, "from scratch": 8_000_000}))
    assert [check.passed for check in found] == [True, False, False]
    assert "25.0%" in found[0].said and "loss/prose +6.7%" in found[1].said and "spelling/high" in found[2].said
    assert "from scratch" in render(month(beside=beside, tokens={"month": 2, "from scratch": 8}), "laptop")


def test_a_month_passes_when_all_of_it_holds() -> None:
    assert not month().passed
    assert month(checks=(Check("a", True, ""),)).passed
