"""All that one validation found, in order: outcomes, and pages for the tables that have something to show."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from k2model.validation.outcome import Outcome, ValidationFailed, merge_parts
from k2model.validation.render import Page, deck, page_of
from k2model.validation.rules import Suite
from k2model.validation.runner import Runner


@dataclass
class Findings:
    """Empty at first; `runner` is for tables over the whole, parts come from wherever they were looked at."""

    runner: Runner = field(default_factory=Runner)
    outcomes: list[Outcome] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    def check(self, suite: Suite, frame: pd.DataFrame) -> None:
        """Run a suite on a table about the whole; an empty one gives nothing."""
        found = self.runner.run(suite, frame)
        if found:
            self.pages.append(page_of(self.runner, suite.name, "all"))
        self.outcomes += found

    def add_parts(self, outcomes: Sequence[Outcome], pages: Sequence[Page]) -> None:
        """Take what was found in parts, summed over the parts of a source."""
        self.outcomes += merge_parts(outcomes)
        self.pages += pages

    def raise_if_broken(self, what: str) -> None:
        """Raise ValidationFailed when an expectation of severity `stop` is not met."""
        if broken := [outcome for outcome in self.outcomes if outcome.stops]:
            raise ValidationFailed(broken, deck(self.pages, self.outcomes, what), what)
