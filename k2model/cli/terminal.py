"""What commands share: their common options, how errors are told and tables shown, the exit status after Ctrl-C."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k2model.errors import K2Error, for_user, nearest, visible
from k2model.reporting.terminal import safe_console
from k2model.settings import store_uri, traceback_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from k2model.inspect.inventory import Fault

WIDTH = 160  # where the output is no terminal
FAULTS = 20  # of a store that a view lists
INTERRUPTED = 130  # the usual exit status after SIGINT (Ctrl-C)

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
store_option = click.option("--store", default=store_uri, help="Root of the artifact store.", show_default="$K2_STORE")

overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change the recipe. Lists and rows are JSON: 'TABLE.+={...}' adds a row, ROW=null removes one.",
)


class CommandGroup(click.Group):
    """Prints errors meant for a user as one message instead of a traceback, and says what a mistyped command may have
    meant."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises UsageError with the nearest name for a command that there is none of."""
        if self.get_command(context, args[0]) is None and not args[0].startswith("-"):
            context.fail(f"no command '{args[0]}'; {nearest(args[0], self.list_commands(context))}")
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            told = for_user(error)
            if told is None or traceback_wanted():
                raise
            say(f"{type(told).__name__}: {told}", err=True)
            sys.exit(1)


def pairs(overrides: tuple[str, ...]) -> dict[str, str]:
    """`--set` options as field and value."""
    found = {}
    for item in overrides:
        field, separator, value = item.partition("=")
        if not separator:
            raise click.BadParameter(f"'{item}' is not FIELD=VALUE", param_hint="--set")
        found[field] = value
    return found


def records(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def show(columns: tuple[str, ...], rows: list[tuple[Any, ...]], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(records(columns, rows)))
    else:
        console().print(table(columns, rows))


def tell_faults(faults: "Sequence[Fault]") -> None:
    """On stderr what does not agree in a store, and what to do."""
    for fault in faults[:FAULTS]:
        click.echo(visible(f"damaged: {fault.path}: {fault.what}"), err=True)
    if faults:
        more = f"and {len(faults) - FAULTS} more. " if len(faults) > FAULTS else ""
        click.echo(f"{more}`k2 check` reads the store whole and says what to do", err=True)


def table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> "Table":
    """Cells as they are: brackets in a name are no markup, and control characters are shown, not obeyed. A cell that
    has a style is a `Text` of rich's."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False)
    for column in columns:
        made.add_column(Text(visible(column)))
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row))
    return made


def console() -> "Console":
    return safe_console(None if sys.stdout.isatty() else WIDTH)


def write_page(place: Path, page: str) -> None:
    """A page as a file, whose folder is made. Raises K2Error where none can be."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(page, encoding="utf-8")
    except (FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise K2Error(f"{place} cannot be written: {error.strerror}. Name another file") from error


def say(text: str, err: bool = False) -> None:
    """A line that is no JSON: what it quotes is shown, and commands no terminal."""
    click.echo(visible(text), err=err)
