"""How long the training documents of each domain are, in tokens: histograms over powers of two.

All panels share one axis of lengths, so that they compare; each has its own axis of documents. Dotted lines are the
contexts that phases train on: what stands right of one is longer than its rows.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from k2model.reporting import svg
from k2model.reporting.sections_data import domain_class, domain_order
from k2model.reporting.timeline import Panel
from k2model.units import readable_count

_WIDTH, _HEIGHT = 430, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 416, 26, 162
_LABELS = 8  # powers of two named on the axis, at most


def length_panels(counts: Mapping[str, Any], contexts: Sequence[int]) -> list[Panel]:
    """One panel per domain. `counts`: a `counts.json` of tokens; `contexts`: sequence lengths in tokens."""
    domains = _by_domain(counts["train"])
    powers = [power for lengths in domains.values() for power in lengths]
    if not powers:
        return []
    shown = range(min(powers), max(powers) + 1)
    names = sorted(domains, key=domain_order)
    return [_length_panel(name, domains[name], shown, sorted(set(contexts))) for name in names]


def _by_domain(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, Counter[int]]:
    """Domain -> documents by the exponent of the largest power of two not above their tokens."""
    found: dict[str, Counter[int]] = {}
    for entry in sources.values():
        lengths = found.setdefault(entry["domain"], Counter())
        for low, documents in entry["lengths"].items():
            lengths[int(low).bit_length() - 1] += int(documents)
    return {domain: lengths for domain, lengths in found.items() if lengths.total()}


def _length_panel(domain: str, lengths: Counter[int], shown: range, contexts: Sequence[int]) -> Panel:
    most = max(lengths.values())
    x = svg.Scale(float(shown.start), float(shown.stop), _LEFT, _RIGHT)
    plot = svg.Plot(x, svg.Scale(0.0, float(most), _BOTTOM, _TOP))
    at = list(range(shown.start, shown.stop + 1, -(-(len(shown) + 1) // _LABELS)))
    labels = [f"{2**power}" if power < 10 else f"{2 ** (power - 10)}K" for power in at]  # as contexts are named
    parts = [plot.axes(at, svg.ticks(0.0, float(most), 3), "tokens", "{:,.0f}", labels)]
    for power, documents in sorted(lengths.items()):
        left, right = x(float(power)) + 0.75, x(power + 1.0) - 0.75
        height = max(_BOTTOM - plot.y(float(documents)), 1.0)
        said = svg.element("title", f"{2**power:,} to {2 ** (power + 1) - 1:,} tokens: {documents:,} documents")
        parts.append(svg.rect(left, _BOTTOM - height, right - left, height, f"f-{domain_class(domain)}", said))
    for context in contexts:
        exponent = math.log2(context)
        if shown.start <= exponent <= shown.stop:
            parts.append(svg.line(x(exponent), _TOP - 8, x(exponent), _BOTTOM, "chance"))
    title = f"{domain.replace('_', ' ')}, {readable_count(lengths.total())} documents"
    return Panel(title, svg.drawing(_WIDTH, _HEIGHT, f"Documents of {domain} by their length in tokens", *parts))
