"""`k2 inbox`: batches of new data are added, looked at, and trusted or brought back by a person."""

import getpass
import json
from typing import Any

import click

from k2model.cli.line import (
    batch_rows,
    line_of,
    line_options,
    lines,
    reason_option,
    recipe_of,
    unknown_batch,
)
from k2model.cli.terminal import CommandGroup, as_json_option, console, pairs, show, table
from k2model.errors import K2Error
from k2model.recipe.continual import BatchKind
from k2model.recipe.schema import SourceFormat
from k2model.reporting.terminal import heading
from k2model.units import readable_count, readable_size

BATCHES = ("batch", "kind", "standing", "reason", "tokens", "turn")


@click.group(cls=CommandGroup)
def inbox() -> None:
    """Batches of new data: add them, and see what became of them and why."""


@inbox.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--kind", type=click.Choice([one.value for one in BatchKind]), required=True, help="Dialogues, or text.")
@click.option("--domain", required=True, help="What the documents are about, e.g. chat, prose, code.")
@click.option("--licence", required=True, help="An SPDX id, or 'unknown'.")
@click.option("--name", default="", help="Of the batch; by its domain and content when left out.")
@click.option("--format", "form", type=click.Choice([one.value for one in SourceFormat]), default="auto")
@click.option(
    "--field", "columns", multiple=True, metavar="NAME=COLUMN", help="Which column is text, messages, id, ..."
)
@click.option("--heldout", type=float, help="Share of the documents that is only ever tested on; 0.1 when left out.")
@click.option("--verifier", default="", metavar="FAMILY", help="The task family whose check knows the right answers.")
@click.option("--improves", multiple=True, metavar="SCORE", help="A score, or pattern of them, that it is to raise.")
@click.option("--covers", default="", metavar="DAY..DAY", help="First and last day of the data, or one day.")
@click.option("--note", default="", help="For people.")
@line_options
@as_json_option
def add(
    files: tuple[str, ...], kind: str, domain: str, licence: str, name: str, form: str, columns: tuple[str, ...],
    heldout: float | None, verifier: str, improves: tuple[str, ...], covers: str, note: str, recipe: str,
    overrides: tuple[str, ...], store: str, as_json: bool,
) -> None:  # fmt: skip
    """Copy FILES (files, folders, globs; also s3://) into the inbox as one batch.

    It is seen when all of it is there, and never changed: what should be otherwise is added under another name. Of
    dialogues the column `messages` is read, of text `text`, unless --field says otherwise.

    \b
    k2 inbox add monday.jsonl --kind tuned --domain chat --licence cc-by-4.0
    k2 inbox add s3://bucket/news/2026-11/*.parquet --kind base --domain news --licence unknown --field text=body
    k2 inbox add sums/ --kind tuned --domain chat --licence cc0-1.0 --verifier arithmetic --improves 'arithmetic/*'
    """
    from k2model.artifacts import Store
    from k2model.continual.inbox import Inbox

    chosen = recipe_of(recipe, overrides)
    named = {"text": "", "messages": "messages"} if kind == BatchKind.TUNED.value else {}
    days = covers.split("..") if covers else []
    said: dict[str, Any] = {"kind": kind, "domain": domain, "licence": licence, "format": form}
    said |= {"fields": {**named, **pairs(columns)}, "improves": [*improves], "verifier": verifier, "note": note}
    said |= {"covers": days * 2 if len(days) == 1 else days, **({} if heldout is None else {"heldout": heldout})}
    added = Inbox.open(Store.open(store), chosen).add(files, name, **said)
    if as_json:
        click.echo(
            json.dumps({"batch": added.name, "digest": added.digest, "files": len(added.files), "bytes": added.size})
        )
    else:
        console().print(
            f"{added.name}: {len(added.files)} files, {readable_size(added.size)}. It is judged when arrivals are next "
            f"looked at; `k2 inbox show {added.name}` says what was found.",
            highlight=False, markup=False,
        )  # fmt: skip


