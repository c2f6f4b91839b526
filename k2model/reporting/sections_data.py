"""The report's sections on data: what each phase trained on, what was read from files, what curation and validation
removed, and overlap with the evaluation items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DOMAINS = (
    "prose", "code", "knowledge", "long_context", "mathematics", "logic", "language", "tools", "chat",
)  # fmt: skip
_MEAN_CHARACTER = 0.85  # width of a label's character in percent of a bar, at the report's widest


def domain_class(domain: str) -> str:
    """The CSS class suffix of a domain's colour; unknown domains share the last one."""
    return f"d{DOMAINS.index(domain)}" if domain in DOMAINS else "d9"


@dataclass(frozen=True)
class Share:
    """`wanted` and `real` are shares of the phase's tokens, 0..1."""

    source: str
    domain: str
    wanted: float
    real: float
    tokens: int
    documents: int
    epochs: float

    @property
    def colour(self) -> str:
        return domain_class(self.domain)

    @property
    def tooltip(self) -> str:
        return (
            f"{self.source}: wanted {self.wanted:.1%}, real {self.real:.1%}, {self.tokens:,} tokens, "
            f"{self.documents:,} documents, {self.epochs:.2f} epochs"
        )

    def fits(self, share: float) -> bool:
        """Whether the source's name has room in its segment of a bar."""
        return share * 100 > len(self.source) * _MEAN_CHARACTER + 1


@dataclass(frozen=True)
class Composition:
    phase: str
    shares: tuple[Share, ...]
    ratios: tuple[tuple[str, float], ...]  # of positions (padding) or of documents (split, truncated)


def composition(phase: str, content: Mapping[str, Any]) -> Composition:
    """`content` is a `composition.json`; sources in the order of their domains."""
    shares = [
        Share(
            source=source,
            domain=entry["domain"],
            wanted=float(entry["share_wanted"]),
            real=float(entry["share"]),
            tokens=int(entry["tokens"]),
            documents=int(entry["documents"]),
            epochs=float(entry["epochs"]),
        )
        for source, entry in content["sources"].items()
    ]
    order = {domain: index for index, domain in enumerate(DOMAINS)}
    shares.sort(key=lambda share: (order.get(share.domain, len(order)), share.source))
    ratios = tuple((name, float(content[name])) for name in ("padding", "split", "truncated"))
    return Composition(phase, tuple(shares), ratios)


@dataclass(frozen=True)
class SourceLine:
    """A source over the phases: its real share and epochs in each (None = not in the mixture)."""

    source: str
    domain: str
    shares: tuple[Share | None, ...]

    @property
    def colour(self) -> str:
        return domain_class(self.domain)


def source_lines(compositions: Sequence[Composition]) -> list[SourceLine]:
    found = {(share.source, one.phase): share for one in compositions for share in one.shares}
    domains = {share.source: share.domain for one in compositions for share in one.shares}
    order = {domain: index for index, domain in enumerate(DOMAINS)}
    sources = sorted(domains, key=lambda source: (order.get(domains[source], len(order)), source))
    return [
        SourceLine(source, domains[source], tuple(found.get((source, one.phase)) for one in compositions))
        for source in sources
    ]


@dataclass(frozen=True)
class Bar:
    """One labelled amount; `share` of the largest, 0..1."""

    label: str
    amount: float
    share: float
    note: str = ""


def bars(amounts: Sequence[tuple[str, float]], notes: Mapping[str, str] | None = None) -> list[Bar]:
    largest = max((amount for _, amount in amounts), default=0.0) or 1.0
    return [Bar(label, amount, amount / largest, (notes or {}).get(label, "")) for label, amount in amounts]


@dataclass(frozen=True)
class IngestedLine:
    """A source that was read from files, and what of it could not be used; shares 0..1."""

    source: str
    files: int
    damaged: int
    rows: int
    quarantined: int
    lost: float
    reasons: str


def ingested_lines(content: Mapping[str, Mapping[str, Any]]) -> list[IngestedLine]:
    """`content` is an `ingest.json`."""
    return [
        IngestedLine(
            source=source,
            files=counts["files"],
            damaged=counts["damaged_files"],
            rows=counts["rows"],
            quarantined=sum(counts["quarantined"].values()),
            lost=counts["lost_bytes"] / max(1, counts["input_bytes"]),
            reasons=", ".join(f"{reason} ({count:,})" for reason, count in counts["quarantined"].items()),
        )
        for source, counts in content.items()
    ]


@dataclass(frozen=True)
class ExpectationLine:
    """All results of one expectation: on how many tables it was checked, how many rows broke it."""

    expectation: str
    severity: str
    tables: int
    failed: int
    rows: int
    broken: int


def expectation_lines(results: Sequence[Mapping[str, Any]]) -> list[ExpectationLine]:
    by_name: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        by_name.setdefault((str(result["expectation"]), str(result["severity"])), []).append(result)
    return [
        ExpectationLine(
            expectation=name,
            severity=severity,
            tables=len(found),
            failed=sum(not one["success"] for one in found),
            rows=sum(int(one["total"]) for one in found),
            broken=sum(int(one["observed"]) for one in found),
        )
        for (name, severity), found in by_name.items()
    ]


@dataclass(frozen=True)
class Validation:
    checks: int
    tables: int
    failed: int
    quarantined: int
    reasons: tuple[Bar, ...]
    expectations: tuple[ExpectationLine, ...]


def validation(content: Mapping[str, Any], on_mixtures: Mapping[str, Any]) -> Validation:
    """`content` is a `validation.json`, `on_mixtures` the `attachments/mixtures.json` beside it."""
    results = [*content["expectations"], *on_mixtures["expectations"]]
    reasons: dict[str, int] = {}
    for counts in content["quarantine"].values():
        for reason, count in counts.items():
            reasons[reason] = reasons.get(reason, 0) + int(count)
    documents = content["documents"].values()
    return Validation(
        checks=len(results),
        tables=len({(result["suite"], result["shard"]) for result in results}),
        failed=sum(not result["success"] for result in results),
        quarantined=sum(int(one["read"]) - int(one["published"]) for one in documents),
        reasons=tuple(bars(sorted(reasons.items()))),
        expectations=tuple(expectation_lines(results)),
    )


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
class _Excerpt:
    before: str
    match: str
    after: str


@dataclass(frozen=True)
class MatchLine:
    """What a document and an item share; `coverage` of the item's words, 0..1."""

    source: str
    family: str
    coverage: float
    document: _Excerpt
    item: _Excerpt


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
    for source, counts in content["train"].items():
        for step, totals in counts["steps"].items():
            left[step] = left.get(step, 0) + int(totals["documents"])
        for rule, rejected in counts["rejects"].items():
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
    excerpts = [
        _Excerpt(*(match[text][part] for part in ("before", "match", "after"))) for text in ("document", "item")
    ]
    return MatchLine(match["source"], match["family"], float(match["coverage"]), *excerpts)
