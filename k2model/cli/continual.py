"""A line of models from the outside: its ledger, its champion, and what a person decides about it.

`k2 continual`, `k2 schedule`, `k2 promote`, `k2 rollback`; `k2 inbox` is `k2model.cli.inbox`. What is decided here is
an entry of the ledger, as any decision is; MLflow is brought to what the ledger says, now or by the next run.
"""

import json

import click

from k2model.cli.line import (
    SCHEDULES,
    TURNS,
    line_of,
    line_option,
    line_options,
    reason_option,
    recipe_of,
    schedule_rows,
    status_of,
    tell,
    value,
    what,
)
from k2model.cli.terminal import (
    CommandGroup,
    as_json_option,
    console,
    overrides_option,
    show,
    table,
)
from k2model.errors import K2Error
from k2model.units import readable_count

ENTRIES = ("number", "written", "kind", "what")


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


@continual.command("ledger")
@click.option("--verify", is_flag=True, help="Read the whole chain, and look whether the artifacts it names are there.")
@click.option("--last", type=click.IntRange(1), default=50, show_default=True, help="Entries to show.")
@line_options
@as_json_option
def show_ledger(verify: bool, last: int, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """The newest entries, oldest first; --verify checks all of them and ends with 1 where something is gone.

    \b
    k2 continual ledger --last 10
    k2 continual ledger --verify
    """
    _, _, ledger = line_of(recipe, overrides, store)
    if verify:
        found = ledger.verify()
        told = {"entries": found.entries, "head": found.head, "artifacts": found.artifacts, "lost": [*found.lost]}
        if as_json:
            click.echo(json.dumps(told))
        else:
            show(("checked", "value"), [(name, value(one)) for name, one in told.items()], as_json)
        if found.lost:
            raise SystemExit(1)
        return
    after = max(0, ledger.state().entries - last)
    times = ledger.times(after)
    rows = [
        (entry.number, times.get(entry.number, "not known"), entry.kind, what(entry.content))
        for entry in ledger.entries(after)
    ]
    show(ENTRIES, rows, as_json)


@click.command()
@click.argument("turn", type=int)
@click.option("--decline", is_flag=True, help="Say no instead: the turn is refused and its batches are set aside.")
@reason_option
@line_options
@as_json_option
def promote(
    turn: int, decline: bool, reason: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool
) -> None:
    """Make the challenger of TURN, which is held for a person, the champion.

    \b
    k2 promote 12 --reason "read its answers"
    k2 promote 12 --decline --reason "it swears"
    """
    opened, box, ledger = line_of(recipe, overrides, store)
    state = ledger.state()
    if not decline:
        state = ledger.append("promote", {"turn": turn, "reason": reason}, after=state)
    elif turn not in state.held or state.champion is None:
        held = " and ".join(f"turn {one}" for one in state.held) or "none"
        raise K2Error(f"turn {turn} does not wait for a person; {held} does")
    else:
        state = ledger.append("rollback", {"to": state.champion, "reason": reason or "declined"}, after=state)
    tell(opened, box.recipe, state, as_json)


@click.command()
@click.option(
    "--to", type=int, help="The turn whose champion stands again (0 is the lifecycle's); else the one before."
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the ledger.")
@line_options
@as_json_option
def rollback(to: int | None, reason: str, recipe: str, overrides: tuple[str, ...], store: str, as_json: bool) -> None:
    """Let an earlier champion stand again; batches of the turns after it are set aside.

    A turn that is running is given up, and one that waits for a person is declined.

    \b
    k2 rollback --reason "worse at spelling"
    k2 rollback --to 3 --reason "all since November"
    """
    opened, box, ledger = line_of(recipe, overrides, store)
    state = ledger.state()
    if to is None:
        if not state.before:
            raise K2Error(f"line '{state.line}' has had no other champion that could stand again")
        to = state.before[-1]
    state = ledger.append("rollback", {"to": to, "reason": reason}, after=state)
    tell(opened, box.recipe, state, as_json)


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
