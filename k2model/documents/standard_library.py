"""Which modules of the running Python's standard library are read, and from where.

Left out: tests, bundled wheels, platform build data, and files that are tables rather than text
(codec maps, generated data). One module is one origin: all its text, code and docstrings alike,
falls on one side of the held-out split.

What a module's syntax tree says about its text: the docstrings, and the lines where definitions start.

Prose and code both need it, so a module is parsed once and its tree, which is far larger than the
text, is let go.
"""

import ast
import hashlib
import inspect
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

LICENCE = "PSF-2.0"
MAX_MODULE_BYTES = 250_000
_SKIPPED_FOLDERS = {
    "__pycache__", "ensurepip", "lib-dynload", "idle_test", "pydoc_data", "site-packages", "dist-packages",
    "test", "tests", "encodings", "turtledemo", "lib2to3", "idlelib",
}  # fmt: skip
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-", "__phello__", "__hello__", "this.py", "antigravity.py")


class Module(NamedTuple):
    name: str  # dotted
    text: str


@lru_cache(maxsize=1)
def modules() -> tuple[Module, ...]:
    """The source of every module read, by name. The order is that of the names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = (path for path in root.rglob("*.py") if _is_read(path.relative_to(root)))
    texts = {_dotted(path.relative_to(root)): _text(path) for path in paths}
    return tuple(Module(name, text) for name, text in sorted(texts.items()) if text)


def digest() -> str:
    """sha256 over all that is read here: two distributions of one Python version may differ."""
    from pydoc_data.topics import topics

    state = hashlib.sha256()
    for name, text in (*modules(), *sorted(topics.items())):
        state.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def _is_read(path: Path) -> bool:
    if any(part in _SKIPPED_FOLDERS for part in path.parts[:-1]):
        return False
    return not any(part.startswith(_SKIPPED_PREFIXES) for part in path.parts)


def _text(path: Path) -> str:
    """The file's text; empty when it is too large or not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8") if len(content) <= MAX_MODULE_BYTES else ""
    except UnicodeDecodeError:
        return ""


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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