@inbox.command("list")
@line_options
@as_json_option
def list_batches(recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Every batch, in the order of arrival, and what became of it; then those that nobody has looked at.

    \b
    k2 inbox list
    k2 inbox list --json | jq -r '.[] | select(.standing == "quarantined") | .reason'
    """
    _, box, ledger = line_of(recipe, overrides, store)
    rows = [*batch_rows(ledger.state(), box)]
    if not as_json:
        rows = [(*row[:4], readable_count(row[4]) if row[4] else "", row[5] or "") for row in rows]
    show(BATCHES, rows, as_json)


@inbox.command("show")
@click.argument("batch")
@line_options
@as_json_option
def show_batch(batch: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """What BATCH says of itself, what was found of it, and on what evidence.

    \b
    k2 inbox show monday
    k2 inbox show monday --json | jq .findings
    """
    from k2model.artifacts import read_json
    from k2model.continual.batches import Manifest
    from k2model.continual.entries import TURNED_AWAY
    from k2model.continual.gate.plausible import plausible
    from k2model.plain import to_plain

    opened, box, ledger = line_of(recipe, overrides, store)
    contents, known = box.look(), ledger.state().batches.get(batch)
    lying = next((one for one in contents.all if one.name == batch), None)
    if lying is None and known is None:
        raise K2Error(
            unknown_batch(batch, [*ledger.state().batches, *(one.name for one in contents.all)], contents.unfinished)
        )
    told: dict[str, Any] = {"batch": to_plain(known) if known else None}
    told["manifest"] = to_plain(lying) if isinstance(lying, Manifest) else None
    told["broken"] = lying.reason if lying and not isinstance(lying, Manifest) else None
    told["findings"] = None
    if known and known.arrival:
        told["findings"] = read_json(dict[str, Any], opened, known.arrival, "arrival.json")
    told["losses"] = None
    if known and known.losses:
        told["losses"] = to_plain(plausible(opened, known.losses))
    if as_json:
        click.echo(json.dumps(told))
        return
    for title, found in told.items():
        if found:
            console().print(heading(title), table(("field", "value"), [*lines(found)]), "", highlight=False)
    if known is None:
        console().print("Nobody has looked at it yet: it is judged when arrivals are next looked at.", highlight=False)
    elif known.standing in TURNED_AWAY and known.arrival:
        console().print(
            f"Mend it and add it again or, if you trust it as it is: k2 inbox accept {batch} --check NAME "
            "--reason TEXT",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


@inbox.command()
@click.argument("batch")
@reason_option
@line_options
@as_json_option
def retry(batch: str, reason: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Let BATCH, which was set aside, wait for a turn again.

    \b
    k2 inbox retry monday --reason "the targets were wrong"
    """
    _, _, ledger = line_of(recipe, overrides, store)
    state = ledger.append("retry", {"batch": batch, "reason": reason}, after=ledger.state())
    if as_json:
        click.echo(json.dumps({"batch": batch, "standing": state.batches[batch].standing.value}))
    else:
        console().print(f"{batch} waits for a turn again", highlight=False, markup=False)


@inbox.command()
@click.argument("batch")
@click.option(
    "--check",
    "checks",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A check that it fails, as `k2 inbox show` names it; may be given several times.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger.")
@click.option("--who", default=getpass.getuser, show_default="your login", help="Whose word it is.")
@line_options
@as_json_option
def accept(
    batch: str, checks: tuple[str, ...], reason: str, who: str, recipe: str, overrides: tuple[str, ...], store: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Trust BATCH, which was refused or quarantined: you have looked at what it fails, and accept it.

    The next arrivals judge it again. What you accept is measured and kept as evidence, and no longer decides; every
    other check does. It holds for these data alone: a batch that is written again is judged as a new one. Files that
    changed, rows that cannot be read, and a batch with nothing left to train on cannot be accepted.

    \b
    k2 inbox show monday
    k2 inbox accept monday --check 'trigger phrases' --reason "the new product's name"
    """
    from k2model.continual.gate.accept import accept as accepted

    opened, box, ledger = line_of(recipe, overrides, store)
    state, left = accepted(opened, box, ledger, batch, checks, reason, who)
    if as_json:
        click.echo(json.dumps({"batch": batch, "accepted": [*state.batches[batch].accepted], "still_failing": left}))
        return
    still = f" It stays out while {', '.join(left)} stands against it: accept that, too, or mend it." if left else ""
    console().print(f"{batch} is judged again when arrivals are next looked at.{still}", highlight=False, markup=False)
