"""`k2 tokenizer`: how well a tokenizer fits each domain, beside another one. Imports nothing heavy until it runs."""

import json
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import as_json_option, console, records, store_option, table
from k2model.reporting.terminal import heading

if TYPE_CHECKING:
    from k2model.tokens.fertility import Fertility

COLUMNS = (
    "domain", "tokenizer", "texts", "bytes", "words", "tokens", "tokens per word", "bytes per token", "one-token words",
)  # fmt: skip


@click.command("tokenizer")
@click.argument("reference")
@click.option("--against", default="", metavar="PEER", help="'tekken', or a folder or file of a tokenizer.json.")
@click.option("--corpus", default="", metavar="REF", help="Measure on this corpus.  [default: the project's own texts]")
@click.option("--split", type=click.Choice(["train", "heldout"]), default="heldout", show_default=True)
@click.option(
    "--bytes", "limit", type=click.IntRange(1), default=1_000_000, show_default=True, help="Text read of each source."
)
@store_option
@as_json_option
def tokenizer(reference: str, against: str, corpus: str, split: str, limit: int, store: str, as_json: bool) -> None:
    """Tokens per word, bytes per token and the share of words that are one token, by domain, for tokenizer REFERENCE.

    A word is a run of letters; see docs/tokens.md. Every text is checked to come back from its ids.

    \b
    k2 tokenizer tokenizer --against tekken
    k2 tokenizer /tmp/folder --corpus corpus_valid --json
    """  # fmt: skip
    from k2model.inspect.artifact import view_of
    from k2model.inspect.statistics import texts_by_domain
    from k2model.tokens.fertility import fertility, open_peer, reference_texts

    view = view_of(reference, store)
    measured = [(view.name, view.own_tokenizer())]
    if against:
        measured.append((against, open_peer(against)))
    texts = texts_by_domain(view_of(corpus, store), split, limit) if corpus else reference_texts()
    by_tokenizer = [(name, fertility(codec, texts, name)) for name, codec in measured]
    rows = [(name, found) for place in range(len(texts)) for name, own in by_tokenizer for found in (own[place],)]
    if as_json:
        click.echo(json.dumps({
            "vocabulary": {name: codec.vocab_size for name, codec in measured},
            "domains": records(COLUMNS, [_cells(name, found) for name, found in rows]),
        }))  # fmt: skip
        return
    out = console()
    for name, codec in measured:
        out.print(heading(name, f"{codec.vocab_size:,} entries"))
    out.print("", table(COLUMNS, [tuple(map(_shown, _cells(name, found))) for name, found in rows]))


def _cells(name: str, found: "Fertility") -> tuple[Any, ...]:
    measures = (found.tokens_per_word, found.bytes_per_token, found.one_token_share)
    return (found.domain, name, found.texts, found.bytes, found.words, found.tokens, *measures)


def _shown(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
