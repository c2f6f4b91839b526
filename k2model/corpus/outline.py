"""What a module's syntax tree says about its text: the docstrings, and the lines where definitions start.

Prose and code both need it, so a module is parsed once and its tree, which is far larger than the
text, is let go.
"""

import ast
import inspect
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from k2model.corpus.standard_library import Module


class Outline(NamedTuple):
    docstrings: list[str]  # of the module, its classes and functions in order, dedented
    statements: list[int]  # 0-based first lines of the top-level statements, decorators included
    members: list[int]  # the same of the statements in top-level classes


@cache
def outline(module: Module) -> Outline:
    """Raises `SyntaxError` when the module is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old modules
        tree = ast.parse(module.text)
    members = [node for body in tree.body if isinstance(body, ast.ClassDef) for node in body.body]
    return Outline(_docstrings(tree), _starts(tree.body), _starts(members))


def _docstrings(tree: ast.Module) -> list[str]:
    found = (ast.get_docstring(node, clean=False) for node in (tree, *_definitions(tree.body)))
    return [inspect.cleandoc(text) for text in found if text]


def _definitions(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions among the statements and inside them, in order of their lines."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        for name in ("body", "handlers", "orelse", "finalbody"):
            yield from _definitions(getattr(node, name, ()))


def _starts(nodes: Sequence[ast.stmt]) -> list[int]:
    decorators = (getattr(node, "decorator_list", []) for node in nodes)
    pairs = zip(nodes, decorators, strict=True)
    return sorted({min([node.lineno, *(d.lineno for d in above)]) - 1 for node, above in pairs})
