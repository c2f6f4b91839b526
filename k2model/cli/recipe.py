"""`k2 recipe`: which recipes there are, what one says field by field, and a file of one's own begun from one."""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import click

from k2model.cli.terminal import CommandGroup, as_json_option, console, overrides_option, pairs, say, show, table
from k2model.settings import recipe_name

WHOLE = 40  # characters of a value shown on the line of its row
Line = tuple[int, str, str, str, bool]  # depth, field, value, what the schema says of it, whether it is the default


@click.group(cls=CommandGroup)
def recipe() -> None:
    """Recipes: the project's own, and a file of yours to begin with."""


@recipe.command("list")
@as_json_option
def list_recipes(as_json: bool) -> None:
    """The project's own recipes. A file of yours is named by its path: k2 plan mine.py."""
    from k2model.recipe import RECIPES, load_recipe
    from k2model.units import readable_count

    rows = []
    for name in RECIPES:
        one = load_recipe(name)
        tokens = sum(phase.tokens for phase in one.phases)
        rows.append((name, len(one.phases), tokens if as_json else readable_count(tokens), one.description))
    show(("recipe", "phases", "tokens", "what it is"), rows, as_json)


@recipe.command("show")
@click.argument("name", default=recipe_name)
@click.argument("path", default="")
@overrides_option
@as_json_option
def show_recipe(name: str, path: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """What recipe NAME says, every field of it or of PATH; what differs from the schema's default is bright.

    \b
    k2 recipe show laptop
    k2 recipe show mine.py phases.sft.optimizer
    k2 recipe show smoke gates --set 'gates.mid_4=null' --json
    """
    from rich.text import Text

    from k2model.recipe import chosen_recipe
    from k2model.recipe.overrides import value_at

    found = value_at(chosen_recipe(name, pairs(overrides)), path)
    if as_json:
        click.echo(json.dumps(_plain(found)))
        return
    rows = []
    for depth, field, value, said, usual in _lines(found):
        rows.append(("  " * depth + field, Text(value, "dim" if usual else ""), Text(said, "dim")))
    console().print(table((path or name, "value", "meaning"), rows))


@recipe.command("new")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--from", "base", default="laptop", show_default=True, help="The recipe to begin from, a file as well.")
@overrides_option
def new_recipe(file: Path, base: str, overrides: tuple[str, ...]) -> None:
    """Write FILE, a recipe of your own with the values of another one, and comments on them.

    \b
    k2 recipe new mine.py --from laptop
    k2 recipe new short.py --from smoke --set phases.sft.steps=3
    """
    from k2model.errors import K2Error
    from k2model.recipe import RECIPES, load_recipe
    from k2model.recipe.writing import recipe_as_python

    if file.suffix != ".py":
        raise K2Error(f"{file} is no Python file; a recipe is one: k2 recipe new {file.with_suffix('.py')}")
    begun = replace(load_recipe(base, pairs(overrides)), name=file.stem)
    text = recipe_as_python(begun, str(file), base, load_recipe(base) if base in RECIPES else None)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise K2Error(f"{file} is there already, and is not written over; remove it, or name another file") from None
    except OSError as error:
        raise K2Error(f"{file} cannot be written: {error.strerror}") from error
    assert load_recipe(str(file)) == begun, "a file that is written gives the recipe that it is of"
    say(
        f"{file} gives the recipe '{begun.name}', begun from {base}. Change it (docs/own_recipe.md), then:\n"
        f"  k2 recipe show {file}\n  k2 plan {file}\n  make lifecycle RECIPE={file}"
    )


def _lines(value: Any, depth: int = 0) -> Iterator[Line]:
    """A line for every field of a value. A row of a table has one line with what it sets, but for phases, which are
    told whole, as any row is by its path."""
    from k2model.recipe.writing import field_comments

    if isinstance(value, tuple):
        for row in value:
            yield from _row(row, depth)
    elif is_dataclass(value) and not isinstance(value, type):
        said = field_comments(type(value))
        for field in fields(value):
            one = getattr(value, field.name)
            if is_dataclass(one) or (isinstance(one, tuple) and one and is_dataclass(one[0])):
                count = f"{len(one)} rows" if isinstance(one, tuple) else ""
                yield depth, field.name, count, said.get(field.name, ""), False
                yield from _lines(one, depth + 1)
            else:
                yield depth, field.name, _told(one), said.get(field.name, ""), one == field.default
    else:
        yield depth, "", _told(value), "", False


def _row(row: Any, depth: int) -> Iterator[Line]:
    from k2model.recipe.overrides import row_name

    if not is_dataclass(row):
        yield depth, "", _told(row), "", False
    elif hasattr(row, "mixture"):
        yield depth, row_name(row), "", "", False
        yield from _lines(row, depth + 1)
    else:
        given = [f for f in fields(row)[1:] if getattr(row, f.name) != f.default]
        said = ", ".join(f"{f.name}={_short(_told(getattr(row, f.name)))}" for f in given)
        yield depth, row_name(row), said, "", False


def _told(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ", ".join(map(_told, value)) or "none"
    if is_dataclass(value):
        return f"({', '.join(f'{f.name}={_told(getattr(value, f.name))}' for f in fields(value))})"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value) or '""'


def _short(text: str) -> str:
    return text if len(text) <= WHOLE else f"{text[: WHOLE - 3]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
