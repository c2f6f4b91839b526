"""`k2 compare`: two artifacts or models beside each other, in the terminal and as a page."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.lineage import names_in, names_options
from k2model.cli.terminal import as_json_option, console, say, table, write_page
from k2model.reporting.terminal import heading

if TYPE_CHECKING:
    from k2model.evals.scores import ScoreRow
    from k2model.inspect.comparison import Comparison
    from k2model.inspect.comparison.content import Side

SETTINGS = ("of", "field", "first", "second")
SCORES = ("score", "first", "n", "second", "n", "difference", "95%", "p", "gained", "lost", "on", "second is")
_LONG = 60  # characters of a setting


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also as one HTML page, with curves.")
@names_options
@as_json_option
def compare(
    first: str, second: str, out: Path | None, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool
) -> None:
    """SECOND against FIRST: how they are related, the settings that differ down to their sources, and every score with
    n and 95% interval; on the items that both were asked also the paired difference with its interval and McNemar's
    exact p.

    Each is named as for `k2 lineage`: as `k2 plan` prints it (sft/checkpoint), a phase (sft), a version of MLflow
    (sft@6, model@champion), a step, `step/key`, or the beginning of a digest. What is missing on a side is named.

    \b
    k2 compare mid_4 sft
    k2 compare sft@6 sft@12 --out compare.html
    k2 compare model@champion model@candidate --json
    """
    from k2model.inspect.comparison import comparison_of, comparison_page

    names = names_in(store, recipe, overrides)
    sides = names.find(first), names.find(second)
    found = comparison_of(names.store, names.lineage, *sides)
    if out:
        write_page(out, comparison_page(found))
    if as_json:
        click.echo(json.dumps(_record(found)))
        return
    for side in sides:
        if side.note:
            say(f"{side.note}; this is the newest of that name here", err=True)
    _show(found)
    for said in found.missing:
        say(f"missing or not agreeing: {said}", err=True)
    say(f"{out}: the same as a page, with curves" if out else "as a page, with curves: --out compare.html")


def _show(found: "Comparison") -> None:
    from k2model.inspect.comparison.scores import expected_by_luck

    out = console()
    for which, side in (("first", found.first), ("second", found.second)):
        out.print(heading(which, f"{side.title}  {side.place}{_way(side)}"))
    out.print(found.relation, "", highlight=False, sep="\n")
    out.print(heading("Settings", "" if found.settings else "none differ, here and in all that they were made from"))
    if found.settings:
        rows = [(one.of, one.field, _short(one.first), _short(one.second)) for one in found.settings]
        out.print(table(SETTINGS, rows))
    if not found.scores:
        return
    tests = sum(one.paired is not None for one in found.scores)
    said = f"{tests} paired tests, of which {expected_by_luck(found.scores):.1f} are significant at 5% by luck alone"
    out.print("", heading("Scores", said), sep="\n")
    out.print(table(SCORES, [_score(one) for one in found.scores]))


def _way(side: "Side") -> str:
    if not side.way:
        return ""
    return f"  from {side.origin} through {', '.join(one.name for one in side.way)}; {side.way[-1].end:,} tokens"


def _score(one: Any) -> tuple[Any, ...]:
    pair = one.paired
    told = ("", "", "", "", "", "", one.problem)
    if pair is not None:
        p = "" if pair.p is None else f"{pair.p:.3g}"
        interval = f"{pair.low:+.3f} to {pair.high:+.3f}"
        told = (f"{pair.difference:+.3f}", interval, p, str(pair.gained), str(pair.lost), str(pair.n), one.verdict)
    return (one.score, *_row(one.first), *_row(one.second), *told)


def _row(row: "ScoreRow | None") -> tuple[str, str]:
    return ("-", "") if row is None else (f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})", str(row.n))


def _short(value: Any) -> str:
    from k2model.inspect.comparison.settings import shown

    text = shown(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"


def _record(found: "Comparison") -> dict[str, Any]:
    sides = {
        which: {
            "asked": side.named.asked, "name": side.name, "artifact": side.place, "digest": side.named.key[1],
            "note": side.named.note, "origin": side.origin, "phases": [one.name for one in side.way],
            "tokens": side.way[-1].end if side.way else None,
        }
        for which, side in (("first", found.first), ("second", found.second))
    }  # fmt: skip
    scores = [asdict(one) | {"verdict": one.verdict, "significant": one.significant} for one in found.scores]
    told = {"relation": found.relation, "settings": [asdict(one) for one in found.settings], "scores": scores}
    return sides | told | {"missing": found.missing}
