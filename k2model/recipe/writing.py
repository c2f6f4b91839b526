"""A recipe written as a Python file that a person goes on with: `k2 recipe new`.

The file is made from a recipe's values and the schema's own comments, so that it cannot fall behind either: it names
every field that differs from the schema's default, and explains a field where it first stands. A part that would take
more than `LONGEST` lines, as the 51 entries of K2's pre-training list, is taken from the recipe that it is begun from.
"""

import inspect
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from k2model.recipe.overrides import OverrideError, value_at
from k2model.recipe.schema import FieldMapping, MixtureEntry, Recipe

WIDTH = 116
LONGEST = 40  # lines of one part
_TAB = "    "

#: What stands above each part, beside the comments of the schema on its fields.
_HEADS = {
    "model": "The transformer. The tokenizer's vocabulary must fit into vocab_size.",
    "sources": (
        "What the corpus is made of, by names that mixtures use. Without a location the project builds a source; "
        "your own files are read where they lie (docs/data_sources.md), for example:\n"
        '    SourceConfig("notes", location="/data/notes/*.jsonl", domain="prose", licence="CC0-1.0"),\n'
        '    SourceConfig("talks", location="/data/talks.jsonl", domain="chat", licence="CC0-1.0",\n'
        '                 fields=FieldMapping(text="", messages="messages")),'
    ),
    "phases": (
        "What is trained, in this order. A phase starts from the checkpoint of its parent, a phase above it, or from "
        "random weights where the parent is empty; several may have one parent. Names are free. A mixture says how "
        "much of each source a phase sees: weights are relative, epochs are passes."
    ),
    "gates": "What scores a phase must reach before an alias moves to it (k2 recipe show NAME gates).",
}


def recipe_as_python(recipe: Recipe, file: str, base: str, original: Recipe | None) -> str:
    """The text of `file`, whose function gives `recipe` and is called after it. `base`: what it is begun from;
    `original`: what that name gives, for parts that are too long; None where all is to be written."""
    writer = _Writer(original)
    parts = {
        "MODEL": ("model", recipe.model, "model"),
        "SOURCES": ("sources", recipe.corpus.sources, "corpus.sources"),
        "PHASES": ("phases", recipe.phases, ""),
        "GATES": ("gates", recipe.gates, "gates"),
    }
    body = []
    for name, (head, value, path) in parts.items():
        body.append(f"\n{_comment(_HEADS[head])}\n{name} = {writer.written(value, 0, path, spread=True)}")
    function = re.sub(r"\W|^(?=\d)", "_", recipe.name)
    named = {id(value): name for name, (_, value, _) in parts.items()}
    whole = writer.written(recipe, 1, "", spread=True, named=named)
    body.append(f"\n\ndef {function}() -> Recipe:\n{_TAB}return {whole}")
    text = "\n".join(body)
    return "\n".join([_opening(recipe, file, base), writer.imports(base, text), text, ""])


def _opening(recipe: Recipe, file: str, base: str) -> str:
    return f'''"""The recipe `{recipe.name}`, begun from `{base}`: a file to change.

    k2 recipe show {file}            every field, with its value
    k2 plan {file}                   which steps it would run, and why
    make lifecycle RECIPE={file}     run it; make package RECIPE={file} writes what a cluster is given

A field that is not named has the default of k2model/recipe/schema.py, which explains all of them.
"""
'''


