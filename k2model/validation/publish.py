"""What a gate leaves behind: its results as an artifact's files, or an error before anything goes on."""

import json
from pathlib import Path

from k2model.recipe.expectations import Severity
from k2model.validation.findings import Findings
from k2model.validation.render import deck


def publish(findings: Findings, target: Path, what: str) -> dict[str, float]:
    """Write `validation.json` and the pages into `target`; returns counts.

    Raises `ValidationFailed` when an expectation of severity `stop` is not met.
    """
    findings.raise_if_broken(what)
    outcomes = findings.outcomes
    (target / "attachments").mkdir(parents=True)
    (target / "attachments" / "deck.html").write_text(deck(findings.pages, outcomes, what), encoding="utf-8")
    records = {"expectations": [outcome.record() for outcome in outcomes]}
    (target / "validation.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    warned = sum(not one.success and one.severity is Severity.WARN for one in outcomes)
    return {"expectations": float(len(outcomes)), "warnings": float(warned)}
