"""`k2 data`: look into a corpus, its quarantine, token shards and packed rows.

Only drawing is here; what is read is `k2model.inspect.samples` and `k2model.inspect.statistics`.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import CommandGroup, as_json_option, console, store_option, table
from k2model.cli.terminal import show as show_rows
from k2model.reporting.terminal import heading
from k2model.units import readable_count, readable_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from k2model.inspect.samples import Sample
    from k2model.inspect.statistics import Statistics

LIST = "?"  # what `--reason` is without a value
SHOWN = 4_000  # characters of a sample on a terminal; `--json` gives all of it
BAR = 40


@click.group(cls=CommandGroup)
def data() -> None:
    """Documents, quarantined rows, token shards and packed rows, as they are."""


@data.command()
@click.argument("reference")
@click.option("--source", default="", help="Only this source, by its name in the recipe; of items, this family.")
@click.option("--domain", default="", help="Only this domain.")
@click.option("--split", type=click.Choice(["train", "heldout", "items"]), default="train", show_default=True)
@click.option(
    "--reason",
    is_flag=False,
    flag_value=LIST,
    default="",
    metavar="[REASON]",
    help="Rows set aside for REASON, or 'quarantined' for all; without a value, the reasons and their counts.",
)
@click.option("--search", default="", help="Only what contains this text, in either case.")
@click.option("-n", "--n", "n", type=click.IntRange(1), default=5, show_default=True, help="Samples on a page.")
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=int, default=None, help="Draw samples from anywhere instead of in order.")
@click.option("--tokenizer", default="", help="Folder of the tokenizer, where ids are of a plain folder.")
@store_option
@as_json_option
def show(
    reference: str,
    source: str,
    domain: str,
    split: str,
    reason: str,
    search: str,
    n: int,
    page: int,
    seed: int | None,
    tokenizer: str,
    store: str,
    as_json: bool,
) -> None:
    """A page of samples of REFERENCE: a step's name, `step/key`, the beginning of a digest, a folder or a file.

    Dim text is not learned from: prompts in a document, padding in a row. `--split items` pages through the
    evaluation items of a corpus, prompt and answer.

    \b
    k2 data show corpus_valid --source chat/tools --seed 1
    k2 data show corpus_valid --reason
    k2 data show corpus --split items --source arithmetic
    k2 data show sequences --search "capital of"
    """  # fmt: skip
    from k2model.inspect.artifact import view_of
    from k2model.inspect.samples import Query, samples_of

    view = view_of(reference, store)
    if reason == LIST:
        from k2model.inspect.rejects import reasons_of

        show_rows(("reason", "documents", "kept"), [tuple(one) for one in reasons_of(view)], as_json)
        return
    query = Query(split, source, domain, reason, search, n, page, seed)
    found = samples_of(view, query, tokenizer)
    if as_json:
        click.echo(json.dumps({"name": view.name, "page": page, "samples": [one.record() for one in found]}))
        return
    out = console()
    for one in found:
        out.print(_panel(one))
    where = f"{view.name} · page {page}"
    told = f"{len(found)} samples" if found else "nothing (more) that matches"
    out.print(f"{where}: {told}", style="dim", highlight=False)


@data.command()
@click.argument("reference")
@click.option("--split", type=click.Choice(["train", "heldout"]), default="train", show_default=True)
@store_option
@as_json_option
def stats(reference: str, split: str, store: str, as_json: bool) -> None:
    """Lengths of the documents of REFERENCE and what there is by domain, source and licence."""
    from k2model.inspect.artifact import view_of
    from k2model.inspect.statistics import statistics_of

    found = statistics_of(view_of(reference, store), split)
    if as_json:
        click.echo(json.dumps(found.record()))
    else:
        _draw(found)


def _panel(one: "Sample") -> Any:
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    facts = [f"{name} {_fact(value)}" for name, value in one.fields.items() if name != "id"]
    head = Text(" · ".join(facts), style="cyan")
    title = Text(str(one.fields.get("id", one.at)))
    return Panel(Group(head, Text(), _body(one)), title=title, title_align="left", subtitle=Text(one.at), style="none")


def _fact(value: Any) -> str:
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


def _body(one: "Sample") -> "Text":
    """Text with what is no target dimmed, special tokens marked, and a line before each document of a row."""
    from rich.text import Text

    body, documents = Text(), one.fields.get("documents", [])
    before = -1
    for span in one.spans:
        if documents and span.document != before:
            name = documents[span.document] if span.document >= 0 else "padding"
            body.append(f"{chr(10) if len(body) else ''}── {name}\n", style="yellow")
            before = span.document
        style = "magenta" if span.special else ""
        body.append(span.text, style=style if span.target else f"dim {style}".strip())
    if len(body) > SHOWN:
        body, more = body[:SHOWN], len(body) - SHOWN
        body.append(f" … {more:,} characters more (--json shows all)", style="yellow")
    return body


def _draw(found: "Statistics") -> None:
    out, unit = console(), found.unit
    readable = readable_count if unit == "tokens" else readable_size
    amount = f"{readable(found.amount)} {'tokens' if unit == 'tokens' else 'of text'}"
    out.print(heading(found.name, f"{readable_count(found.documents)} documents, {amount}\n"))
    out.print(table(("length", "documents", unit, ""), list(_bars(found, readable))))
    for name, values in found.by.items():
        largest = max(size for _, size in values.values())
        rows = [
            (
                value or "(none)", readable_count(documents), readable(size), f"{size / max(found.amount, 1):.1%}",
                "█" * round(BAR / 2 * size / max(largest, 1)),
            )
            for value, (documents, size) in values.items()
        ]  # fmt: skip
        out.print("", table((name, "documents", unit, "share", ""), rows))


def _bars(found: "Statistics", readable: Any) -> "Iterator[tuple[Any, ...]]":
    most = max((bar.documents for bar in found.lengths), default=0)
    for bar in found.lengths:
        drawn = "█" * round(BAR * bar.documents / most) or ("▏" if bar.documents else "")
        yield f"{bar.low:,} – {bar.high:,}", readable_count(bar.documents), readable(bar.amount), drawn
