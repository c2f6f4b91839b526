"""A line of models that goes on by itself, from the outside: `k2 continual`, `k2 schedule`.

What a person decides about it is `k2model.cli.promotion` and, of batches, `k2model.cli.inbox`.
"""

import json

import click

from k2model.cli.line import (
    SCHEDULES,
    TURNS,
    line_of,
    line_option,
    line_options,
    recipe_of,
    schedule_rows,
    status_of,
    value,
)
from k2model.cli.promotion import ledger
from k2model.cli.terminal import (
    CommandGroup,
    as_json_option,
    console,
    overrides_option,
    show,
    table,
)
from k2model.units import readable_count


@click.group(cls=CommandGroup)
def continual() -> None:
    """A line of models that goes on with new data: its champion, its turns, its ledger."""


@continual.command()
@line_options
@as_json_option
def status(recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """The champion, what waits, every turn and why it ended as it did, and when the next one is.

    \b
    k2 continual status
    k2 continual status --recipe mine.py --json | jq '.turns[-1]'
    """
    _, box, ledger = line_of(recipe, overrides, store)
    told = status_of(ledger, box)
    if as_json:
        click.echo(json.dumps(told))
        return
    out = console()
    plain = [(name, value(one)) for name, one in told.items() if one and name not in ("turns", "schedules")]
    out.print(table(("", ""), plain), "")
    if told["turns"]:
        rows = [tuple({**one, "tokens": readable_count(one["tokens"] or 0)}.values()) for one in told["turns"]]
        out.print(table(TURNS, rows), "")
    out.print(table(SCHEDULES, schedule_rows(box.recipe)))


continual.add_command(ledger)


@click.group(cls=CommandGroup)
def schedule() -> None:
    """When a line goes on by itself."""


@schedule.command("list")
@line_option
@overrides_option
@as_json_option
def list_schedules(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """The schedules that `make register` activates, and when each is next due.

    \b
    k2 schedule list --recipe k2_70b
    """
    show(SCHEDULES, schedule_rows(recipe_of(recipe, overrides)), as_json)