class _Writer:
    """Values as Python, and what has to be imported for them."""

    def __init__(self, original: Recipe | None) -> None:
        self.original = original
        self.borrows = False
        self.kinds: set[type] = {FieldMapping}
        self.explained: set[tuple[type, str]] = set()

    def imports(self, base: str, body: str) -> str:
        """The head of a file whose rest is `body`."""
        lines = [f"from k2model.recipe import {'Recipe, load_recipe' if self.borrows else 'Recipe'}"]
        used = [
            kind for kind in self.kinds - {Recipe} if re.search(rf"\b{kind.__name__}\(|\b{kind.__name__}\.[A-Z]", body)
        ]
        for module in sorted({kind.__module__ for kind in used}):
            names = ", ".join(sorted(kind.__name__ for kind in used if kind.__module__ == module))
            filled = textwrap.fill(names, WIDTH, initial_indent=_TAB, subsequent_indent=_TAB)
            lines.append(f"from {module} import (\n{filled},\n)")
        if self.borrows:
            lines.append(f'\n# What is too long to be written here is taken from it.\nBASE = load_recipe("{base}")')
        return "\n".join(lines)

    def written(
        self, value: Any, depth: int, path: str, spread: bool = False, named: dict[int, str] | None = None
    ) -> str:
        """`value` as Python at an indent of `depth`; `spread`: on several lines whatever its length, with what the
        schema says of fields. `path` leads to it in the original; `named` has the names of parts written before."""
        explained = set(self.explained)
        text = self._written(value, depth, path, spread, named or {})
        if text.count("\n") > LONGEST and path and self._is_original(path, value):
            self.explained, self.borrows = explained, True
            where = re.sub(r"^phases\.(\w+)\.", r'phase("\1").', path)
            return f"BASE.{where}"
        return text

    def _is_original(self, path: str, value: Any) -> bool:
        try:
            return self.original is not None and bool(value_at(self.original, path) == value)
        except OverrideError:  # a phase that the original does not have
            return False

    def _written(self, value: Any, depth: int, path: str, spread: bool, named: dict[int, str]) -> str:
        if not (is_dataclass(value) or isinstance(value, tuple)) or value == ():
            return self._plain(value, depth)
        flat = self._flat(value)
        if not spread and len(flat) + depth * len(_TAB) + 24 < WIDTH:
            return flat
        if isinstance(value, tuple):
            return self._table(value, depth, path, spread)
        self.kinds.add(type(value))
        lines = []
        for name, one in _given(value):
            below = "" if type(value) is Recipe and name == "phases" else f"{path}.{name}".lstrip(".")
            text = named.get(id(one)) or self.written(one, depth + 1, below, named=named)
            lines.append(self._explained(type(value), name, f"{_TAB * (depth + 1)}{name}={text},"))
        return "\n".join([f"{type(value).__name__}(", *lines, f"{_TAB * depth})"])

    def _explained(self, kind: type, name: str, line: str) -> str:
        """A line with the schema's comment on the field, where it is the first of that field."""
        said = field_comments(kind).get(name, "")
        if not said or (kind, name) in self.explained or (kind is Recipe and name == "phases"):
            return line
        self.explained.add((kind, name))
        if "\n" not in line and len(line) + len(said) + 4 <= WIDTH:
            return f"{line}  # {said}"
        indent = line[: len(line) - len(line.lstrip())]
        return f"{_comment(said, indent)}\n{line}"

    def _table(self, rows: tuple[Any, ...], depth: int, path: str, spread: bool) -> str:
        indent = _TAB * (depth + 1)
        phases = bool(rows) and hasattr(rows[0], "parent")
        texts = [self._written(one, depth + 1, f"phases.{one.name}" if phases else "", phases, {}) for one in rows]
        lines: list[str] = []
        shared = bool(rows) and isinstance(rows[0], MixtureEntry | str)
        for text in texts:
            if lines and shared and "\n" not in text and len(lines[-1]) + len(text) < WIDTH - 2:
                lines[-1] += f" {text},"
            else:
                lines.append(f"{indent}{text},")
        return "\n".join(["(", *lines, f"{_TAB * depth})"])

    def _flat(self, value: Any) -> str:
        if is_dataclass(value):
            self.kinds.add(type(value))
            given = [(name, self._flat(one)) for name, one in _given(value)]
            if given and type(getattr(value, given[0][0])) is str:  # what a row is about; all else needs its name
                given[0] = ("", given[0][1])
            said = [f"{name}={text}" if name else text for name, text in given]
            return f"{type(value).__name__}({', '.join(said)})"
        if isinstance(value, tuple):
            return f"({', '.join(map(self._flat, value))}{',' if len(value) == 1 else ''})"
        return self._plain(value, 0, WIDTH * 100)

    def _plain(self, value: Any, depth: int, width: int = WIDTH) -> str:
        if isinstance(value, Enum):
            self.kinds.add(type(value))
            return f"{type(value).__name__}.{value.name}"
        if isinstance(value, int | float) and 10_000 <= abs(value) < float("inf"):
            return f"{value:_}"
        if isinstance(value, str) and len(value) + depth * len(_TAB) > width - 8:
            indent = _TAB * (depth + 1)
            pieces = _pieces(value, width - len(indent) - 4)
            return "\n".join(["(", *(f"{indent}{_quoted(piece)}" for piece in pieces), f"{_TAB * depth})"])
        return _quoted(value) if isinstance(value, str) else repr(value)


def _given(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that are to be written: all that is required or differs from its default."""
    return [
        (f.name, getattr(value, f.name))
        for f in fields(value)
        if _required(value, f.name) or getattr(value, f.name) != f.default
    ]


def _required(value: Any, name: str) -> bool:
    (declared,) = (f for f in fields(value) if f.name == name)
    return declared.default is MISSING and declared.default_factory is MISSING


def _quoted(text: str) -> str:
    plain = repr(text)
    return f'"{plain[1:-1]}"' if plain[0] == "'" and '"' not in text else plain


def _pieces(text: str, width: int) -> list[str]:
    """A long text in pieces of whole words that give it back when joined."""
    pieces = [""]
    for word in re.findall(r"\s*\S+\s*$|\s*\S+(?=\s)|\s+$", text) or [text]:
        if pieces[-1] and len(pieces[-1]) + len(word) > width:
            pieces.append("")
        pieces[-1] += word
    return pieces


def _comment(text: str, indent: str = "") -> str:
    lines = []
    for line in text.split("\n"):
        lines += [line] if line.startswith(" ") else textwrap.wrap(line, WIDTH - len(indent) - 2)
    return "\n".join(f"{indent}# {line}" for line in lines)


@cache
def field_comments(kind: type) -> dict[str, str]:
    """What the source of a dataclass says behind or above each of its fields."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if comment := re.match(r"    #:? ?(.*)", line):
            above.append(comment[1])
            continue
        if declared := re.match(r"    (\w+): [^#]*(?:#\s*(.+))?$", line):
            said = declared[2] or " ".join(above)
            if said:
                found[declared[1]] = said
        above = []
    return found
