"""What the gate of a batch found, as a page for people: every check with its figures and examples."""

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from k2model.continual.gate.evidence import FATES, Arrival, Check
from k2model.errors import visible

PAGE = "attachments/arrival.html"
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;"
    "border-bottom:1px solid #ddd}.failed{background:#fdecea}.accepted{background:#fff4d6}"
    "code{white-space:pre-wrap;font-size:13px}"
)


def page(told: Arrival) -> str:
    """A page of its own, with no script and nothing from elsewhere; what documents say is shown as text."""
    rows = "".join(_row(one) for one in told.checks)
    fates = "".join(f"<tr><td>{name}</td><td>{told.counts.get(name, 0):,}</td></tr>" for name in (*FATES, "read"))
    notes = "".join(f"<li>{_text(one)}</li>" for one in told.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(told.batch)}</title>'
        f"<style>{_STYLE}</style><h1>{_text(told.batch)}: {told.decision.value}</h1><p>{_text(told.reason)}</p>"
        f"<ul>{notes}</ul><table><tr><th>check</th><th>found</th><th>bound</th><th>what it says</th></tr>{rows}</table>"
        f"<h2>Documents</h2><table>{fates}</table></html>\n"
    )


def _row(one: Check) -> str:
    examples = "".join(f"<li><code>{_shown(each)}</code></li>" for each in one.examples)
    shown = f"<details><summary>examples</summary><ul>{examples}</ul></details>" if examples else ""
    mark = "" if one.passed else ' class="accepted"' if one.accepted else ' class="failed"'
    by = " (accepted by a person)" if one.accepted else ""
    return (
        f"<tr{mark}><td>{_text(one.name)}</td><td>{one.value:,.4g}</td><td>{one.bound:,.4g}</td>"
        f"<td>{_text(one.said)}{by}{shown}</td></tr>"
    )


def _shown(example: Mapping[str, Any]) -> str:
    return _text(json.dumps(dict(example), ensure_ascii=False))


def _text(text: str) -> str:
    return escape(visible(text))
