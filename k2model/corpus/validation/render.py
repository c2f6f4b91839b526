"""Data Docs and the Flyte Deck: Great Expectations' own renderings in pages that open without network.

Great Expectations' site loads its styles, scripts and even its index from a dozen hosts, so without
network it is a blank page. Its rendered sections are kept, the frame around them is ours.
"""

import html
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from k2model.corpus.validation.outcome import Outcome
from k2model.corpus.validation.runner import Page

if TYPE_CHECKING:
    from great_expectations.render.view import DefaultJinjaSectionView

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.2rem}
th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
td{overflow-wrap:anywhere}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem} h5,h6{margin:.4rem 0;font-size:1rem}
.alert{background:#f3f4f6;padding:.5rem .8rem;border-radius:4px;margin:1rem 0 .4rem}
.badge{background:#e5e7eb;border-radius:3px;padding:0 .3rem}
.collapse,p>a[data-toggle]{display:none}
i.text-success::before{content:"\\2713";color:#15803d;font-style:normal;font-weight:bold}
i.text-danger::before{content:"\\2717";color:#b91c1c;font-style:normal;font-weight:bold}
i.text-warning::before{content:"!";color:#b45309;font-style:normal;font-weight:bold}
.failed{color:#b91c1c;font-weight:bold}.aside{color:#b45309}.fine{color:#15803d}
"""


def write_data_docs(folder: Path, pages: Sequence[Page], outcomes: Sequence[Outcome]) -> None:
    """A static site: `index.html` with the summary, one page per suite and shard."""
    for page in pages:
        path = folder / _address(page)
        path.parent.mkdir(parents=True, exist_ok=True)
        back = "../" * (len(path.relative_to(folder).parts) - 1) + "index.html"
        body = f'<p><a href="{back}">All results</a></p>{_sections(page)}'
        path.write_text(_document(f"{page.suite}: {page.shard}", body), encoding="utf-8")
    links = "".join(
        f'<li><a href="{html.escape(_address(page))}">{html.escape(page.suite)}: {html.escape(page.shard)}</a></li>'
        for page in pages
    )
    body = f"{_summary(outcomes)}<h2>Results by table</h2><ul>{links}</ul>"
    (folder / "index.html").write_text(_document("Corpus validation", body), encoding="utf-8")


def deck(pages: Sequence[Page], outcomes: Sequence[Outcome]) -> str:
    """One self-contained page: the summary, then each table's results where they say more than it."""
    broken = {(o.suite, o.shard) for o in outcomes if not o.success}
    shown = [page for page in pages if page.suite != "documents" or (page.suite, page.shard) in broken]
    body = _summary(outcomes)
    for page in shown:
        body += f"<h2>{html.escape(page.suite)}: {html.escape(page.shard)}</h2>{_sections(page)}"
    return _document("Corpus validation", body)


def _address(page: Page) -> str:
    return f"{page.suite}/{page.shard}.html"


def _sections(page: Page) -> str:
    """Great Expectations' rendering of one validation result."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    view = _section_view()
    rendered = ValidationResultsPageRenderer().render(page.result)
    parts = (
        view.render({"section": section.to_json_dict(), "section_loop": {"index": index}})
        for index, section in enumerate(rendered.sections, 1)
    )
    # The overview links to the suite's page of the site that is not built.
    return "".join(parts).replace('href="../../../../expectations/', 'data-suite="')


@cache
def _section_view() -> "DefaultJinjaSectionView":
    """One for all pages: it compiles its templates once."""
    from great_expectations.render.view import DefaultJinjaSectionView

    return DefaultJinjaSectionView()


def _summary(outcomes: Iterable[Outcome]) -> str:
    """Every expectation on one line: on how many tables it was checked and what it found."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.suite, outcome.expectation), []).append(outcome)
    rows = "".join(_summary_row(group) for group in groups.values())
    head = "".join(f"<th>{name}</th>" for name in ("", "suite", "expectation", "rule", "tables", "rows", "offending"))
    return f"<table><tr>{head}</tr>{rows}</table>"


def _summary_row(group: Sequence[Outcome]) -> str:
    first, offending = group[0], [o for o in group if not o.success]
    if not offending:
        mark = '<span class="fine">passed</span>'
    elif any(o.stops for o in offending):
        mark = '<span class="failed">FAILED</span>'
    else:
        mark = f'<span class="aside">{"set aside" if first.reason else "warning"}</span>'
    where = "; ".join(f"{o.shard}: {o.observed}" for o in offending)
    cells = (first.suite, first.expectation, f"{first.type}({first.column})", len(group), sum(o.total for o in group))
    return f"<tr><td>{mark}</td>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in (*cells, where)) + "</tr>"


def _document(title: str, body: str) -> str:
    name = html.escape(title)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
        f"<body><h1>{name}</h1>{body}</body></html>"
    )
