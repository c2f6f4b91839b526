"""The report's section on curation: what each step and rule removed, and overlap with the evaluation items."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from k2model.reporting.sections_data import Bar, bars


@dataclass(frozen=True)
class RejectLine:
    """What one rule removed from the training documents of one source, with the first sample of it."""

    source: str
    rule: str
    documents: int
    sample: str


@dataclass(frozen=True)
class FamilyLine:
    """Evaluation items of a family and the training documents that share text with them.

    `touched` items were found in some document; `removed` documents went for it, `kept` ones stay (items of trained
    wordings hold nothing out), `overlapping` items are those that a kept document has.
    """

    family: str
    items: int
    holds_out: bool
    touched: int
    overlapping: int
    removed: int
    kept: int


@dataclass(frozen=True)
class _Side:
    before: str
    match: str
    after: str


@dataclass(frozen=True)
class MatchLine:
    """What a document and an item share; `coverage` of the item's words, 0..1."""

    source: str
    family: str
    coverage: float
    document: _Side
    item: _Side


@dataclass(frozen=True)
class Curation:
    """`funnel`: training documents left after each step; `duplicates`: kept documents by copies found.

    `personal_data` are replacements by kind, `matches` a seeded sample of what was taken for contamination.
    """

    funnel: tuple[Bar, ...]
    duplicates: tuple[Bar, ...]
    rejects: tuple[RejectLine, ...]
    personal_data: tuple[tuple[str, int], ...]
    families: tuple[FamilyLine, ...]
    matches: tuple[MatchLine, ...]


def curation(content: Mapping[str, Any]) -> Curation:
    """`content` is a `curation.json`; sources are summed over, rejects stay by source."""
    left: dict[str, int] = {}
    rejects = []
    for source, account in content["train"].items():
        for step, totals in account["steps"].items():
            left[step] = left.get(step, 0) + int(totals["documents"])
        for rule, rejected in account["rejects"].items():
            sample = next(iter(rejected["samples"]), "")
            rejects.append(RejectLine(source, rule.replace("_", " "), int(rejected["documents"]), sample))
    rejects.sort(key=lambda line: (-line.documents, line.source, line.rule))
    return Curation(
        funnel=tuple(bars([(step.replace("_", " "), float(count)) for step, count in left.items()])),
        duplicates=tuple(bars([(bucket, float(count)) for bucket, count in content["duplicates"]["all"].items()])),
        rejects=tuple(rejects),
        personal_data=tuple((kind.replace("_", " "), int(count)) for kind, count in content["personal_data"].items()),
        families=tuple(FamilyLine(name, **entry) for name, entry in content["decontamination"]["families"].items()),
        matches=tuple(_match(match) for match in content["decontamination"]["matches"]),
    )


def _match(match: Mapping[str, Any]) -> MatchLine:
    sides = [_Side(*(match[side][part] for part in ("before", "match", "after"))) for side in ("document", "item")]
    return MatchLine(match["source"], match["family"], float(match["coverage"]), *sides)
