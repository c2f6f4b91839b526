"""What documents, models, batches and people say is text on every page: no element, no attribute, no command of it."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from k2model.continual.gate.evidence import Arrival, Check
from k2model.continual.gate.evidence import page as arrival_page
from k2model.continual.month.outcome import Check as MonthCheck
from k2model.continual.month.page import render as month_page
from k2model.continual.state import Standing
from k2model.continual.verdict.page import render as verdict_page
from k2model.continual.verdict.verdict import Gate, Outcome, Verdict
from k2model.errors import visible
from k2model.recipe.continual import BatchKind
from k2model.recipe.schema import ValidationConfig
from k2model.validation.documents.suites import Bounds, schema_suite
from k2model.validation.render import deck, page_of
from k2model.validation.suites import Runner
from tests.continual.test_month_page import month, row
from tests.reporting.lifecycle_fixture import COMMANDS, HOSTILE
from tests.reporting.test_report import Page


def of_a_month() -> str:
    line = replace(month().lines[0], came=(HOSTILE,), decided=((HOSTILE, "fail"),))
    return month_page(month(lines=(line,), checks=(MonthCheck(HOSTILE, False, HOSTILE),)), HOSTILE)


def of_a_verdict() -> str:
    rows = (row(HOSTILE, 0.5, 0.6), replace(row("loss/x@new", 2.0, 2.0, unit="nats/token"), decides=False))
    gates = (Gate(HOSTILE, 0.1, 0.5, 1.0, False),)
    told = Verdict(Outcome.REFUSED, HOSTILE, HOSTILE, HOSTILE, 0.95, rows, gates, (HOSTILE,), (HOSTILE,))
    return verdict_page(told)


def of_an_arrival() -> str:
    check = Check(HOSTILE, 1.0, 0.0, False, HOSTILE, Standing.REFUSED, ({HOSTILE: HOSTILE},))
    return arrival_page(Arrival(HOSTILE, BatchKind.BASE, "0" * 64, False, (check,), {}, (HOSTILE,)))


def of_a_gate() -> str:
    """With what Great Expectations itself says of values that break a rule."""
    runner, suite = Runner(), schema_suite(Bounds(ValidationConfig()))
    frame = pd.DataFrame(
        [{"shard": HOSTILE, "part": HOSTILE, "column": HOSTILE, "type": HOSTILE, "expected": HOSTILE + "x"}]
    )
    outcomes = runner.run(suite, frame, HOSTILE)
    assert not outcomes[0].success
    told = page_of(runner, suite.name, HOSTILE)
    assert "evil.example" in told.sections, "it shows the values"
    return deck([told], outcomes, HOSTILE)


@pytest.mark.parametrize("made", [of_a_month, of_a_verdict, of_an_arrival, of_a_gate])
def test_a_page_shows_what_it_was_told_and_obeys_nothing(made: Callable[[], str]) -> None:
    assert_text(made())


def assert_text(page: str) -> None:
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.tags}
    attributes = {name for _, those in parsed.tags for name in those}
    assert not tags & {"script", "img"} and not {name for name in attributes if name.startswith("on")}
    assert visible(HOSTILE) in "".join(parsed.texts) and not COMMANDS & {*page}
