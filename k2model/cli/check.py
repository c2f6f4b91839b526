"""`k2 check`: a store read whole, what is damaged in it, what that costs, and the repair."""

import json
import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from k2model.cli.terminal import as_json_option, store_option
from k2model.errors import visible
from k2model.units import readable_seconds, readable_size

if TYPE_CHECKING:
    from k2model.inspect.inventory import Inventory
    from k2model.inspect.reader import Checked, Progress
    from k2model.inspect.repair import Cost, Moved

SHOWN = 6  # names in a line
ON_A_TERMINAL, ELSEWHERE = 0.5, 30.0  # seconds between lines of progress
REMOTE_WORKERS = 16  # each waits for the network most of the time


@click.command()
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
@click.option("--all", "everything", is_flag=True, help="Everything in the store: what no REFERENCE means as well.")
@store_option
@as_json_option
@click.option(
    "--repair", "mend", is_flag=True, help="Move what is damaged to _damaged/NNNN/ in the store; remove nothing."
)
@click.option("--without-lost", is_flag=True, help="What was made here and is not here is no fault: it was removed.")
@click.option("--fresh", is_flag=True, help="Begin anew where a check of the whole store was interrupted.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Files read at a time (default: the cores, 16 of an s3:// store)."
)
def check(
    references: tuple[str, ...],
    everything: bool,
    store: str,
    as_json: bool,
    mend: bool,
    without_lost: bool,
    fresh: bool,
    workers: int | None,
) -> None:
    """Read the store and compare every byte with what was made.

    REFERENCE is a step's name (all its artifacts), `step/key` or the beginning of a digest; without one everything is
    read. Compared are files with manifests, manifests with records and the ledger, inputs and links with what they lead
    to, kept checkpoints, and the chain of every line's ledger. For each fault it says what depends on it, what to do,
    and the command that makes it anew. Nothing is changed without --repair; after it, run that command: what was moved
    is made anew, of equal digests, and all that was made from it stays as it is.

    \b
    k2 check                                  # all; goes on where one was interrupted
    k2 check export tokens/f20d75             # some
    k2 check --repair && make lifecycle       # never runs: faults end with 1, so that they are looked at
    k2 check --repair; make lifecycle         # moves aside, makes anew
    k2 check --json | jq '.faults[].artifact'

    Ends with 0 where all is whole; with 1 where faults were found (repaired or not), or the store could not be read;
    with 2 for a wrong call; with 130 after Ctrl-C.
    """
    from k2model.inspect.artifact import open_existing
    from k2model.inspect.check import check as check_store
    from k2model.inspect.inventory import take_inventory
    from k2model.inspect.repair import costs, repair

    if everything and references:
        raise click.UsageError("a REFERENCE and --all exclude each other")
    opened = open_existing(store)
    wanted = _named(take_inventory(opened), references) if references else None
    workers = workers or (REMOTE_WORKERS if "://" in opened.uri else len(os.sched_getaffinity(0)))
    found = check_store(opened, wanted, workers, fresh, not without_lost, _teller())
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    told = costs(found)
    moved = repair(found) if mend and told else []
    if as_json:
        click.echo(json.dumps(_numbers(found, told, moved, opened.uri)))
    else:
        _print(found, told, moved, mend)
    if told:
        sys.exit(1)


def _named(inventory: "Inventory", references: Collection[str]) -> set[str]:
    """The artifacts that references mean. Raises MissingArtifact for one that means none."""
    from k2model.artifacts import MissingArtifact

    named: set[str] = set()
    for reference in references:
        found = {
            name
            for name, one in inventory.known.items()
            if name.split("/")[0] == reference
            or ("/" in reference and (name.startswith(reference) or reference.startswith(name)))
            or (len(reference) >= 6 and str(one.digest or (one.told or {}).get("digest")).startswith(reference))
        }
        if not found:
            steps = sorted({name.split("/")[0] for name in inventory.known})
            raise MissingArtifact(
                f"no artifact matches '{reference}'; name a step ({', '.join(steps) or 'the store is empty'}), "
                "step/key or the first six characters of a digest; `k2 status` lists them"
            )
        named |= found
    return named


