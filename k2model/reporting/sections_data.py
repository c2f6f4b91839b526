"""The report's sections on data: what each phase trained on, what was read from files, what curation and validation
removed, and overlap with the evaluation items.

Each function takes the content of one JSON file of an artifact and gives what the template shows of it, by name. Shares
are fractions of 1.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

DOMAINS = (
    "prose", "code", "knowledge", "long_context", "mathematics", "logic", "language", "tools", "chat",
)  # fmt: skip
_MEAN_CHARACTER = 0.85  # width of a label's character in percent of a bar, at the report's widest

Shown = dict[str, Any]


def domain_order(domain: str) -> tuple[int, str]:
    """Sorts domains as the report shows them, unknown ones last."""
    return DOMAINS.index(domain) if domain in DOMAINS else len(DOMAINS), domain


def domain_class(domain: str) -> str:
    """The CSS class suffix of a domain's colour; unknown domains share the last one."""
    return f"d{domain_order(domain)[0]}"


def composition(phase: str, content: Mapping[str, Any]) -> Shown:
    """Of a `composition.json`: shares of the phase's tokens, `wanted` and `real`, by source in the order of domains;
    `ratios` of positions (padding) or of documents (split, truncated).

    `label_from`: percent of a bar from which on the source's name has room in its segment.
    """
    entries = sorted(content["sources"].items(), key=lambda item: (domain_order(item[1]["domain"])[0], item[0]))
    shares = [
        {
            "source": source,
            "domain": entry["domain"],
            "colour": domain_class(entry["domain"]),
            "wanted": entry["share_wanted"],
            "real": entry["share"],
            "epochs": entry["epochs"],
            "label_from": len(source) * _MEAN_CHARACTER + 1,
            "tooltip": f"{source}: wanted {entry['share_wanted']:.1%}, real {entry['share']:.1%}, "
            f"{entry['tokens']:,} tokens, {entry['documents']:,} documents, {entry['epochs']:.2f} epochs",
        }
        for source, entry in entries
    ]
    return {"phase": phase, "shares": shares, "ratios": [(n, content[n]) for n in ("padding", "split", "truncated")]}


def source_lines(compositions: Sequence[Shown]) -> list[Shown]:
    """A line a source: its share in each phase, None where the mixture has none of it."""
    found = {(share["source"], one["phase"]): share for one in compositions for share in one["shares"]}
    domains = {source: share["domain"] for (source, _), share in found.items()}
    return [
        {
            "source": source,
            "colour": domain_class(domains[source]),
            "shares": [found.get((source, one["phase"])) for one in compositions],
        }
        for source in sorted(domains, key=lambda source: (domain_order(domains[source])[0], source))
    ]


def _bars(amounts: Iterable[tuple[str, float]]) -> list[Shown]:
    """Labelled amounts, each with its share of the largest."""
    found = dict(amounts)
    largest = max(found.values(), default=0) or 1
    return [{"label": name.replace("_", " "), "amount": one, "share": one / largest} for name, one in found.items()]


def ingested_lines(content: Mapping[str, Mapping[str, Any]]) -> list[Shown]:
    """Of an `ingest.json`: sources that were read from files, and what of them could not be used."""
    return [
        {
            "source": source,
            "files": counts["files"],
            "damaged": counts["damaged_files"],
            "rows": counts["rows"],
            "quarantined": sum(counts["quarantined"].values()),
            "lost": counts["lost_bytes"] / max(1, counts["input_bytes"]),
            "reasons": ", ".join(f"{reason} ({count:,})" for reason, count in counts["quarantined"].items()),
        }
        for source, counts in content.items()
    ]


def validation(content: Mapping[str, Any], on_mixtures: Mapping[str, Any]) -> Shown:
    """Of a `validation.json` and the `attachments/mixtures.json` beside it: all results, and by expectation on how many
    tables it was checked and how many rows broke it."""
    results = [*content["expectations"], *on_mixtures["expectations"]]
    reasons: Counter[str] = Counter()
    for counts in content["quarantine"].values():
        reasons.update(counts)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["expectation"], result["severity"]), []).append(result)
    return {
        "checks": len(results),
        "tables": len({(result["suite"], result["shard"]) for result in results}),
        "failed": sum(not result["success"] for result in results),
        "quarantined": sum(one["read"] - one["published"] for one in content["documents"].values()),
        "reasons": sorted(reasons.items()),
        "expectations": [
            {
                "expectation": name,
                "severity": severity,
                "tables": len(found),
                "failed": sum(not one["success"] for one in found),
                "rows": sum(one["total"] for one in found),
                "broken": sum(one["observed"] for one in found),
            }
            for (name, severity), found in groups.items()
        ],
    }


def curation(content: Mapping[str, Any]) -> Shown:
    """Of a `curation.json`: `funnel`, training documents left after each step of all sources; `duplicates`, kept
    documents by copies found; `rejects`, what each rule removed of a source, with a sample; `personal_data`,
    replacements by kind.

    Of `families` of evaluation items: those `touched` were found in some document; `removed` documents went for it,
    `kept` ones stay (items of trained wordings hold nothing out), `overlapping` items are those that a kept document
    has. `matches` are a seeded sample of what a document and an item share; `coverage` is of the item's words.
    """
    left: Counter[str] = Counter()
    rejects = []
    for source, counts in content["train"].items():
        left.update({step: totals["documents"] for step, totals in counts["steps"].items()})
        for rule, rejected in counts["rejects"].items():
            sample = next(iter(rejected["samples"]), "")
            rejects.append((source, rule.replace("_", " "), rejected["documents"], sample))
    return {
        "funnel": _bars(left.items()),
        "duplicates": _bars(content["duplicates"]["all"].items()),
        "rejects": sorted(rejects, key=lambda line: (-line[2], line[:2])),
        "personal_data": [(kind.replace("_", " "), count) for kind, count in content["personal_data"].items()],
        **content["decontamination"],
    }
