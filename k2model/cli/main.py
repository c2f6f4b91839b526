"""`k2`: look at a lifecycle from the outside. Every command takes `--json` for machines.

Commands import what they need when they run, so that `k2 --help` answers at once.
"""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k2model.cli.check import check
from k2model.cli.compare import compare
from k2model.cli.continual import continual, schedule
from k2model.cli.data import data
from k2model.cli.eval import evaluate
from k2model.cli.inbox import inbox
from k2model.cli.lineage import lineage
from k2model.cli.mixture import mixture
from k2model.cli.plan import plan
from k2model.cli.promotion import gates, ledger, promote, rollback
from k2model.cli.recipe import recipe
from k2model.cli.safety import safety
from k2model.cli.sources import ingest, recheck
from k2model.cli.study import overlap, study
from k2model.cli.synth import synth
from k2model.cli.terminal import (
    CommandGroup,
    as_json_option,
    console,
    records,
    show,
    store_option,
    table,
    tell_faults,
)
from k2model.cli.tokenizer import tokenizer

if TYPE_CHECKING:
    from rich.table import Table

ARTIFACTS = ("artifact", "state", "made", "seconds", "MB")
WATCH_SECONDS = 2.0


EXITS = "Ends with 0; with 1 and one message for what went wrong; with 2 for a wrong call; with 130 after Ctrl-C."


@click.group(cls=CommandGroup, epilog=EXITS, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The K2 lifecycle: what would run, what has run, where it came from, and whether a release is whole."""


@main.command()
@store_option
@as_json_option
@click.option("--watch", is_flag=True, help=f"Draw it again every {WATCH_SECONDS} s until interrupted.")
def status(store: str, as_json: bool, watch: bool) -> None:
    """Trainings and how far they have come; every artifact of the store, oldest first.

    An artifact is `done`, `lost` (made here, and not here any more), or `damaged`: its manifest, its record and the
    ledger do not agree, or it was written to after it was finished. No file is read for that: `k2 check` reads all.
    """
    from k2model.inspect.artifact import list_artifacts, open_existing
    from k2model.inspect.inventory import take_inventory
    from k2model.inspect.trainings import COLUMNS, list_trainings

    opened = open_existing(store)
    if as_json:
        numbers = [training.numbers() for training in list_trainings(opened)]
        inventory = take_inventory(opened)
        artifacts, faults = records(ARTIFACTS, list_artifacts(inventory)), [asdict(one) for one in inventory.faults]
        click.echo(json.dumps({"trainings": numbers, "artifacts": artifacts, "faults": faults}))
    elif watch:
        _watch(lambda: table(COLUMNS, [training.row() for training in list_trainings(opened)]))
    else:
        out = console()
        if trainings := list_trainings(opened):
            out.print(table(COLUMNS, [training.row() for training in trainings]), "")
        inventory = take_inventory(opened)
        out.print(table(ARTIFACTS, list_artifacts(inventory)))
        tell_faults(inventory.faults)


@main.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@as_json_option
def verify(bundle: Path, as_json: bool) -> None:
    """Check a release folder offline: that it holds all that a release has to, that every file is as its manifest says,
    and that its lineage fits its recipe. Exit status 1 where anything does not.

    \b
    k2 verify outputs/store/release/1f2e3d4c5b6a7988
    """
    from k2model.release import verify_release

    result = verify_release(bundle)
    show(("checked", "value"), result.rows(), as_json)


main.add_command(check)
main.add_command(plan)
main.add_command(lineage)
main.add_command(compare)
main.add_command(recipe)
main.add_command(mixture)
main.add_command(data)
main.add_command(evaluate)
main.add_command(synth)
main.add_command(tokenizer)
main.add_command(safety)
for command in (inbox, continual, schedule, gates, promote, rollback, ledger):
    main.add_command(command)
evaluate.add_command(study)
evaluate.add_command(overlap)
data.add_command(ingest)
data.add_command(recheck)


def _watch(draw: Callable[[], "Table"]) -> None:
    from rich.live import Live

    with contextlib.suppress(KeyboardInterrupt), Live(draw(), console=console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            live.update(draw(), refresh=True)