def _teller() -> "Callable[[Progress], None]":
    """Prints the state of the reading now and then, in one line on a terminal."""
    last = time.monotonic()
    terminal = sys.stderr.isatty()

    def tell(progress: "Progress") -> None:
        nonlocal last
        if time.monotonic() - last < (ON_A_TERMINAL if terminal else ELSEWHERE):
            return
        last = time.monotonic()
        left = readable_seconds(progress.seconds_left)
        line = (
            f"{progress.artifacts:,} artifacts, {readable_size(progress.bytes + progress.resumed)} of "
            f"{readable_size(progress.all_bytes)}, {readable_size(progress.rate)}/s, {left} left"
        )
        click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal)

    return tell


def _numbers(found: "Checked", told: "list[Cost]", moved: "list[Moved]", store: str) -> dict[str, Any]:
    progress = found.progress
    return {
        "store": store,
        "artifacts": progress.artifacts,
        "files": progress.files,
        "bytes": progress.bytes,
        "resumed_bytes": progress.resumed,
        "seconds": round(progress.seconds, 3),
        "bytes_per_second": round(progress.rate),
        "faults": [asdict(cost) for cost in told],
        "being_made": found.skipped,
        "unfinished": found.unfinished,
        "lost": found.gone,
        "moved": [asdict(one) for one in moved],
    }


def _print(found: "Checked", told: "list[Cost]", moved: "list[Moved]", mend: bool) -> None:
    progress = found.progress
    before = f", {readable_size(progress.resumed)} read before" if progress.resumed else ""
    click.echo(
        f"{progress.artifacts:,} artifacts, {progress.files:,} files, {readable_size(progress.bytes)}{before} in "
        f"{readable_seconds(progress.seconds)} ({readable_size(progress.rate)}/s)"
    )
    for what, names in (
        ("being made just now, not looked at", found.skipped),
        ("unfinished", found.unfinished),
        ("made here and not here any more", found.gone),
    ):
        if names:
            click.echo(f"{what}: {_listed(names)}")
    if not found.resumable:
        click.echo("the store takes no notes of what was read, so an interrupted check begins anew", err=True)
    lost = [cost for cost in told if {fault.kind for fault in cost.faults} == {"lost"}]
    for cost in (one for one in told if one not in lost[1:]):
        click.echo()
        for fault in cost.faults:
            others = (
                f" (and {len(lost) - 1} more, of which the same is to be said)" if cost in lost[:1] and lost[1:] else ""
            )
            click.echo(visible(f"{fault.path}: {fault.what}{others}"))
        depend = (
            f"{len(cost.dependents)} made from it: {_listed(cost.dependents)}" if cost.dependents else "nothing here"
        )
        took = f"; its step took {readable_seconds(cost.seconds)}" if cost.seconds is not None else ""
        click.echo(visible(f"    depends on it: {depend}{took}"))
        click.echo(visible(f"    to do:         {cost.remedy}"))
        if cost.command:
            click.echo(visible(f"    makes it anew: {cost.command}"))
    click.echo()
    for one in moved:
        click.echo(visible(f"moved {one.path} to {one.to}" if one.to else f"{one.path} is {one.mended}"))
    if not told:
        click.echo("all is whole")
    else:
        faults = sum(len(cost.faults) for cost in told)
        click.echo(
            f"{faults} fault{'s' if faults > 1 else ''} in {len(told)} place{'s' if len(told) > 1 else ''}"
            + (f", {len(moved)} moved or mended; run again" if mend else "")
        )


def _listed(names: Collection[str]) -> str:
    shown = [*names][:SHOWN]
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")
