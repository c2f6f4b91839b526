"""Data Docs and the Flyte Deck: a summary of all expectations, then Great Expectations' own renderings.

Great Expectations' site loads its styles, scripts and even its index from a dozen hosts, so without
network it is a blank page. Its rendered sections are kept, the frame around them is ours. Parts are
summed up: a table of a million parts is a line, and of the parts that break a rule only the first few
have a section, at most `MOST` of one suite.
"""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k2model.errors import visible_page
from k2model.validation.outcome import Outcome
from k2model.validation.suites import Runner

if TYPE_CHECKING:
    from great_expectations.render.view import DefaultJinjaSectionView

MOST = 8  # sections of one suite

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.2rem}
th,td{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
td:last-child{overflow-wrap:anywhere}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem} h5,h6{margin:.4rem 0;font-size:1rem}
.alert{background:#f3f4f6;padding:.5rem .8rem;border-radius:4px;margin:1rem 0 .4rem}
.badge{background:#e5e7eb;border-radius:3px;padding:0 .3rem}
i.text-success::before{content:"\\2713";color:#15803d;font-style:normal;font-weight:bold}
i.text-danger::before{content:"\\2717";color:#b91c1c;font-style:normal;font-weight:bold}
i.text-warning::before{content:"!";color:#b45309;font-style:normal;font-weight:bold}
.failed{color:#b91c1c;font-weight:bold}.aside{color:#b45309}.fine{color:#15803d}
"""


_ICON = "html_success_icon"  # the one of its texts that is markup


@dataclass(frozen=True)
class Page:
    """One table's results as HTML; plain text, so that it can come from another process."""

    suite: str
    table: str
    sections: str


def page_of(runner: Runner, suite: str, table: str) -> Page:
    """Great Expectations' rendering of what `runner` last found."""
    from great_expectations.render.renderer import ValidationResultsPageRenderer

    if runner.result is None:
        raise RuntimeError("nothing was run yet")
    view = _section_view()
    rendered = ValidationResultsPageRenderer().render(runner.result)
    parts = (
        view.render({"section": _shown(section.to_json_dict()), "section_loop": {"index": index}})
        for index, section in enumerate(rendered.sections, 1)
    )
    # The overview links to the suite's page of the site that is not built.
    return Page(suite, table, "".join(parts).replace('href="../../../../expectations/', 'data-suite="'))


def _shown(content: Any) -> Any:
    """Escaped, since its templates put values that broke a rule into the page as they are; and without what is folded
    away: no script here unfolds it, and it holds times and random names."""
    if isinstance(content, dict):
        return {name: value if name == _ICON else _shown(value) for name, value in content.items()}
    if isinstance(content, list):
        folded = [isinstance(one, dict) and one.get("content_block_type") == "collapse" for one in content]
        return [_shown(one) for one, hidden in zip(content, folded, strict=True) if not hidden]
    return html.escape(content) if isinstance(content, str) else content


def page_if_broken(runner: Runner, suite: str, table: str, outcomes: Iterable[Outcome]) -> Page | None:
    """The page of what `runner` last found, when any of a table's outcomes is not met."""
    return None if all(one.success for one in outcomes) else page_of(runner, suite, table)


def few_sections(pages: Iterable[Page], seen: Counter[str]) -> Iterator[Page]:
    """The pages, of which only those keep their sections that will be shown: the others are merely counted.

    `seen` counts the pages of each suite from one call to the next.
    """
    for page in pages:
        seen[page.suite] += 1
        yield page if seen[page.suite] <= MOST else replace(page, sections="")


def write_data_docs(folder: Path, pages: Sequence[Page], outcomes: Sequence[Outcome], what: str) -> None:
    """A static site: `index.html` with the summary, and a page for each suite."""
    folder.mkdir(parents=True)
    suites = list(dict.fromkeys(outcome.suite for outcome in outcomes))
    for suite in suites:
        body = '<p><a href="index.html">All results</a></p>'
        body += _tables([outcome for outcome in outcomes if outcome.suite == suite])
        body += _sections([page for page in pages if page.suite == suite])
        (folder / f"{suite}.html").write_text(_document(f"{what}: {suite}", body), encoding="utf-8")
    links = "".join(f'<li><a href="{html.escape(suite)}.html">{html.escape(suite)}</a></li>' for suite in suites)
    body = f"{_summary(outcomes)}<h2>Results by suite</h2><ul>{links}</ul>"
    (folder / "index.html").write_text(_document(f"Validation of the {what}", body), encoding="utf-8")


def deck(pages: Sequence[Page], outcomes: Sequence[Outcome], what: str) -> str:
    """One self-contained page: the summary, then the results of each suite that says more than it."""
    broken = {outcome.suite for outcome in outcomes if not outcome.success}
    body = _summary(outcomes)
    for suite in sorted(broken, key=[outcome.suite for outcome in outcomes].index):
        body += f"<h2>{html.escape(suite)}</h2>"
        body += _sections([page for page in pages if page.suite == suite])
    return _document(f"Validation of the {what}", body)


def _sections(pages: Sequence[Page]) -> str:
    body = "".join(f"<h3>{html.escape(page.table)}</h3>{page.sections}" for page in pages[:MOST])
    left = len(pages) - MOST
    return body + (f"<p>{left} more tables break a rule; the numbers above count them.</p>" if left > 0 else "")


@cache
def _section_view() -> "DefaultJinjaSectionView":
    """One for all pages: it compiles its templates once."""
    from great_expectations.render.view import DefaultJinjaSectionView

    return DefaultJinjaSectionView()


COLUMNS = ("", "suite", "expectation", "severity", "parts failed", "rows failed", "where", "a sample row")


def _summary(outcomes: Iterable[Outcome]) -> str:
    """Every expectation on one line, those that are not met first."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.suite, outcome.expectation), []).append(outcome)
    ordered = sorted(groups.values(), key=_rank)
    met = sum(all(one.success for one in group) for group in ordered)
    says = f"<p>{met} of {len(ordered)} expectations are met.</p>"
    return says + _table(COLUMNS, [_line(group) for group in ordered])


def _tables(outcomes: Sequence[Outcome]) -> str:
    """The results of one suite by table, for as many as have something to say."""
    columns = ("", "table", "expectation", "rule", "parts failed", "rows failed", "a sample row")
    shown = [outcome for outcome in outcomes if not outcome.success or outcome.shard == "all"]
    rows = [
        (_mark([one]), one.shard, one.expectation, f"{one.type}({one.column})", f"{one.parts_failed} / {one.parts}",
         f"{one.observed:,} / {one.total:,}", next(iter(one.samples), ""))
        for one in shown
    ]  # fmt: skip
    others = len({outcome.shard for outcome in outcomes} - {outcome.shard for outcome in shown})
    return _table(columns, rows) + (f"<p>{others} tables meet every expectation.</p>" if others else "")


def _rank(group: Sequence[Outcome]) -> int:
    if all(one.success for one in group):
        return 3
    return ("stop", "quarantine", "warn").index(group[0].severity.value)


def _line(group: Sequence[Outcome]) -> tuple[str, ...]:
    first, failed = group[0], [one for one in group if not one.success]
    where = ", ".join(f"{one.shard}: {one.observed:,}" for one in failed[:MOST])
    where += f" and {len(failed) - MOST} more" if len(failed) > MOST else ""
    sample = next((f"{one.shard}: {text}" for one in failed for text in one.samples), "")
    parts = f"{sum(one.parts_failed for one in group):,} / {sum(one.parts for one in group):,}"
    rows = f"{sum(one.observed for one in group):,} / {sum(one.total for one in group):,}"
    return _mark(group), first.suite, first.expectation, first.severity.value, parts, rows, where, sample


def _mark(group: Sequence[Outcome]) -> str:
    marks = (("failed", "STOP"), ("aside", "set aside"), ("aside", "warning"), ("fine", "met"))
    style, word = marks[_rank(group)]
    return f'<span class="{style}">{word}</span>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first cell of a row is markup, all others are text."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><td>{mark}</td>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for mark, *cells in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _document(title: str, body: str) -> str:
    name = html.escape(title)
    return visible_page(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
        f"<body><h1>{name}</h1>{body}</body></html>"
    )
